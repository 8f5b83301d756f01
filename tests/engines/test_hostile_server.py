"""Servers that answer nonsense: a job on one ends with a sentence, and within the limits."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from host.engines.contract import EngineError, EngineLost, Job, JobResult
from host.engines.http import HttpEngine
from host.engines.remote import client as client_module
from host.engines.remote import job_run
from host.engines.remote.frames import read_binary_frame, read_text_frame, with_prompt_id
from host.engines.remote.history import read_history_entry, refusal_sentence
from host.engines.spec import EngineSpec
from tests.engines.servers import Heard, served
from tests.server.support import graph

STATS = {"system": {"comfyui_version": "9.9 x", "python_version": "3", "pytorch_version": 5}, "devices": [{"name": []}]}
SUCCESS = {"status_str": "success", "completed": True, "messages": []}


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """These servers do not say that a job has ended, so its history is looked at often."""
    monkeypatch.setattr(job_run, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(job_run, "_POLL_SECONDS_WITHOUT_SOCKET", 0.1)


def entry(**changes: Any) -> dict[str, Any]:
    return {"outputs": {}, "status": SUCCESS, **changes}


class Server:
    """As much of the protocol as a job needs. `answers` replaces what it says, by path."""

    def __init__(self, frames: tuple[str | bytes, ...] = (), **answers: Any) -> None:
        self.prompt_id = ""
        self.frames = frames
        self.answers = answers
        self.app = web.Application()
        self.app.router.add_get("/ws", self.socket)
        self.app.router.add_post("/prompt", self.prompt)
        self.app.router.add_route("*", "/{name}{rest:.*}", self.other)

    async def socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        await socket.send_str('{"type": "feature_flags", "data": {}}')
        for frame in self.frames:
            await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        async for _ in socket:
            pass
        return socket

    async def prompt(self, request: web.Request) -> web.Response:
        self.prompt_id = (await request.json())["prompt_id"]
        return web.json_response(self.answers.get("prompt", {"prompt_id": self.prompt_id}))

    async def other(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        answer = self.answers.get(name, {"system_stats": STATS}.get(name, {}))
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        if callable(answer):
            return await answer(request)
        if name == "history":
            answer = {self.prompt_id: self.answers.get("history", entry())}
        return web.json_response(answer)


def run(server: Server, folder: Path, emit: Callable[..., None] | None = None) -> JobResult:
    with served(server.app) as address:
        engine = HttpEngine(EngineSpec("http", address), folder, "x")
        try:
            return engine.run(Job("job", graph()), emit or Heard())
        finally:
            engine.close()


def test_the_least_that_a_server_can_say_is_enough(tmp_path: Path) -> None:
    heard = Heard()
    result = run(Server(), tmp_path, heard)
    assert (result.status, result.outputs, result.files) == ("success", {}, ())
    assert heard.events == [("execution_success", {"prompt_id": "job"})]


@pytest.mark.parametrize(
    "told", [5, [], {"outputs": 5}, {"outputs": [], "status": SUCCESS}, {"outputs": {}}, {"outputs": {}, "status": []}]
)
def test_a_history_of_another_shape_is_a_sentence(told: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the server's history is not a ComfyUI's"):
        run(Server(history=told), tmp_path)


def test_a_prompt_that_is_accepted_and_forgotten_is_lost(tmp_path: Path) -> None:
    async def nothing(request: web.Request) -> web.Response:
        return web.json_response({})

    with pytest.raises(EngineLost, match="does not know the job any more"):
        run(Server(history=nothing, queue={"queue_running": [], "queue_pending": ["x", [], [1]]}), tmp_path)


@pytest.mark.parametrize("answer", [{}, [], "x", {"prompt_id": 5}, {"error": "bad"}, {"error": {"message": ["x"]}}])
def test_an_answer_that_accepts_nothing_is_an_error_of_the_job(answer: Any, tmp_path: Path) -> None:
    result = run(Server(prompt=answer), tmp_path)
    assert result.status == "error" and str(result.error).startswith("the server refused the prompt: ")


REFERENCE = {"filename": "x.png", "subfolder": "", "type": "output"}


@pytest.mark.parametrize(
    ("outputs", "count"),
    [
        ({"3": {"images": [REFERENCE]}}, 1),
        ({"3": {"images": [REFERENCE, REFERENCE], "gifs": [REFERENCE]}}, 1),
        ({"3": {"images": [{**REFERENCE, "type": "input"}, {**REFERENCE, "filename": 5}, 5, None]}}, 0),
        ({"3": {"images": 5}, "4": 5, "5": [], "6": {"text": ["a"], "images": [[REFERENCE]]}}, 0),
        ({"3": {"images": [{**REFERENCE, "filename": "../../x.png"}]}}, 1),
    ],
)
def test_only_files_that_nodes_made_are_fetched(outputs: Any, count: int, tmp_path: Path) -> None:
    result = run(Server(history=entry(outputs=outputs), view=b"not a picture"), tmp_path)
    assert result.status == "success" and len(result.files) == count
    for file in result.files:
        assert file.data == b"not a picture" and "/" not in file.filename


def test_too_many_files_are_not_fetched(tmp_path: Path) -> None:
    many = [{**REFERENCE, "filename": f"{index}.png"} for index in range(10_001)]
    result = run(Server(history=entry(outputs={"3": {"images": many}})), tmp_path)
    assert result.status == "error" and "at most 10000 are fetched" in str(result.error)


def test_a_file_that_the_server_has_not_is_an_error_of_the_job(tmp_path: Path) -> None:
    async def missing(request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    result = run(Server(history=entry(outputs={"3": {"images": [REFERENCE]}}), view=missing), tmp_path)
    assert result.status == "error" and "node 3 names the file 'x.png', which the server has not" in str(result.error)


def endless(piece: bytes) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(piece)

    return answer


@pytest.mark.parametrize("path", ["view", "history"])
def test_an_endless_answer_is_cut(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_ANSWER_BYTES", 10 << 20)
    monkeypatch.setattr(client_module.Client.download, "__defaults__", (10 << 20,))
    answers = {"history": entry(outputs={"3": {"images": [REFERENCE]}}), path: endless(b" " * 65536)}
    with pytest.raises(EngineError, match="has more than 10485760 bytes"):
        run(Server(**answers), tmp_path)


def test_json_that_nests_too_deeply_is_no_answer(tmp_path: Path) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(EngineError, match="not a ComfyUI"):
        run(Server(system_stats=deep), tmp_path)
    with pytest.raises(EngineLost):
        run(Server(history=deep, queue={"queue_running": [], "queue_pending": []}), tmp_path)


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def small(image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, image_format)
    return buffer.getvalue()


def tagged(metadata: Any, picture: bytes) -> bytes:
    text = json.dumps(metadata).encode()
    return struct.pack(">II", 4, len(text)) + text + picture


NO_PREVIEWS = [
    b"",
    b"\0" * 7,
    struct.pack(">II", 1, 1),
    struct.pack(">II", 1, 1) + b"no picture",
    struct.pack(">II", 1, 1) + small("PNG"),  # announced as JPEG
    struct.pack(">II", 1, 3) + small("PNG"),
    struct.pack(">II", 2, 1) + small("PNG"),
    struct.pack(">II", 1, 2) + bomb(),
    struct.pack(">II", 4, 0xFFFFFFFF) + b"{}",
    tagged([], small("PNG")),
    tagged({"image_type": "image/gif"}, small("GIF")),
    tagged({"image_type": "image/png"}, bomb()),
    tagged({"image_type": ["image/png"]}, small("PNG")),
]
NO_EVENTS = [
    "",
    "[]",
    "[" * 100_000,
    '{"type": ["progress"], "data": {}}',
    '{"type": "progress", "data": {"prompt_id": "x", "node": "1", "value": "5", "max": 7}}',
    '{"type": "progress", "data": {"prompt_id": "x", "node": "1", "value": NaN, "max": 7}}',
    '{"type": "progress_state", "data": {"prompt_id": "x", "nodes": {"1": 5}}}',
    '{"type": "executed", "data": {"prompt_id": 5, "node": "1", "output": {}}}',
    '{"type": "executed", "data": {"prompt_id": "x", "node": "1", "output": []}}',
    '{"type": "execution_error", "data": {"prompt_id": "x"}}',
    '{"type": "made_up", "data": {"prompt_id": "x"}}',
]


@pytest.mark.parametrize("frame", NO_PREVIEWS + NO_EVENTS, ids=range(len(NO_PREVIEWS + NO_EVENTS)))
def test_a_frame_that_is_none_is_dropped(frame: str | bytes) -> None:
    assert (read_binary_frame(frame) if isinstance(frame, bytes) else read_text_frame(frame)) is None


def test_such_frames_do_not_disturb_a_job(tmp_path: Path) -> None:
    heard = Heard()
    other = '{"type": "executed", "data": {"prompt_id": "of another client", "node": "1", "output": {}}}'
    result = run(Server((*NO_PREVIEWS, *NO_EVENTS, other)), tmp_path, heard)
    assert result.status == "success"
    assert [event for event, _ in heard.events] == ["execution_success"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)
NAMES = ("execution_start", "execution_cached", "executing", "progress", "progress_state", "executed",
         "execution_success", "execution_error", "execution_interrupted")  # fmt: skip
KEYS = ("prompt_id", "node", "nodes", "value", "max", "output", "node_id", "exception_message", "exception_type")


@given(
    event=st.sampled_from(NAMES),
    data=st.dictionaries(st.sampled_from(KEYS), json_values | st.dictionaries(st.text(max_size=3), json_values)),
)
def test_what_is_read_can_be_passed_on(event: str, data: dict[str, Any]) -> None:
    frame = read_text_frame(json.dumps({"type": event, "data": data}))
    if frame is not None:
        told = with_prompt_id(frame, "mine")
        assert told["prompt_id"] == "mine"
        json.dumps(told, allow_nan=False)


@given(data=st.binary(max_size=200), kind=st.sampled_from([1, 3, 4]), word=st.integers(0, 300))
def test_no_binary_frame_raises(data: bytes, kind: int, word: int) -> None:
    read_binary_frame(data)
    read_binary_frame(struct.pack(">II", kind, word) + data)


messages = st.lists(
    st.tuples(st.sampled_from(NAMES), st.dictionaries(st.sampled_from((*KEYS, "timestamp")), json_values)).map(list)
    | json_values,
    max_size=4,
)


@given(outputs=json_values, status=json_values, told=messages, meta=json_values)
def test_no_history_raises_anything_but_a_sentence(outputs: Any, status: Any, told: Any, meta: Any) -> None:
    for each in (status, {"status_str": status, "messages": told}):
        try:
            found = read_history_entry({"outputs": outputs, "status": each, "meta": meta})
        except EngineError:
            continue
        assert found.status in ("success", "error", "interrupted") and found.ending[0].startswith("execution_")
        assert all(isinstance(values, list) for shown in found.outputs.values() for values in shown.values())
        assert found.error is None or len(found.error) < 2100


@given(body=json_values | st.fixed_dictionaries({"error": json_values, "node_errors": json_values}))
def test_every_refusal_is_a_sentence(body: Any) -> None:
    assert refusal_sentence(body).startswith("the server refused the prompt: ")
