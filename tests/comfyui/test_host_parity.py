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
from host.executor import Executor
from host.folders import default_folders
from host.payload import dumps
from host.registry import Registry, load_pack
from host.validation import validate

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(not os.environ.get("COMFYUI_PATH"), reason="COMFYUI_PATH names no ComfyUI checkout"),
]

GOOD = {"value": 1.0, "seed": 0, "mode": "plain"}


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def shown(source: str, slot: int = 0) -> dict[str, Any]:
    return node("ToyShow", value=[source, slot])


NUMBER = node("ToyNumber", **GOOD)

# Refused prompts. The answers must be equal in status and body.
REFUSED: dict[str, dict[str, Any]] = {
    "missing input": {"1": node("ToyNumber", value=1.0), "2": shown("1")},
    "too small": {"1": node("ToyNumber", **GOOD | {"value": -11}), "2": shown("1")},
    "too large": {"1": node("ToyNumber", **GOOD | {"seed": 2**64}), "2": shown("1")},
    "no number": {"1": node("ToyNumber", **GOOD | {"value": "much"}), "2": shown("1")},
    "no integer": {"1": node("ToyNumber", **GOOD | {"seed": [1, 2, 3]}), "2": shown("1")},
    "null": {"1": node("ToyNumber", **GOOD | {"seed": None}), "2": shown("1")},
    "no choice": {"1": node("ToyNumber", **GOOD | {"mode": "triple"}), "2": shown("1")},
    "all at once": {"1": node("ToyNumber", value=99, seed=-1, mode="no"), "2": shown("1")},
    "two nodes": {"1": node("ToyNumber", **GOOD | {"seed": -1}), "2": node("ToyAdd", a=["1", 0]), "3": shown("2")},
    "type mismatch": {"1": NUMBER, "2": node("ToyPass", image=["1", 0]), "3": shown("2", 1)},
    "one-element link": {"1": NUMBER, "2": node("ToyAdd", a=["1"], b=0.0), "3": shown("2")},
    "own validation": {"1": node("ToyEven", value=3, other=1), "2": shown("1")},
    "own validation and range": {"1": node("ToyEven", value=3, other=9), "2": shown("1")},
    "unknown class": {"1": {**node("Nope"), "_meta": {"title": "My Node"}}, "2": shown("1")},
    "unknown class without title": {"1": node("Nope")},
    "no class": {"1": {"inputs": {}}},
    "no outputs": {"1": NUMBER},
    "empty": {},
    "cycle": {"1": node("ToyAdd", a=["2", 0], b=0.0), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("1")},
    "self link": {"1": node("ToyAdd", a=["1", 0], b=0.0), "2": shown("1")},
    "missing file": {"1": node("LoadImage", image="not there.png"), "2": node("PreviewImage", images=["1", 0])},
    "escaping file": {"1": node("LoadImage", image="../x.png"), "2": node("PreviewImage", images=["1", 0])},
}

# The same status (400), but this host names the node and the input where ComfyUI shows a traceback.
REFUSED_CLEARER: dict[str, dict[str, Any]] = {
    "link to nowhere": {"1": node("ToyAdd", a=["9", 0], b=0.0), "2": shown("1")},
    "bad slot": {"1": NUMBER, "2": node("ToyAdd", a=["1", 7], b=0.0), "3": shown("2")},
    "no inputs": {"1": {"class_type": "ToyNumber"}, "2": shown("1")},
    "link by number": {"1": NUMBER, "2": node("ToyAdd", a=[1, 0], b=0.0), "3": shown("2")},
}

# Some outputs run, others do not: accepted, with the errors of the others.
PARTLY: dict[str, dict[str, Any]] = {
    "one bad": {"1": NUMBER, "2": shown("1"), "3": node("ToyNumber", **GOOD | {"seed": -1}), "4": shown("3")},
    "bad upstream": {"1": NUMBER, "2": shown("1"), "3": node("ToyAdd", b="x"), "4": node("ToyAdd", a=["3", 0], b=1.0),
                     "5": shown("4")},
}  # fmt: skip

# Sequences of prompts, run one after the other in a fresh host; streams of events and history must be equal.
CHAIN = {"1": NUMBER, "2": node("ToyAdd", a=["1", 0], b=2.0), "3": shown("2")}
LIST = {"1": node("ToyList", count=3), "2": node("ToyAdd", a=["1", 0], b=1.0), "3": shown("2")}
PLAYED: dict[str, list[dict[str, Any]]] = {
    "chain, cached, changed": [CHAIN, CHAIN, {**CHAIN, "2": node("ToyAdd", a=["1", 0], b=3.0)}],
    "conversion": [{"1": node("ToyNumber", value="2.5", seed="3", mode="double", label=4, negate=1), "2": shown("1")}],
    "list": [LIST],
    "two lists": [
        {
            "1": node("ToyList", count=4),
            "2": node("ToyList", count=2),
            "3": node("ToyAdd", a=["1", 0], b=["2", 0]),
            "4": shown("3"),
        }
    ],
    "whole list": [{"1": node("ToyList", count=4), "2": node("ToySum", values=["1", 0], scale=2.0), "3": shown("2")}],
    "clock": [{"1": node("ToyClock", value=1.0), "2": shown("1")}] * 2,
    "lazy": [
        {
            "1": NUMBER,
            "2": node("ToyList", count=1),
            "3": node("ToySwitch", first=first, a=["1", 0], b=["2", 0]),
            "4": shown("3"),
        }
        for first in (True, False)
    ],
    "async": [{"1": node("ToyAsync", value=1.0, seconds=0.1), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("2")}],
    "expansion": [{"1": NUMBER, "2": node("ToyExpand", value=["1", 0]), "3": shown("2")}] * 2,
    "steps": [{"1": node("ToySteps", steps=3), "2": shown("1")}],
    "silent block": [{"1": node("ToyBlock", message=""), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("2")}],
    "block": [{"1": node("ToyBlock", message="no"), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": shown("2")}],
    "error, then reuse": [{"1": NUMBER, "2": node("ToyFail", value=["1", 0]), "3": shown("2")}] * 2,
    "hidden": [{"5": node("ToyHidden")}],
    "unreachable node": [{**CHAIN, "9": node("ToyNumber", **GOOD | {"seed": 5})}] * 2,
    "middle": [{"1": NUMBER, "2": node("ToyMiddle", value=["1", 0]), "3": shown("2")}] * 2,
    "pictures": [
        {
            "1": node("ToyImage", grey=0.5, size=8, count=2),
            "2": node("SaveImage", images=["1", 0], filename_prefix="sub/toy"),
        }
    ]
    * 2,
    "an input that no class declares": [{"1": node("ToyNumber", **GOOD | {"upload": "image"}), "2": shown("1")}],
    "constant for any": [{"1": node("ToyShow", value="text")}],
}

# What versions before 0.33 say or do otherwise.
NEWER_WORDS = {"unknown class", "unknown class without title", "no class", "cycle", "self link"}
NEWER_EVENTS = {"middle"}


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
