"""A host and what any client may send it: requests to every route, uploads, raw bytes, frames of web sockets.

The answer is never an error of the host, never missing, and never the content of a file outside of its folders.
"""

from __future__ import annotations

import json
import socket
import string
import time
import urllib.parse
from typing import Any, NamedTuple

import hypothesis.strategies as st
import websocket

from host.server.routes import ROUTES as HOST_ROUTES
from tests.fuzz.files import PICTURES
from tests.fuzz.values import NAMES, mutated
from tests.fuzz.values import values as json_values
from tests.fuzz.workbench import Target, Workbench
from tests.server.support import Answer, graph

MAX_SECONDS = 25.0  # until the answer
WAIT_SECONDS = 0.1  # for an answer to what may be a part of a request

# Each route of the table, read from the table itself: a new route is fuzzed without anybody thinking of it.
ROUTES = sorted({(route.method, route.path) for route in HOST_ROUTES})

plain = st.text(string.ascii_letters + string.digits + "._- ", max_size=12)
nasty = st.one_of(
    plain,
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace").decode()),
    st.sampled_from(
        NAMES
        + ["..", "../x", "%2e%2e", "\0", "a/b", "workflows", "toy", "output", "1e9", "-1", "null", "[]", "x" * 300]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), plain, st.sampled_from(["1", "3", "ToyShow"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(plain, inner, max_size=4)),
    max_leaves=12,
)
KEYS = [
    "prompt", "prompt_id", "client_id", "number", "front", "extra_data", "partial_execution_targets", "clear", "delete",
    "job_ids", "unload_models", "clientId", "enabled", "class_type", "inputs", "value", "1", "3",
]  # fmt: skip
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
bodies = st.one_of(
    st.binary(max_size=60),
    objects.map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda inputs: json.dumps({"prompt": {"1": {"class_type": "ToyShow", "inputs": inputs}}}).encode()),
)
QUERY = [
    "filename", "subfolder", "type", "preview", "channel", "dir", "path", "recurse", "full_info", "split", "overwrite",
    "status", "limit", "offset", "sort_by", "sort_order", "workflow_id", "max_items",
]  # fmt: skip
types = st.sampled_from(
    ["application/json", "text/plain", "multipart/form-data; boundary=x", "multipart/form-data", "x", ""]
)
encodable = nasty.map(lambda text: text.encode("utf-8", "replace").decode())


class Request(NamedTuple):
    """A request as it is sent."""

    method: str
    target: str
    body: bytes
    headers: dict[str, str]


@st.composite
def requests_to(draw: st.DrawFn, method: str, path: str) -> Request:
    """Requests to one route, with something in place of each `{part}`."""
    target, rest = "", path
    while "{" in rest:
        head, _, rest = rest.partition("{")
        _, _, rest = rest.partition("}")
        target += head + urllib.parse.quote(draw(encodable), safe=draw(st.sampled_from(["", "/%"])))
    query = urllib.parse.urlencode(draw(st.dictionaries(st.sampled_from(QUERY), encodable, max_size=4)))
    body = b"" if method == "GET" else draw(bodies)
    headers = {"Content-Type": draw(types)} if body else {}
    return Request(method, f"{draw(st.sampled_from(['', '/api']))}{target}{rest}?{query}", body, headers)


def check_answer(answer: Answer, sent: Any, started: float) -> str:
    """Check that an answer is one that the host meant to give."""
    assert answer.status < 500, (sent, answer.status, answer.body[:2000])
    assert b"canary " not in answer.body and b"root:x:0:" not in answer.body, (sent, answer.body[:200])
    assert time.monotonic() - started < MAX_SECONDS, sent
    if answer.status >= 400 and answer.headers.get("Content-Type", "").startswith("application/json"):
        error = json.loads(answer.body).get("error")
        assert not isinstance(error, str) or len(error) < 2500, error[:500]
    return str(answer.status)


def send(bench: Workbench, request: Request) -> str:
    started = time.monotonic()
    answer = bench.host.raw(request.method, request.target, request.body, request.headers)
    return check_answer(answer, request, started)


# -- uploads

UPLOADS = [*PICTURES, b"{}", b"[1]", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 9, b"%PDF-1.4", b"<svg onload=alert(1)>"]
SUFFIXES = [".png", ".jpg", ".json", ".safetensors", ".gif", ".webp", ".svg", ".html", ".PNG", ".png.", ""]
references = st.fixed_dictionaries(
    {"filename": encodable | json_values}, optional={"subfolder": encodable, "type": encodable | json_values}
)
fields = st.dictionaries(
    st.sampled_from(["type", "subfolder", "overwrite", "original_ref", "image", "x"]),
    encodable | st.sampled_from(["input", "output", "temp", "true", "1", "sub", "out"]) | references.map(json.dumps),
    max_size=4,
)


def _form(parts: list[tuple[str, bytes]]) -> bytes:
    return (
        b"".join(
            f"--mark\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode("utf-8", "replace") + content + b"\r\n"
            for head, content in parts
        )
        + b"--mark--\r\n"
    )


forms = st.builds(
    lambda named, name, suffix, content: _form(
        [*((f'name="{key}"', value.encode("utf-8", "replace")) for key, value in named.items()),
         (f'name="image"; filename="{name}{suffix}"', content)]
    ),
    fields, encodable, st.sampled_from(SUFFIXES), mutated(*UPLOADS),
)  # fmt: skip
upload_bodies = forms | mutated(_form([('name="image"; filename="a.png"', PICTURES[0])]))
uploads = st.builds(
    lambda kind, body: Request("POST", f"/upload/{kind}", body, {"Content-Type": "multipart/form-data; boundary=mark"}),
    st.sampled_from(["image", "image", "mask"]),
    upload_bodies,
)


# -- raw bytes and web sockets

LINES = [
    b"GET /features HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /queue HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
]


def _raw(bench: Workbench, data: bytes) -> str:
    """Send bytes. The host answers, closes the connection, or waits for the rest of the request."""
    address = urllib.parse.urlsplit(bench.host.address)
    with socket.create_connection((address.hostname, address.port), timeout=MAX_SECONDS) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(WAIT_SECONDS)
            answer = connection.recv(1 << 16)
        except TimeoutError:
            return "waits"
        except OSError:
            return "closed"
    status = answer[9:12].decode("ascii", "replace") if answer.startswith(b"HTTP/1.") else "closed"
    assert not status.isdigit() or int(status) < 500 or status == "505", (data, answer[:300])
    return status


messages = st.one_of(
    json_values.map(json.dumps),
    st.fixed_dictionaries({"type": st.sampled_from(["feature_flags", "subscribe", "status"]), "data": json_values}).map(
        json.dumps
    ),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace").decode()),
)
frames = st.lists(
    st.tuples(st.sampled_from(["text", "text", "binary", "ping", "bytes", "close"]), messages), max_size=6
)


def _talk(bench: Workbench, given: tuple[str, list[tuple[str, str]]]) -> str:
    """Open a web socket and send frames, some malformed. The host sends events or closes it."""
    address = f"{bench.host.address.replace('http', 'ws', 1)}/ws?clientId={urllib.parse.quote(given[0])}"
    try:
        connection = websocket.create_connection(address, timeout=MAX_SECONDS)
    except websocket.WebSocketBadStatusException as error:
        assert error.status_code < 500, given
        return str(error.status_code)
    try:
        for kind, message in given[1]:
            data = message.encode()
            if kind == "bytes":
                connection.sock.sendall(data)
            else:
                codes = {"text": 1, "binary": 2, "ping": 9, "close": 8}
                connection.send(data[:120] if codes[kind] > 7 else data, codes[kind])
        connection.ping(b"end")
        while (received := connection.recv_data(control_frame=True))[0] not in (8, 10):
            pass
        return "connected" if received[0] == 10 else f"closed with {int.from_bytes(received[1][:2], 'big')}"
    except (websocket.WebSocketConnectionClosedException, ConnectionError):
        return "closed"
    finally:
        connection.shutdown()


def _work(bench: Workbench, level: float) -> str:
    """After everything else, a prompt is run as ever."""
    host = bench.host
    host.post("/queue", {"clear": True})
    host.post("/interrupt")
    assert host.finished(host.submit(graph(level)))["status"]["completed"] is True
    inside = {path.name for path in host.data.iterdir()} - {"stderr.txt"}
    assert inside == {"input", "output", "temp", "user"}, inside
    return "completed"


TARGETS = [
    Target("requests", st.sampled_from(ROUTES).flatmap(lambda route: requests_to(*route)), send, examples=50),
    Target("uploads", uploads, send, examples=100),
    Target("raw-bytes", mutated(*LINES) | st.binary(max_size=200), _raw, examples=100),
    Target("web-sockets", st.tuples(encodable, frames), _talk, examples=60),
    Target("work-goes-on", st.floats(0, 1), _work, examples=1),
]
