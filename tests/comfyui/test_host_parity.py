"""This host against the real ComfyUI: the same answers to bad prompts, the same events for good ones.

The toy nodes of the host's own tests run in both, unchanged.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from host import context
from host.execution.executor import Executor
from host.folders import default_folders
from host.packs import Registry, load_pack
from host.strict_json import dumps
from host.validation import validate
from tests.comfyui.parity_prompts import (
    NEWER_EVENTS,
    NEWER_WORDS,
    PARTLY,
    PLAYED,
    REFUSED,
    REFUSED_CLEARER,
    node,
    shown,
)

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(not os.environ.get("COMFYUI_PATH"), reason="COMFYUI_PATH names no ComfyUI checkout"),
]


class Comfy:
    """The real server, with the toy nodes."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def play(self, prompt: dict[str, Any], prompts_client: Any) -> tuple[list, dict[str, Any]]:
        """Run a prompt; returns its events and its entry in history."""
        body = {"prompt": prompt, "client_id": "parity", "extra_data": {"extra_pnginfo": {"workflow": {"x": 1}}}}
        status, answer = self.ask("/prompt", body)
        assert status == 200, answer
        events = []
        while True:
            frame = prompts_client.recv()
            if isinstance(frame, bytes):
                continue
            message = json.loads(frame)
            if message["type"] in ("status", "feature_flags"):
                continue
            events.append((message["type"], message["data"]))
            if message["type"] == "executing" and message["data"]["node"] is None:
                return scrub(events), self.ask(f"/history/{answer['prompt_id']}")[1][answer["prompt_id"]]


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> Path:
    """A base folder for ComfyUI with the toy pack in it."""
    base = tmp_path_factory.mktemp("comfy")
    pack = base / "custom_nodes" / "toy_pack"
    pack.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "host" / "toy_nodes.py", pack)
    (pack / "__init__.py").write_text("from .toy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS\n")
    return base


@pytest.fixture(scope="module")
def comfy(packs) -> Iterator[Comfy]:
    root = Path(os.environ["COMFYUI_PATH"])
    own = root / ".venv" / "bin" / "python"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(own if own.exists() else sys.executable), "main.py", "--cpu", "--port", str(port)]
    command += ["--base-directory", str(packs), "--cache-classic", "--disable-api-nodes"]
    with (packs / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
        try:
            yield _wait_for(Comfy(port), process, packs / "log.txt")
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(comfy: Comfy, process: subprocess.Popen, log: Path) -> Comfy:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            comfy.ask("/prompt")
            return comfy
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"ComfyUI did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def version(comfy) -> tuple[int, ...]:
    text = comfy.ask("/system_stats")[1]["system"]["comfyui_version"]
    return tuple(int(part) for part in text.split(".")[:2])


@pytest.fixture(scope="module")
def ours(packs, tmp_path_factory) -> Iterator[Registry]:
    folders = default_folders(tmp_path_factory.mktemp("ours"))
    folders.input.mkdir()
    before = context.use_folders(folders)
    yield load_pack(packs / "custom_nodes" / "toy_pack")
    context.use_folders(before)


def scrub(events: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Leave out what differs from run to run, and steps in between, which ComfyUI thins out."""
    kept = []
    for event, data in json.loads(dumps(events)):
        thinned = event == "progress" and 1 < data["value"] < data["max"]
        states = data.get("nodes", {}).values() if event == "progress_state" else ()
        if thinned or any(1 < state["value"] < state["max"] for state in states):
            continue
        for name in ("prompt_id", "timestamp", "traceback"):
            data.pop(name, None)
        for state in states:
            state.pop("prompt_id")
        for name in ("executed", "current_outputs", "nodes"):
            if isinstance(data.get(name), list):
                data[name] = sorted(data[name])
        kept.append((event, data))
    return kept


def ordered(answer: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI looks at a node's inputs in no fixed order."""
    for entry in answer["node_errors"].values():
        entry["errors"].sort(key=json.dumps)
    return json.loads(dumps(answer))


def test_nodes_are_described_alike(comfy, ours):
    theirs = comfy.ask("/object_info")[1]
    own_words = {"description", "search_aliases"}  # the stock nodes' texts
    for name in ours.nodes:
        mine = json.loads(dumps(ours.object_info(name)))
        if name in ("SaveImage", "PreviewImage", "LoadImage"):
            assert mine["input_order"] == theirs[name]["input_order"]
            mine = {key: value for key, value in mine.items() if key not in own_words | {"input"}}
            mine |= {key: theirs[name][key] for key in ("output", "output_name", "output_is_list", "name")}
        common = mine.keys() & theirs[name].keys()
        assert {key: mine[key] for key in common} == {key: theirs[name][key] for key in common}, name
        assert theirs[name].keys() - mine.keys() <= {"api_node", "input", *own_words}, name


@pytest.mark.parametrize("name", REFUSED)
def test_bad_prompts_are_refused_alike(comfy, ours, version, name):
    if version < (0, 33) and name in NEWER_WORDS:
        pytest.skip("older versions say this in other words")
    status, answer = comfy.ask("/prompt", {"prompt": REFUSED[name]})
    found = validate(REFUSED[name], ours)
    assert status == 400 and found.error is not None
    assert ordered({"error": found.error, "node_errors": found.node_errors}) == ordered(answer)


@pytest.mark.parametrize("name", REFUSED_CLEARER)
def test_broken_graphs_are_refused_by_both(comfy, ours, name):
    status, _ = comfy.ask("/prompt", {"prompt": REFUSED_CLEARER[name]})
    assert status == 400
    assert validate(REFUSED_CLEARER[name], ours).error is not None


@pytest.mark.parametrize("name", PARTLY)
def test_partly_good_prompts_are_accepted_with_the_errors_of_the_rest(comfy, ours, name):
    status, answer = comfy.ask("/prompt", {"prompt": PARTLY[name]})
    found = validate(PARTLY[name], ours)
    assert status == 200 and found.error is None
    assert ordered({"node_errors": found.node_errors}) == ordered({"node_errors": answer["node_errors"]})


def _draw_pictures(folder: Path) -> None:
    """Pictures of the kinds that both can read; ComfyUI 0.33 fails on grey and on 16-bit ones."""
    ramp = np.arange(8 * 6, dtype=np.uint8).reshape(6, 8) * 5
    colour = Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], -1))
    colour.save(folder / "colour.png")
    clear = colour.copy()
    clear.putalpha(Image.fromarray(ramp))
    clear.save(folder / "clear.png")
    colour.quantize(8).save(folder / "palette.png", transparency=0)
    turned = Image.Exif()
    turned[0x0112] = 6
    colour.save(folder / "turned.jpg", quality=100, exif=turned)
    frames = [Image.new("RGB", (8, 6), (level, 0, 0)) for level in (0, 100, 200)]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)


@pytest.mark.parametrize("name", ["colour.png", "clear.png", "palette.png", "turned.jpg", "moving.webp"])
def test_pictures_are_read_alike(comfy, ours, packs, name):
    websocket = pytest.importorskip("websocket")
    for folder in (packs / "input", context.folders().input):
        _draw_pictures(folder)
    prompt = {"1": node("LoadImage", image=name), "2": node("ToyLook", image=["1", 0], mask=["1", 1])}
    client = websocket.create_connection(f"ws://{comfy.address}/ws?clientId=parity", timeout=60)
    try:
        _, history = comfy.play(prompt, client)
    finally:
        client.close()
    _, result = _play_here(Executor(ours), ours, prompt)
    for mine, theirs in zip(result.outputs["2"]["seen"], history["outputs"]["2"]["seen"], strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2] == pytest.approx(theirs[2], abs=0.02)  # two decoders of JPEG may differ by a level


@pytest.mark.parametrize("name", PLAYED)
def test_good_prompts_run_alike(comfy, ours, version, name):
    websocket = pytest.importorskip("websocket")
    if version < (0, 33) and name in NEWER_EVENTS:
        pytest.skip("older versions do not show what is cached in the middle")
    client = websocket.create_connection(f"ws://{comfy.address}/ws?clientId=parity", timeout=60)
    executor = Executor(ours)
    try:
        comfy.play({"1": node("ToyClock", value=0.0), "2": shown("1")}, client)  # empties its cache
        for prompt in PLAYED[name]:
            events, history = comfy.play(prompt, client)
            mine, result = _play_here(executor, ours, prompt)
            assert mine == events
            assert json.loads(dumps(result.outputs)) == json.loads(dumps(history["outputs"]))
            assert result.meta == history["meta"]
            assert scrub(result.messages) == scrub(history["status"]["messages"])
    finally:
        client.close()


def _play_here(executor: Executor, registry: Registry, prompt: dict[str, Any]) -> tuple[list, Any]:
    events: list[tuple[str, Any]] = []
    checked = validate(prompt, registry)
    extra = {"extra_pnginfo": {"workflow": {"x": 1}}}
    result = executor.run(
        checked.prompt, "p", checked.outputs, extra, lambda event, data: events.append((event, data)), threading.Event()
    )
    return scrub([*events, ("executing", {"node": None, "prompt_id": "p"})]), result
