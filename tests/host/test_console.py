"""What a command says beside its errors and results: help, version, what takes long, and how to silence it."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host.cli import commands, main
from host.cli.console import told_if_slow
from host.sweep.planning import PlanError, make_plan
from host.workflows import Workflow
from tests.host.conftest import node

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("run", "serve", "verify")


def help_of(capsys, *command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_ends_with_examples_that_are_commands_and_with_exit_codes(capsys, monkeypatch, command):
    monkeypatch.chdir(ROOT)
    text = help_of(capsys, *command)
    examples = [shlex.split(line)[3:] for line in text.splitlines() if line.startswith("  python -m host ")]
    assert len(examples) >= 2
    for arguments in examples:
        args = commands._parser(arguments).parse_args(arguments)
        assert args.command in (command or COMMANDS)
        files = [argument for argument in arguments if argument.startswith("example_workflows/")]
        assert all(Path(file).is_file() for file in files)
    assert re.search(r"^exit codes:\n  0    \w", text, re.MULTILINE)


def test_help_and_version_load_no_torch():
    program = f"""
import contextlib, sys
from host.cli import main
for arguments in ([], *([name] for name in {COMMANDS})):
    with contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
assert main(["--version"]) == 0
assert not {{"torch", "numpy", "aiohttp"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    from ddim import __version__

    assert re.fullmatch(
        rf"ddim-nodes {re.escape(__version__)}, Python 3\.\S+, torch 2\.\S+", done.stdout.splitlines()[-1]
    )


def test_what_is_slow_is_told_while_it_lasts(monkeypatch):
    monkeypatch.setattr("sys.stderr", stderr := io.StringIO())
    with told_if_slow("loading ...", 0.01):
        deadline = time.monotonic() + 60
        while not stderr.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stderr.getvalue() == "loading ...\n"
    with told_if_slow("never", 3600):
        pass
    assert stderr.getvalue() == "loading ...\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_command_says_that_it_loads_before_it_has_loaded(monkeypatch, tmp_path, quiet):
    """The command's module is one that is loading until the user is told of it, or for two seconds."""
    (tmp_path / "slow_command.py").write_text(
        "import sys, time\n"
        "end = time.monotonic() + (2 if '--quiet' in sys.argv else 60)\n"
        "while not sys.stderr.getvalue() and time.monotonic() < end:\n"
        "    time.sleep(0.01)\n"
        "def call(args):\n"
        "    return 0\n"
    )
    options = ["graph.json", *(["--quiet"] if quiet else [])]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_command", raising=False)
    monkeypatch.setattr("sys.argv", ["host", "run", *options])
    monkeypatch.setitem(commands._COMMANDS, "run", commands._COMMANDS["run"]._replace(module="slow_command"))
    monkeypatch.setattr("sys.stderr", stderr := io.StringIO())
    assert main() == 0
    assert re.fullmatch("" if quiet else r"loading torch \.\.\.\nfinished in \d+\.\d s\n", stderr.getvalue())


def test_a_quiet_run_writes_files_and_errors_alone(run):
    picture = {
        "2": node("ToyImage", grey=0.5, size=8, count=1),
        "3": node("SaveImage", images=["2", 0], filename_prefix="quiet"),
    }
    code, out, err = run({"1": node("ToySteps", steps=3), "4": node("ToyShow", value=["1", 0]), **picture}, "--quiet")
    assert (code, err, len(out.splitlines())) == (0, "", 1)
    code, _, err = run({**picture, "4": node("ToyFail", value=1.0), "5": node("ToyShow", value=["4", 0])}, "--quiet")
    assert (code, err) == (1, "error: node 4 (ToyFail) raised ValueError: toy cannot take 1.0\n")
    code, _, err = run({"3": node("ToyNope")}, "--quiet")
    assert code == 2 and "no class 'ToyNope' is known" in err


def test_a_plan_tells_no_time(run):
    graph = {
        "1": node("ToyImage", grey=0.5, size=8, count=1),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    code, _, err = run(graph, "--dry-run")
    assert code == 0 and "finished" not in err


def test_what_cannot_run_names_the_examples_that_can(registry, folders, tmp_path):
    examples = tmp_path / "pack" / "example_workflows"
    examples.mkdir(parents=True)
    runs = {
        "1": node("ToyImage", grey=0.5, size=8, count=1),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    runs_not = {"nodes": [{"id": 1, "type": "KSampler"}], "links": []}
    for name, content in {"b": runs, "a": runs, "needs_more": runs_not, "broken": [1]}.items():
        (examples / f"{name}.json").write_text(json.dumps(content))
    known = dataclasses.replace(registry, pack_directories={"pack": tmp_path / "pack"})
    unknown = Workflow({"1": node("KSampler")}, {})
    with pytest.raises(PlanError, match=r"\n  examples that run here, in example_workflows/: a, b$"):
        make_plan(unknown, "mine", [], known, folders)
    with pytest.raises(PlanError) as refused:
        make_plan(unknown, "mine", [], dataclasses.replace(known, is_described=True), folders)
    assert "examples" not in str(refused.value) and "in the ComfyUI that runs the jobs" in str(refused.value)
