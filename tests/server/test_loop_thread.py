"""No route opens, lists or changes a file in the event loop's thread: a slow disk would stop every other request."""

from __future__ import annotations

import io
import json
import urllib.parse
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.server.support import HostProcess, graph

# A pack that notes what the event loop's thread does with files while requests are served.
RECORDER = """
import sys
import threading

from aiohttp import web

from host.context import routes

EVENTS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.link", "os.chmod")
noted, noting = [], []


def note(event, arguments):
    if noting and event in EVENTS and threading.current_thread() is threading.main_thread():
        noted.append(f"{event} {arguments[0]}")


async def start(request):
    noted.clear()
    noting[:] = [True]
    return web.Response()


async def stop(request):
    noting.clear()
    return web.json_response(noted)


async def read(request):
    with open(__file__):
        return web.Response()


sys.addaudithook(note)
routes.register("POST", "/recorder/start", start)
routes.register("POST", "/recorder/stop", stop)
routes.register("GET", "/recorder/read", read)
NODE_CLASS_MAPPINGS = {}
"""


@pytest.fixture(scope="module")
def host(toy_pack, tmp_path_factory) -> Iterator[HostProcess]:
    pack = tmp_path_factory.mktemp("recorder") / "recorder"
    pack.mkdir()
    (pack / "__init__.py").write_text(RECORDER)
    started = HostProcess(tmp_path_factory.mktemp("loop"), [toy_pack, pack])
    (started.data / "models/checkpoints").mkdir(parents=True)
    (started.data / "models/checkpoints/a.safetensors").write_bytes(b"")
    (started.data / "user/default/user.css").write_text("a {}")
    started.finished(started.submit(graph(prefix="seen")))
    yield started
    started.stop()


def noted(host: HostProcess, *requests) -> list[str]:
    """What the event loop's thread did with files during the requests."""
    host.post("/recorder/start")
    for send in requests:
        answer = send()
        assert answer.status < 300, answer.body
    return host.post("/recorder/stop").json


def test_the_recorder_sees_a_file_that_is_opened(host):
    (event,) = noted(host, lambda: host.get("/recorder/read"))
    assert event.startswith("open ")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/features", "/system_stats", "/object_info", "/object_info/LoadImage", "/i18n", "/internal/logs",
        "/extensions", "/extensions/toy/toy.js", "/workflow_templates", "/workflow_templates/toy/toy.json",
        "/global_subgraphs", "/models", "/models/checkpoints", "/experiment/models", "/experiment/models/checkpoints",
        "/internal/folder_paths", "/internal/files/output", "/settings", "/settings/a", "/user.css",
        "/userdata?dir=.", "/userdata?dir=.&recurse=true&full_info=true", "/v2/userdata", "/userdata/user.css",
        "/userdata/comfy.templates.json", "/view?filename=seen_00001_.png",
        "/view?filename=seen_00001_.png&preview=webp;90", "/view?filename=seen_00001_.png&channel=a",
        "/queue", "/history", "/jobs", "/prompt",
    ],
)  # fmt: skip
def test_reading(host, path):
    assert noted(host, lambda: host.get(path)) == []


def test_writing(host):
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    name = urllib.parse.quote("workflows/a.json", safe="")
    moved = urllib.parse.quote("workflows/b.json", safe="")
    reference = json.dumps({"filename": "a.png", "type": "input"})
    assert (
        noted(
            host,
            lambda: host.upload("/upload/image", "a.png", picture.getvalue()),
            lambda: host.upload("/upload/mask", "b.png", picture.getvalue(), original_ref=reference),
            lambda: host.post("/settings", {"a": 1}),
            lambda: host.post("/settings/b", 2),
            lambda: host.post(f"/userdata/{name}", b"{}"),
            lambda: host.post(f"/userdata/{name}/move/{moved}"),
            lambda: host.request("DELETE", f"/userdata/{moved}"),
        )
        == []
    )
