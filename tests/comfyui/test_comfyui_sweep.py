"""Sweeps through a real ComfyUI, by the whole command: `python -m host run ... --engine ...`. COMFYUI_PATH names it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from host.engines.comfyui import ComfyUIEngine
from host.engines.spec import EngineSpec
from tests.server.support import graph, make_pack

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
STOCK = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 0}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "stock"}},
}


@pytest.fixture
def start(comfyui_path: Path, comfyui_python: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m host run` with a workflow and options."""
    started = []

    def run(workflow: Any, *options: str, comfyui: bool = True) -> subprocess.Popen[str]:
        file = tmp_path / "flow.json"
        file.write_text(json.dumps(workflow))
        engine = [f"--engine=comfyui:{comfyui_path}", f"--engine-python={comfyui_python}", "--engine-argument=--cpu"]
        command = [sys.executable, "-m", "host", "run", str(file), "--output-directory", str(tmp_path / "out")]
        command += [*(engine if comfyui else ()), *options]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """What a command printed, after it has ended with this code."""
    out, errors = process.communicate(timeout=1000)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{errors}"
    return out, errors


def sweep_folder(tmp_path: Path) -> Path:
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    (tmp_path / "out").rename(tmp_path / f"done-{time.monotonic_ns()}")
    return next(path / folder.name for path in tmp_path.glob("done-*") if (path / folder.name).is_dir())


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png")) if path.name != "sheet.png"}


def left_running(tmp_path: Path) -> list[str]:
    """The command lines of processes that were started for this test and still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(tmp_path) in command:
            found.append(command)
    return found


def test_stock_nodes_on_two_workers_give_what_one_gives(start: Callable[..., Any], tmp_path: Path) -> None:
    colors = [0, 255, 65280, 16711680, 8421504]
    option = f"EmptyImage.color={','.join(map(str, colors))}"
    found = []
    for workers in ("1", "2"):
        finish(start(STOCK, "--set", option, "--workers", workers))
        folder = sweep_folder(tmp_path)
        found.append(pictures(folder))
        assert (folder / "sheet.png").is_file() and (folder / "sweep.json").is_file()
        folder.parent.rename(tmp_path / f"kept-{workers}")
        assert left_running(tmp_path) == []
    assert found[0] == found[1] and len(found[0]) == len(colors)
    for data, color in zip(found[0].values(), colors, strict=True):
        inverted = tuple(255 - (color >> shift & 255) for shift in (16, 8, 0))
        found_color = Image.open(io.BytesIO(data)).getpixel((3, 3))
        assert all(abs(left - right) <= 1 for left, right in zip(found_color, inverted, strict=True))  # it rounds down


def test_an_example_of_this_pack_in_the_editors_format(start: Callable[..., Any], tmp_path: Path) -> None:
    workflow = json.loads((ROOT / "example_workflows/Start here - digits.json").read_text())
    finish(start(workflow, "--set", "DDIMSchedule.steps=2..4", "--set", "DDIMSample.seed=1,2", "--workers", "2"))
    made = pictures(sweep_folder(tmp_path))
    assert len(made) == 6 and len(set(made.values())) == 6
    for name, data in made.items():
        assert data.startswith(b"\x89PNG") and b"made_with" in data, name


def test_every_problem_is_told_before_anything_runs(start: Callable[..., Any], tmp_path: Path) -> None:
    _, errors = finish(start(STOCK, "--set", "EmptyImage.width=8,0,-1", "--set", "EmptyImage.height=16,x"), 2)
    assert "smaller than min" in errors and "whole number" in errors
    assert not list(tmp_path.glob("out/*/*.png")) and left_running(tmp_path) == []
    unknown = {**STOCK, "9": {"class_type": "NoSuchNode", "inputs": {}}}
    _, errors = finish(start(unknown, "--set", "EmptyImage.width=8,16"), 2)
    assert "NoSuchNode" in errors


def test_input_files_go_along(start: Callable[..., Any], tmp_path: Path) -> None:
    inputs = tmp_path / "pictures"
    (inputs / "more").mkdir(parents=True)
    for name, level in (("a.png", 10), ("more/b.png", 200)):
        Image.new("RGB", (16, 16), (level, 0, 0)).save(inputs / name)
    workflow = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    finish(start(workflow, "--set", "LoadImage.image=a.png,more/b.png", "--input-directory", str(inputs)))
    folder = sweep_folder(tmp_path)
    levels = [Image.open(folder / name).getpixel((0, 0)) for name in sorted(pictures(folder))]
    assert levels == [(10, 0, 0), (200, 0, 0)]


def test_two_that_run_already_are_a_pool(
    start: Callable[..., Any], comfyui_path: Path, comfyui_python: str, tmp_path: Path
) -> None:
    pack = make_pack(tmp_path / "packs")
    spec = EngineSpec("comfyui", str(comfyui_path), comfyui_python, ("--cpu",), (str(ROOT), str(pack)))
    servers = []
    try:
        for index in range(2):
            (tmp_path / f"own {index}").mkdir()
            servers.append(ComfyUIEngine(spec, tmp_path / f"own {index}", f"server {index}"))
        addresses = [f"--engine={server._server._client.address}" for server in servers]  # type: ignore[union-attr]
        workflow = graph(steps=5, seconds=0.05)
        finish(start(workflow, "--set", "ToyPicture.level=0,0.25,0.5,0.75,1", *addresses, comfyui=False))
        folder = sweep_folder(tmp_path)
        levels = [Image.open(folder / name).getpixel((0, 0))[0] for name in sorted(pictures(folder))]
        assert levels == [0, 63, 127, 191, 255]
        report = json.loads((folder / "sweep.json").read_text())
        assert len(json.dumps(report)) > 100
        for server in servers:  # both go on
            assert server.environment()["devices"] == ["cpu"]
    finally:
        for server in servers:
            server.close()


def test_one_that_is_killed_costs_no_job(start: Callable[..., Any], tmp_path: Path) -> None:
    workflow = json.loads((ROOT / "example_workflows/Start here - digits.json").read_text())
    process = start(workflow, "--set", "DDIMSample.seed=0..7", "--set", "DDIMSchedule.steps=10", "--workers", "2")
    end = time.monotonic() + 600
    while not (killable := comfyuis(tmp_path)) or not list(tmp_path.glob("out/*/0*.png")):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(killable[0], signal.SIGKILL)
    finish(process)
    assert len(pictures(sweep_folder(tmp_path))) == 8
    assert left_running(tmp_path) == []


def comfyuis(tmp_path: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[1:2] == ["main.py"] and any(str(tmp_path) in word for word in words):
            found.append(int(entry.name))
    return found


def test_ctrl_c_stops_between_steps_and_leaves_nothing(start: Callable[..., Any], tmp_path: Path) -> None:
    workflow = json.loads((ROOT / "example_workflows/Start here - digits.json").read_text())
    process = start(workflow, "--set", "DDIMSample.seed=0..99", "--set", "DDIMSchedule.steps=20", "--workers", "2")
    end = time.monotonic() + 600
    while not list(tmp_path.glob("out/*/0*.png")):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    finish(process, 130)
    end = time.monotonic() + 60
    while left_running(tmp_path):
        assert time.monotonic() < end, left_running(tmp_path)
        time.sleep(0.1)
