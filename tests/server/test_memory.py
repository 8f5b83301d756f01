"""No request of at most 32 MiB makes the host grow by more than 1 GiB, and eight at once by more than 3 GiB.

What counts is the process's own peak, above what it had after its start: a request that leaves memory behind takes it
from the next one. Every route of the application has a case here, or a reason why it needs none.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from host.folders import ROOT
from host.limits import (
    MAX_ANIMATION_PIXELS,
    MAX_BODY_BYTES,
    MAX_JSON_VALUES,
    MAX_PICTURE_PIXELS,
    MAX_SETTINGS_BYTES,
)
from tests.server.support import Answer, HostProcess, graph

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process's peak is read, and reset, in /proc")

ONE, EIGHT = 1 << 30, 3 << 30
FULL = MAX_BODY_BYTES - 10_000
SIZE = (8192, MAX_PICTURE_PIXELS // 8192)

# -- the largest allowed content


def text(size: int) -> str:
    """JSON text that takes the most memory: stored as ASCII, each letter takes six characters or twelve."""
    return '"' + "\U0001f600" * (size // 4) + '"'


def plain(size: int) -> str:
    return '"' + "x" * size + '"'


def objects(count: int = MAX_JSON_VALUES - 100) -> str:
    """As many small objects as a request may hold."""
    return "[" + ",".join(['{"a":{}}'] * (count // 2)) + "]"


def too_many() -> str:
    return "[" + ",".join(["{}"] * (FULL // 3)) + "]"


BODIES = {"text": text(FULL), "objects": objects(), "too many": too_many()}


def prompt(note: str, graph_text: str = json.dumps(graph(0.25))) -> bytes:
    return f'{{"prompt": {graph_text}, "extra_data": {{"extra_pnginfo": {{"note": {note}}}}}}}'.encode()


def still(kind: str, mode: str) -> bytes:
    options = {"PNG": {"compress_level": 1}, "WEBP": {"lossless": True, "quality": 0, "method": 0}}.get(kind, {})
    buffer = io.BytesIO()
    Image.new(mode, SIZE, (9, 8, 7, 77)).save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind: str) -> bytes:
    """Two frames, each as large as they may be: a decoder holds several copies of a frame."""
    side = int((MAX_ANIMATION_PIXELS // 2) ** 0.5)
    first, second = (Image.new("RGBA", (side, side), (9, 8, level, 77)) for level in (7, 8))
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": 0, "method": 0} if kind == "WEBP" else {}
    first.save(buffer, kind, save_all=True, append_images=[second], duration=20, **options)
    return buffer.getvalue()


STILLS = {"x.png": ("PNG", "RGBA"), "x.webp": ("WEBP", "RGBA")}
ANIMATIONS = {"a.gif": "GIF", "a.webp": "WEBP"}
PICTURES = (*STILLS, *ANIMATIONS)


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    stills = {name: still(*kind) for name, kind in STILLS.items()}
    return stills | {name: animation(kind) for name, kind in ANIMATIONS.items()}


# -- measuring


class Measured(NamedTuple):
    host: HostProcess
    start: int  # resident bytes after the start


@pytest.fixture(scope="module")
def measured(toy_pack, contents, tmp_path_factory) -> Iterator[Measured]:
    host = HostProcess(tmp_path_factory.mktemp("memory"), [toy_pack, ROOT])
    for name, content in contents.items():
        (host.data / "input" / name).write_bytes(content)
    yield Measured(host, host.rss())
    host.stop()


def growth(measured: Measured, action: Callable[[], object]) -> int:
    """Bytes by which the host is larger than after its start, at most, while `action` runs."""
    host = measured.host
    Path(f"/proc/{host.process.pid}/clear_refs").write_text("5")  # its peak is what it has now
    action()
    peak = host.peak()
    host.post("/free", {"free_memory": True})
    return peak - measured.start


def at_once(*requests: Callable[[], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return [done.result() for done in [pool.submit(request) for request in requests]]


# -- the cases: what is sent, and the status that must come back


def run(host: HostProcess, body: bytes) -> Answer:
    """Post a prompt and wait until it has run."""
    answer = host.post("/prompt", body)
    if answer.status == 200:
        assert host.finished(answer.json["prompt_id"])["status"]["status_str"] in ("success", "error")
    return answer


def load(host: HostProcess, name: str) -> Answer:
    loading = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    answer = host.post("/prompt", {"prompt": loading})
    assert host.finished(answer.json["prompt_id"])["status"]["completed"] is True
    return answer


def failing(message: str) -> bytes:
    """A prompt whose node raises an error with this text."""
    nodes = {
        "1": {"class_type": "ToyPicture", "inputs": {"width": 8, "height": 8, "level": 0.1}},
        "2": {"class_type": "ToyFail", "inputs": {"image": ["1", 0], "message": "MESSAGE"}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    return prompt("0", json.dumps(nodes).replace('"MESSAGE"', message))


def no_such_picture(name: str) -> bytes:
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "NAME"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    return prompt("0", json.dumps(nodes).replace('"NAME"', name))


def runs(body: bytes) -> Callable[[HostProcess, dict[str, bytes]], Answer]:
    return lambda host, _: run(host, body)


class Case(NamedTuple):
    route: str
    name: str
    send: Callable[[HostProcess, dict[str, bytes]], Answer]
    status: int = 200


def posts(route: str, path: str = "", statuses: tuple[int, int, int] = (400, 400, 400)) -> list[Case]:
    """A request with each kind of large body."""
    method, _, pattern = route.partition(" ")
    return [
        Case(
            route,
            name,
            lambda host, _, body=body: host.request(method, path or pattern, body.encode()),
            status,
        )
        for (name, body), status in zip(BODIES.items(), statuses, strict=True)
    ]


def inside(route: str, key: str, status: int = 400) -> Case:
    """A request with a long list where the route expects one."""
    body = f'{{"{key}": {objects()}}}'.encode()
    return Case(route, f"{key} of many", lambda host, _: host.post(route.split()[1], body), status)


def mask(host: HostProcess, name: str, content: bytes) -> Answer:
    reference = json.dumps({"filename": name, "type": "input"})
    return host.upload("/upload/mask", "mask.png", content, original_ref=reference)


VIEW = "/view?type=input&filename="
VIEWS = ("", "&preview=webp;90", "&preview=jpeg", "&channel=a", "&channel=rgb")
CASES = [
    *(
        Case("POST /prompt", f"with {name}", runs(prompt(body)), status)
        for (name, body), status in zip(BODIES.items(), (200, 200, 400), strict=True)
    ),
    Case("POST /prompt", "of a node that fails", lambda host, _: run(host, failing(plain(FULL)))),
    Case("POST /prompt", "that is refused", lambda host, _: host.post("/prompt", no_such_picture(plain(FULL))), 400),
    *(
        Case("POST /prompt", f"that loads {name}", lambda host, _, name=name: load(host, name))
        for name in ("x.png", *ANIMATIONS)
    ),
    *posts("POST /queue"),
    inside("POST /queue", "delete"),
    *posts("POST /history"),
    inside("POST /history", "delete"),
    *posts("POST /jobs/cancel"),
    inside("POST /jobs/cancel", "job_ids"),
    *posts("POST /interrupt"),
    *posts("POST /free"),
    *posts("PATCH /internal/logs/subscribe"),
    *posts("POST /ddim/schedule"),
    *posts("POST /ddim/config"),
    Case("GET /ddim/replay/{name}", "no sheet", lambda host, _: host.get("/ddim/replay/" + "x" * 4_000), 404),
    Case("GET /ddim/replay/of/{name}", "no run", lambda host, _: host.get("/ddim/replay/of/" + "x" * 4_000), 404),
    *posts("POST /settings"),
    *posts("POST /settings/{id}", "/settings/large", (413, 200, 400)),
    Case(
        "POST /settings/{id}",
        "the largest",
        lambda host, _: host.post("/settings/a", text(MAX_SETTINGS_BYTES // 8).encode()),
    ),
    Case("GET /settings", "the largest", lambda host, _: host.get("/settings")),
    Case("GET /settings/{id}", "the largest", lambda host, _: host.get("/settings/a")),
    Case("POST /userdata/{file}", "the largest", lambda host, _: host.post("/userdata/user.css", b"\xff" * FULL)),
    Case("GET /userdata/{file}", "the largest", lambda host, _: host.get("/userdata/user.css?download")),
    Case("GET /user.css", "the largest", lambda host, _: host.get("/user.css")),
    Case("GET /userdata/user.css", "the largest", lambda host, _: host.get("/userdata/user.css")),
    Case("POST /upload/image", "JSON", lambda host, _: host.upload("/upload/image", "x.json", objects().encode())),
    Case(
        "POST /upload/image",
        "too much JSON",
        lambda host, _: host.upload("/upload/image", "x.json", too_many().encode()),
        400,
    ),
    *(
        Case("POST /upload/image", name, lambda host, files, name=name: host.upload("/upload/image", name, files[name]))
        for name in PICTURES
    ),
    Case("POST /upload/mask", "PNG", lambda host, files: mask(host, "x.png", files["x.png"])),
    Case("POST /upload/mask", "WebP", lambda host, files: mask(host, "x.webp", files["x.webp"])),
    *(
        Case("GET /view", path, lambda host, _, path=path: host.get(path))
        for path in (*(f"{VIEW}x.png{query}" for query in VIEWS), f"{VIEW}x.webp&preview=webp")
    ),
    # After all of these, the history holds large prompts, and errors with large messages.
    *(
        Case(f"GET {path}", "after the others", lambda host, _, path=path: host.get(path))
        for path in (
            "/queue",
            "/history",
            "/jobs",
            "/userdata?dir=.",
            "/v2/userdata",
            "/internal/logs",
            "/internal/logs/raw",
        )
    ),
    Case("GET /history/{id}", "of a large prompt", lambda host, _: host.get(f"/history/{largest(host)}")),
    Case("GET /jobs/{id}", "of a large prompt", lambda host, _: host.get(f"/jobs/{largest(host)}")),
]


def largest(host: HostProcess) -> str:
    """The id of the first prompt, which holds a large text."""
    jobs: list[dict[str, str]] = host.get("/jobs?sort_order=asc&limit=1").json["jobs"]
    return jobs[0]["id"]


SMALL = {
    "no body, and an answer that does not depend on requests": [
        "GET /prompt", "GET /users", "GET /features", "GET /system_stats", "GET /object_info/{name}", "GET /i18n",
        "GET /embeddings", "GET /global_subgraphs", "GET /global_subgraphs/{id}", "GET /node_replacements",
        "GET /templates/index.json", "GET /templates/index_logo.json", "GET /internal/folder_paths", "GET /models",
        "GET /experiment/models", "GET /extensions", "GET /workflow_templates",
        "GET /ddim/presets",
    ],
    "no body, and one short name for each file or node": [
        "GET /object_info", "GET /internal/files/{kind}", "GET /models/{folder}", "GET /experiment/models/{folder}",
    ],
    "no body, and a file sent in pieces": [
        "GET /", "GET /extensions/{pack}/{file}", "GET /workflow_templates/{pack}/{file}",
        "GET /internal/opening_workflow",
    ],
    "no body, and one file or job changed": [
        "POST /jobs/{id}/cancel", "DELETE /userdata/{file}", "POST /userdata/{file}/move/{dest}",
    ],
    "tests/server/test_websockets.py: what waits for a client, and what it sends, is limited": ["GET /ws"],
}  # fmt: skip


def test_every_route_has_a_case():
    program = f"""
from types import SimpleNamespace
from host.packs import load_pack
from host.server.app import make_app
from host.server.websockets import WebSockets
load_pack({str(ROOT)!r})
for route in make_app(SimpleNamespace(websockets=WebSockets({{}}), frontend=None)).router.routes():
    print(route.method, route.resource.canonical)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    served = {line for line in done.stdout.splitlines() if not line.startswith("HEAD ") and " /api/" not in line}
    covered = {case.route.split("?")[0] for case in CASES} | {route for routes in SMALL.values() for route in routes}
    assert len(served) > 50 and covered == served


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.route} {case.name}")
def test_one_request(measured, contents, case):
    def send():
        answer = case.send(measured.host, contents)
        assert answer.status == case.status, answer.body[:300]

    assert growth(measured, send) < ONE


# -- eight at once


def test_eight_pictures_in_every_way(measured, contents):
    host, get, files = measured.host, measured.host.get, contents
    requests = [
        partial(load, host, "x.png"),
        partial(get, f"{VIEW}x.webp&preview=webp"),
        *[partial(get, f"{VIEW}x.png&channel=a")] * 4,
        partial(host.upload, "/upload/image", "x.webp", files["x.webp"]),
        partial(mask, host, "x.webp", files["x.webp"]),
    ]

    def send():
        assert {answer.status for answer in at_once(*requests)} == {200}

    assert growth(measured, send) < EIGHT


def test_eight_large_prompts_and_everything_that_lists_them(measured):
    host, body = measured.host, prompt(plain(28 << 20))
    host.post("/history", {"clear": True})
    running = host.submit(graph(0.77, steps=20_000, seconds=0.05))
    lists = ("/queue", "/queue", "/history", "/history", "/jobs", "/jobs", "/prompt", "/settings")

    def send():
        posted = at_once(*[partial(host.post, "/prompt", body)] * 8)
        assert {answer.status for answer in posted} == {200}
        queue, *others = at_once(*(partial(host.get, path) for path in lists))
        assert len(queue.body) > 8 * (28 << 20) and {answer.status for answer in others} == {200}

    try:
        assert growth(measured, send) < EIGHT
    finally:
        host.post("/queue", {"clear": True}), host.post("/interrupt")
        host.finished(running)
