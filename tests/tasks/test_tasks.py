"""`python -m tasks`: one list of tasks for every system, and `make` as a short way to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import ddim
from tasks import running, venv, versions
from tasks.__main__ import main
from tasks.release import changes
from tasks.steps import clean, link_for_types
from tasks.table import TASKS, Task
from tasks.versions import lower_bounds

ROOT = Path(__file__).resolve().parents[2]
FAST = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for the interpreter is a link")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository, in a folder whose name has a space, with a virtual environment that is this interpreter."""
    root = tmp_path / "a folder - with spaces"
    root.mkdir()
    for name in venv.LISTS:
        (root / name).write_text("")
    python = venv.interpreter(root)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return root


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip was asked for, with nothing installed."""
    asked: list[list[str]] = []

    def pretend(command: list[str], *, cwd: Path, check: bool) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(venv.subprocess, "run", pretend)
    return asked


def add_task(monkeypatch: pytest.MonkeyPatch, *steps: object, needs: str = "") -> None:
    monkeypatch.setitem(TASKS, "trial", Task("trial", "a trial", "", steps, needs, "a trial"))  # type: ignore[arg-type]


def test_the_list_has_one_line_for_each_task() -> None:
    listed = subprocess.run([sys.executable, "-m", "tasks", "--list"], cwd=ROOT, capture_output=True, text=True)
    lines = listed.stdout.splitlines()
    assert listed.returncode == 0 and [line.split()[0] for line in lines] == list(TASKS)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert all(task.set_up in {"", *venv.SETUPS} for task in TASKS.values())


def test_the_table_needs_nothing_but_the_standard_library() -> None:
    """It runs before anything is installed: with no site-packages at all."""
    listed = subprocess.run([sys.executable, "-S", "-m", "tasks", "--names"], cwd=ROOT, capture_output=True, text=True)
    assert listed.stdout.split() == list(TASKS), listed.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_has_every_task_and_defines_none() -> None:
    shown = subprocess.run(["make", "-pnRrq", "demo"], cwd=ROOT, capture_output=True, text=True).stdout
    (phony,) = [line for line in shown.splitlines() if line.startswith(".PHONY:")]
    assert phony.split()[1:] == list(TASKS)
    assert (ROOT / "Makefile").read_text().count("-m tasks $@") == 1


def test_the_interpreter_lies_where_each_system_puts_it(tmp_path: Path) -> None:
    assert venv.interpreter(tmp_path, windows=False) == tmp_path / ".venv" / "bin" / "python"
    assert venv.interpreter(tmp_path, windows=True) == tmp_path / ".venv" / "Scripts" / "python.exe"
    command = venv.pip_command(tmp_path, "host,test", windows=True)
    assert command[0].endswith("python.exe") and command[-2:] == ["--editable", ".[host,test]"]


def test_a_set_up_is_done_once_and_again_when_the_lists_change(folder: Path, installed: list[list[str]]) -> None:
    assert venv.set_up(folder, "host") == 0
    assert [command[-1] for command in installed] == [".", ".[host]"]
    assert venv.set_up(folder, "host") == 0 and len(installed) == 2
    assert venv.set_up(folder, "lint") == 0
    assert [command[-1] for command in installed[2:]] == [".[lint,docs]"]
    later = time.time() + 5
    os.utime(folder / "pyproject.toml", (later, later))
    for stamp in (".base", ".host"):  # so that the order does not depend on the clock's resolution
        os.utime(folder / ".venv" / stamp, (later - 9, later - 9))
    assert venv.is_stale(folder / ".venv" / ".base", [folder / "pyproject.toml"])
    assert venv.set_up(folder, "host") == 0
    assert [command[-1] for command in installed[3:]] == [".", ".[host]"]


def test_a_set_up_that_fails_leaves_no_stamp(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 7))
    assert venv.set_up(folder, "host") == 7
    assert not (folder / ".venv" / ".base").exists()


def test_a_task_without_packages_makes_no_environment(tmp_path: Path) -> None:
    assert main(["clean"], tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


@FAST
def test_the_exit_code_is_that_of_the_step_that_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def step(name: str) -> Callable[[Path, Sequence[str]], int]:
        def note(root: Path, arguments: Sequence[str]) -> int:
            ran.append(f"{name} {list(arguments)}")
            return 0

        return note

    add_task(monkeypatch, step("first"), ("-c", "import sys; sys.exit(5)"), step("never"))
    assert main(["trial", "-x", "more"], folder) == 5
    assert ran == ["first []"]
    add_task(monkeypatch, step("first"), step("last"))
    assert main(["trial", "-x", "more"], folder) == 0
    assert ran[-2:] == ["first []", "last ['-x', 'more']"]


@FAST
def test_a_command_runs_in_the_repository_with_the_arguments_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    add_task(monkeypatch, ("-c", "import os, sys; print(os.getcwd(), sys.argv[1:])"))
    assert main(["trial", "two words", "$HOME", "--list"], folder) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[0].startswith(".venv/bin/python -c ")
    assert shown[1] == f"{folder} {['two words', '$HOME', '--list']}"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_request_to_end_reaches_the_command() -> None:
    child = "import time; print('ready', flush=True); time.sleep(60)"
    imports = "import sys; from pathlib import Path; from tasks.running import run"
    command = f"{imports}\nsys.exit(run([sys.executable, '-c', {child!r}], Path('.')))"
    with subprocess.Popen([sys.executable, "-c", command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "ready":
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM


def test_the_code_of_a_command_that_a_signal_ended() -> None:
    assert [running.exit_code(each) for each in (0, 3, -9)] == [0, 3, 137]


def test_an_unknown_task_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["tset"])
    assert refused.value.code == 2
    assert "did you mean 'test'" in capsys.readouterr().err


def test_a_task_says_which_variable_it_misses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    assert main(["test-comfyui"]) == 2
    assert "COMFYUI_PATH: the folder of a ComfyUI checkout" in capsys.readouterr().err


def test_clean_removes_what_runs_have_written_and_nothing_else(folder: Path) -> None:
    (folder / "output").mkdir()
    (folder / "output" / "picture.png").touch()
    assert clean(folder, []) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(venv.LISTS)


def test_the_repository_is_linked_for_the_type_check(folder: Path) -> None:
    assert link_for_types(folder, []) == link_for_types(folder, []) == 0
    assert (folder / ".venv" / "types" / "pack").resolve() == folder


def test_the_oldest_libraries_are_the_lower_bounds_of_the_list() -> None:
    assert lower_bounds("# why\ntorch>=2.5\nnumpy>=1.24  # because\n\n") == ["torch==2.5", "numpy==1.24"]
    names = [each.partition("==")[0] for each in lower_bounds((ROOT / "requirements.txt").read_text())]
    assert names == ["torch", "numpy", "safetensors"]
    with pytest.raises(ValueError, match="NAME>=VERSION"):
        lower_bounds("torch\n")


def test_tests_with_other_libraries_have_an_environment_of_their_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(versions, "run", lambda command, root: ran.append(list(command)) or 0)
    monkeypatch.setattr(versions, "make_environment", lambda root, name: (root / name).mkdir(exist_ok=True))
    (folder / "requirements.txt").write_text("torch>=2.5\n")
    for _ in range(2):
        assert versions.run_oldest(folder, ["-x"]) == 0
    python = str(venv.interpreter(folder, folder=".venv-oldest"))
    assert [command[1:3] for command in ran] == [["-m", "pip"], ["-m", "pytest"], ["-m", "pytest"]]
    assert {command[0] for command in ran} == {python} and "torch==2.5" in ran[0]
    assert ran[1][-2:] == ["tests/core", "-x"]


def test_a_release_says_what_is_new() -> None:
    text = "# Changelog\n\n## Unreleased\n\n- a\n\n## 0.2.0\n\n- b\n- c\n\n## 0.1.0\n\n"
    assert changes(text, "0.2.0") == "- b\n- c"
    for missing in ("0.1.0", "0.3.0"):
        with pytest.raises(ValueError, match=f"## {missing}"):
            changes(text, missing)


def test_a_tag_must_name_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["release", f"v{ddim.__version__}"]) == 0
    assert main(["release", "v99.0.0"]) == 2
    assert f"must be v{ddim.__version__}" in capsys.readouterr().err
