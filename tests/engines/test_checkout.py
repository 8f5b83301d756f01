"""What starts a ComfyUI, without one: the command line, linked packs, the supervisor, model files, written files."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host.engines.checkout import supervisor
from host.engines.checkout.layout import (
    checkout_of,
    command_line,
    environment_variables,
    interpreter_of,
    prepare_folder,
)
from host.engines.checkout.model_files import ModelFiles
from host.engines.checkout.process import ComfyUIProcess
from host.engines.checkout.written_files import WrittenFiles
from host.engines.contract import EngineError
from host.engines.spec import EngineSpec
from host.execution.shown_files import ShownFile

posix = pytest.mark.skipif(os.name != "posix", reason="processes are counted through /proc")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a ComfyUI as is read before it is started."""
    folder = tmp_path / "ComfyUI"
    for name in ("comfy", "custom_nodes", "models/checkpoints", "models/loras/style"):
        (folder / name).mkdir(parents=True)
    (folder / "main.py").write_text("")
    (folder / "comfy/cli_args.py").write_text('"--database-url" "--deterministic"')
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "my pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}")
    (folder / "pyproject.toml").write_text('[project]\nname = "my-pack"\n')
    return folder


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)


# -- layout


@pytest.mark.parametrize("address", ["", "nowhere", "."])
def test_a_folder_without_a_comfyui_is_a_sentence(address: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"expected a folder with main\.py and comfy/"):
        checkout_of(EngineSpec("comfyui", str(tmp_path / address)))


def test_the_interpreter_is_named_or_the_checkouts_own(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    assert Path(interpreter_of(EngineSpec("comfyui"), checkout)).name.startswith("python")
    own = checkout / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable)
    assert interpreter_of(EngineSpec("comfyui"), checkout) == str(own)
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    assert interpreter_of(EngineSpec("comfyui"), checkout) == sys.executable
    with pytest.raises(EngineError, match="there is no Python interpreter /no/such/python"):
        interpreter_of(EngineSpec("comfyui", python="/no/such/python"), checkout)


def test_the_command_line_keeps_everything_in_the_private_folder(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "private"
    spec = EngineSpec("comfyui", str(checkout), sys.executable, ("--cpu",), exact=True)
    command = command_line(spec, checkout, folder, 8199)
    assert command[:2] == [sys.executable, "main.py"] and command[-1] == "--cpu"
    assert command[command.index("--listen") + 1] == "127.0.0.1" and command[command.index("--port") + 1] == "8199"
    for name in ("input", "output", "user"):
        assert command[command.index(f"--{name}-directory") + 1] == str(folder / name)
    assert "--base-directory" not in command and "--deterministic" in command
    assert command[command.index("--database-url") + 1] == "sqlite:///:memory:"
    (checkout / "comfy/cli_args.py").write_text("")
    assert not {"--deterministic", "--database-url"} & set(command_line(spec, checkout, folder, 8199))


def test_threads_and_the_gpu_reach_it_but_not_where_packages_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    variables = environment_variables(EngineSpec("comfyui", threads=2))
    assert variables["OMP_NUM_THREADS"] == "2" and variables["CUDA_VISIBLE_DEVICES"] == "3"
    assert "PYTHONPATH" not in variables


def test_packs_are_linked_in_once(checkout: Path, pack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "private"
    for _ in range(2):
        prepare_folder(folder, checkout, [pack])
    assert (folder / "custom_nodes/my pack").resolve() == pack
    config = json.loads((folder / "extra_paths.yaml").read_text())
    assert config == {"linked_packs": {"custom_nodes": str(folder / "custom_nodes")}}


@pytest.mark.parametrize("how", ["link", "copy"])
def test_a_pack_that_is_installed_is_not_linked_in(how: str, checkout: Path, pack: Path, tmp_path: Path) -> None:
    installed = checkout / "custom_nodes/any-name"
    if how == "link":
        installed.symlink_to(pack)
    else:
        installed.mkdir()
        (installed / "pyproject.toml").write_text('[project]\nname = "my-pack"\n')
    prepare_folder(tmp_path / "private", checkout, [pack])
    assert list((tmp_path / "private/custom_nodes").iterdir()) == []
    installed.rename(installed.with_name("any-name.disabled"))
    prepare_folder(tmp_path / "other", checkout, [pack])
    assert [path.name for path in (tmp_path / "other/custom_nodes").iterdir()] == ["my pack"]


# -- processes

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(0, flush=True); time.sleep(600)"


def supervised(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-S", supervisor.__file__, sys.executable, "-c", code]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@posix
@pytest.mark.parametrize("how", ["close", "terminate", "kill the program"])
def test_the_end_takes_everything_along(how: str) -> None:
    with supervised(FAMILY) as process:
        assert process.stdin is not None and process.stdout is not None
        grandchild = int(process.stdout.readline())
        (child,) = children_of(process.pid)
        if how == "close":
            process.stdin.close()
        elif how == "terminate":
            process.terminate()
        else:
            os.kill(child, signal.SIGKILL)
        code = process.wait(60)
        wait_for(lambda: not lives(child) and not lives(grandchild))
    assert code == 128 + (signal.SIGKILL if how == "kill the program" else signal.SIGTERM)


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@posix
def test_a_program_that_does_not_want_to_end_is_killed() -> None:
    with supervised(DEAF) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        process.stdin.close()
        assert process.wait(60) == 128 + signal.SIGKILL


@posix
@pytest.mark.skipif(sys.platform != "linux", reason="the system ends the child of a killed parent on Linux only")
def test_a_killed_supervisor_leaves_no_program() -> None:
    with supervised(FAMILY) as process:
        assert process.stdin is not None and process.stdout is not None
        grandchild = int(process.stdout.readline())
        (child,) = children_of(process.pid)
        process.kill()
        wait_for(lambda: not lives(child))
        os.kill(grandchild, signal.SIGKILL)  # nobody is left to end what the program started


@posix
def test_the_exit_code_is_the_programs(tmp_path: Path) -> None:
    for code, words in (("raise SystemExit(7)", "exit code 7"), ("import os; os.abort()", "signal SIGABRT")):
        command = [sys.executable, "-c", f"print('said')\n{code}"]
        process = ComfyUIProcess(command, tmp_path, dict(os.environ), tmp_path / "log")
        with pytest.raises(EngineError, match=f"did not start: it ended with {words}"):
            process.wait_until(lambda: False)
        process.stop()
        process.stop()


@posix
def test_a_failed_start_tells_the_last_lines(tmp_path: Path) -> None:
    code = "for i in range(100): print('line', i)\nprint('\\x1b[31mred\\xff' * 500)\nraise SystemExit(1)"
    process = ComfyUIProcess([sys.executable, "-c", code], tmp_path, dict(os.environ), tmp_path / "log")
    with pytest.raises(EngineError) as caught:
        process.wait_until(lambda: False)
    process.stop()
    assert "line 99" in str(caught.value) and "line 50\n" not in str(caught.value) and len(str(caught.value)) < 10_000


# -- files


def test_model_files_are_found_by_their_names(checkout: Path) -> None:
    content = b"weights" * 1000
    path = checkout / "models/loras/style/a.safetensors"
    path.write_bytes(content)
    (checkout.parent / "secret.safetensors").write_bytes(b"not a model")
    models = ModelFiles(checkout / "models")
    prompt = {
        "1": {"class_type": "Loader", "inputs": {"name": "style/a.safetensors", "text": "a cat", "link": ["2", 0]}},
        "2": {"class_type": "Loader", "inputs": {"name": "elsewhere.ckpt", "other": "../../../secret.safetensors"}},
        "3": {"class_type": "Loader", "inputs": {"name": str(checkout.parent / "secret.safetensors")}},
        "4": 5,
    }
    digest = hashlib.sha256(content).hexdigest()
    found = models.of(prompt)
    assert found["style/a.safetensors"] == digest
    assert {digest for name, digest in found.items() if name != "style/a.safetensors"} == {""} and len(found) == 4
    path.write_bytes(b"others")
    assert models.of(prompt)["style/a.safetensors"] == hashlib.sha256(b"others").hexdigest()


def test_old_files_are_deleted_and_inputs_are_not(tmp_path: Path) -> None:
    for name in ("output/deep", "temp", "input"):
        (tmp_path / name).mkdir(parents=True)
    written = WrittenFiles(tmp_path)
    written.keep(["always.png [output]"])
    (tmp_path / "output/always.png").write_bytes(b"")

    def job(*names: str) -> None:
        files = []
        for name in names:
            folder, _, filename = name.rpartition("/")
            kind, _, subfolder = folder.partition("/")
            (tmp_path / name).write_bytes(b"")
            files.append(ShownFile(filename, subfolder, kind))
        written.add(files)

    job("output/deep/first.png", "temp/first.png", "output/always.png")
    written.add([ShownFile("../../x", "..", "output")])
    for index in range(300):
        job(f"output/{index}.png", "output/cached.png")
    assert not (tmp_path / "output/deep/first.png").exists() and not (tmp_path / "temp/first.png").exists()
    left = {path.name for path in (tmp_path / "output").glob("*.png")}
    assert {"always.png", "cached.png", "299.png"} < left and 90 < len(left) < 110 and "0.png" not in left
