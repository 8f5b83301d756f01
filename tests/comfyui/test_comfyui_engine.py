"""A real ComfyUI as an engine: started, used, stopped, killed. COMFYUI_PATH names it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from host.engines.comfyui import ComfyUIEngine
from host.engines.contract import EngineError, EngineLost, Job
from host.engines.embedded import EmbeddedEngine
from host.engines.http import HttpEngine
from host.engines.object_info import registry_from
from host.engines.picture_metadata import made_with, read_texts
from host.engines.spec import EngineSpec
from host.validation import validate
from host.workflows import read_workflow
from tests.engines.servers import Background, Heard, loading_graph, silent
from tests.server.support import graph, make_pack

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
STOCK = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 2, "color": 0x204060}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "stock"}},
    "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


@pytest.fixture(scope="module")
def toy_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def spec(comfyui_path: Path, comfyui_python: str, toy_pack: Path) -> EngineSpec:
    packs = (str(ROOT), str(toy_pack))
    return EngineSpec("comfyui", str(comfyui_path), comfyui_python, ("--cpu",), packs)


@pytest.fixture(scope="module")
def engine(spec: EngineSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUIEngine]:
    engine = ComfyUIEngine(spec, tmp_path_factory.mktemp("engine"), "comfyui 1")
    yield engine
    engine.close()


def processes_with(text: str) -> list[int]:
    """The processes whose command line holds a text, but for this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in command and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("the condition did not become true")


def comfyui_of(folder: Path) -> int:
    """The process of the ComfyUI that an engine with this folder started."""
    pids = [pid for pid in processes_with(str(folder)) if b"supervisor.py" not in command_of(pid)]
    (pid,) = pids
    return pid


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


# -- workflows


def test_a_workflow_of_stock_nodes_runs(engine: ComfyUIEngine) -> None:
    heard = Heard()
    result = engine.run(Job("stock", STOCK), heard)
    assert (result.status, result.error) == ("success", None)
    assert [(file.node_id, file.position, file.type) for file in result.files] == [
        ("3", 0, "output"),
        ("3", 1, "output"),
        ("4", 0, "temp"),
        ("4", 1, "temp"),
    ]
    assert Image.open(io.BytesIO(result.files[0].data)).getpixel((3, 3)) == (255 - 0x20, 255 - 0x40, 255 - 0x60)
    assert json.loads(read_texts(result.files[0].data)["prompt"]) == STOCK
    assert heard.events[0][0] == "execution_start" and heard.events[-1][0] == "execution_success"
    assert {data["prompt_id"] for _, data in heard.events} == {"stock"}


def test_the_same_job_gives_the_same_bytes_whatever_ran_before(engine: ComfyUIEngine) -> None:
    first = engine.run(Job("a", STOCK), silent)
    other = json.loads(json.dumps(STOCK))
    other["1"]["inputs"]["color"] = 7
    engine.run(Job("b", other), silent)
    again, cached = engine.run(Job("c", STOCK), silent), engine.run(Job("d", STOCK), silent)
    for result in (again, cached):
        assert [file.data for file in result.files] == [file.data for file in first.files]
        assert result.digest == first.digest


def test_a_cached_picture_carries_the_prompt_of_its_own_job(engine: ComfyUIEngine) -> None:
    prompt = json.loads(json.dumps(STOCK))
    prompt["4"]["_meta"] = {"title": "another title"}
    result = engine.run(Job("a", prompt), silent)
    assert json.loads(read_texts(result.files[0].data)["prompt"]) == prompt


def test_pictures_say_what_made_them(engine: ComfyUIEngine, spec: EngineSpec) -> None:
    (file, *_) = engine.run(Job("a", STOCK), silent).files
    facts = made_with(read_texts(file.data))
    assert facts is not None and facts["environment"] == engine.environment()
    assert facts["environment"]["engine"] == "comfyui" and facts["environment"]["threads"] == 1
    assert facts["environment"]["devices"] == ["cpu"] and facts["environment"]["processor"]["name"]
    assert str(spec.address) not in str(facts) and "/" not in str(facts["environment"])


def test_an_example_workflow_of_this_pack_runs_and_is_the_embedded_engines_picture(
    engine: ComfyUIEngine, tmp_path: Path
) -> None:
    registry = registry_from(engine.object_info())
    workflow = read_workflow(ROOT / "example_workflows/Start here - digits.json", registry)
    checked = validate(workflow.prompt, registry)
    assert checked.ok, checked
    result = engine.run(Job("digits", checked.prompt), silent)
    assert result.status == "success", result.error
    kept = [file for file in result.files if file.type == "output"]
    here = EmbeddedEngine(EngineSpec(), tmp_path, "here")
    ours = [file for file in here.run(Job("digits", checked.prompt), silent).files if file.type == "output"]
    here.close()
    assert len(kept) == len(ours) > 0
    for theirs, own in zip(kept, ours, strict=True):
        pictures = [Image.open(io.BytesIO(file.data)).convert("RGB") for file in (theirs, own)]
        assert pictures[0].size == pictures[1].size
        # Two versions of torch may round differently; the picture is the same to the eye.
        pairs = zip(pictures[0].tobytes(), pictures[1].tobytes(), strict=True)
        assert max(abs(left - right) for left, right in pairs) <= 3


def test_inputs_are_uploaded(engine: ComfyUIEngine) -> None:
    levels = {"mine.png": 50, "folder/mine.png": 150, "made.png [output]": 250}
    for name, level in levels.items():
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (level, 0, 0)).save(buffer, "PNG")
        engine.put_inputs({name: buffer.getvalue()})
        result = engine.run(Job("a", loading_graph(name)), silent)
        assert result.status == "success", result.error
        assert Image.open(io.BytesIO(result.files[0].data)).getpixel((0, 0)) == (level, 0, 0)


def test_progress_and_previews_arrive(engine: ComfyUIEngine) -> None:
    heard = Heard()
    result = engine.run(Job("a", graph(0.5, steps=4, seconds=0.05, mark="previews")), heard)
    assert result.status == "success", result.error
    assert [data["value"] for data in heard.of("progress")] == [1, 2, 3, 4]
    previews = heard.of("preview")
    assert previews and {(each["node_id"], each["prompt_id"]) for each in previews} == {("2", "a")}
    assert previews[0]["image"].mode == "RGB"


def test_errors_are_sentences(engine: ComfyUIEngine) -> None:
    bad = json.loads(json.dumps(STOCK))
    bad["1"]["inputs"]["width"] = 0
    result = engine.run(Job("a", bad), silent)
    assert result.status == "error" and "node 1 (EmptyImage): Value 0 smaller than min of 1" in str(result.error)
    failing = {**graph(), "2": {"class_type": "ToyFail", "inputs": {"image": ["1", 0], "message": "on purpose"}}}
    result = engine.run(Job("b", failing), silent)
    assert (result.status, result.error) == ("error", "node 2 (ToyFail) raised ValueError: on purpose")
    assert engine.run(Job("c", STOCK), silent).status == "success"


def test_a_job_is_interrupted_between_steps(engine: ComfyUIEngine) -> None:
    def stop(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data["value"] == 3:
            engine.interrupt()

    heard = Heard(stop)
    result = Background(engine, Job("a", graph(0.5, steps=10_000, seconds=0.05, mark="stop")), heard).wait()
    assert result.status == "interrupted" and heard.events[-1][0] == "execution_interrupted"
    assert engine.run(Job("b", STOCK), silent).status == "success"


# -- processes


def test_two_at_once_from_one_checkout(engine: ComfyUIEngine, spec: EngineSpec, tmp_path: Path) -> None:
    second = ComfyUIEngine(spec, tmp_path, "comfyui 2")
    try:
        jobs = [Background(each, Job("a", STOCK)) for each in (engine, second)]
        results = [job.wait() for job in jobs]
        assert [file.data for file in results[0].files] == [file.data for file in results[1].files]
        http = HttpEngine(EngineSpec("http", second._server._client.address), tmp_path, "http")  # type: ignore[union-attr]
        assert http.run(Job("a", STOCK), silent).digest == results[0].digest
        http.close()
    finally:
        second.close()
    assert processes_with(str(tmp_path)) == []


def test_one_that_is_killed_is_lost_and_starts_again(engine: ComfyUIEngine, spec: EngineSpec, tmp_path: Path) -> None:
    own = ComfyUIEngine(spec, tmp_path, "comfyui 3")
    try:
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (9, 9, 9)).save(buffer, "PNG")
        own.put_inputs({"kept.png": buffer.getvalue()})
        stepping = threading.Event()
        job = Background(
            own,
            Job("a", graph(0.5, steps=10_000, seconds=0.05)),
            lambda event, data: stepping.set() if event == "progress" else None,
        )
        assert stepping.wait(300)
        os.kill(comfyui_of(tmp_path), signal.SIGKILL)
        with pytest.raises(EngineLost, match="died with signal SIGKILL"):
            job.wait(60)
        again = own.run(Job("b", loading_graph("kept.png")), silent)
        assert again.status == "success", again.error
    finally:
        own.close()
    assert processes_with(str(tmp_path)) == []


HOLDER = """
import sys, time
from pathlib import Path
from host.engines.comfyui import ComfyUIEngine
from host.engines.spec import EngineSpec

engine = ComfyUIEngine(EngineSpec("comfyui", sys.argv[1], sys.argv[2], ("--cpu",)), Path(sys.argv[3]), "held")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_this_process(spec: EngineSpec, tmp_path: Path, number: int) -> None:
    arguments = [sys.executable, "-c", HOLDER, spec.address, spec.python, str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        assert len(processes_with(str(tmp_path))) == 3
        holder.send_signal(number)
        holder.wait(60)
    wait_for(lambda: not processes_with(str(tmp_path)))


def test_it_does_not_outlive_its_supervisor(spec: EngineSpec, tmp_path: Path) -> None:
    own = ComfyUIEngine(spec, tmp_path, "comfyui 4")
    try:
        (supervisor,) = [pid for pid in processes_with(str(tmp_path)) if b"supervisor.py" in command_of(pid)]
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: not processes_with(str(tmp_path)))
    finally:
        own.close()


def test_a_start_that_fails_shows_the_log(spec: EngineSpec, tmp_path: Path) -> None:
    wrong = EngineSpec("comfyui", spec.address, spec.python, ("--no-such-option",))
    with pytest.raises(
        EngineError, match=r"it ended with exit code 2\n(.*\n)*.*unrecognized arguments: --no-such-option"
    ):
        ComfyUIEngine(wrong, tmp_path, "x")
    assert processes_with(str(tmp_path)) == []


def test_nothing_is_left_in_the_checkout(engine: ComfyUIEngine, comfyui_path: Path) -> None:
    engine.run(Job("a", STOCK), silent)
    for name in ("output", "temp", "input"):
        found = [
            path.name for path in (comfyui_path / name).rglob("*") if path.name.startswith(("stock", "toy", "mine"))
        ]
        assert found == []


def test_the_pack_is_loaded_once(engine: ComfyUIEngine) -> None:
    modules = {info["python_module"] for name, info in engine.object_info().items() if name.startswith("DDIM")}
    assert modules == {f"custom_nodes.{ROOT.name}"}
