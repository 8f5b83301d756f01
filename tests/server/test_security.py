"""What strangers may not do: other sites, other folders, other people's files, and stopping the host."""

from __future__ import annotations

import gzip
import json
import socket as sockets
import threading
import time
import urllib.parse
import uuid
import zlib
from pathlib import Path

import pytest
import websocket

from tests.server.support import HostProcess, graph

SECRET = b"the secret of another folder"


@pytest.fixture(scope="module")
def secrets(server: HostProcess) -> list[Path]:
    """Files with a secret: beside the data folders, and behind links inside them."""
    outside = server.data.parent / "outside"
    outside.mkdir(exist_ok=True)
    for path in (server.data / "secret.txt", server.data / "user/secret.txt", outside / "secret.txt"):
        path.write_bytes(SECRET)
    for folder in ("input", "output", "temp", "user/default"):
        (server.data / folder / "link").symlink_to(outside)
        (server.data / folder / "link.txt").symlink_to(outside / "secret.txt")
    return [outside]


TRAVERSALS = [
    "../secret.txt",
    "../../outside/secret.txt",
    "a/../../secret.txt",
    "./../secret.txt",
    "..//secret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "..\\secret.txt",
    "..\\..\\secret.txt",
    "C:\\secret.txt",
    "C:secret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "..%2fsecret.txt",
    "..%252fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "..%c0%afsecret.txt",
    "..%5csecret.txt",
    "link/secret.txt",
    "link.txt",
    "link/../secret.txt",
    "\0",
    "../secret.txt\0.png",
    "secret.txt%00.png",
    "....//secret.txt",
    "..;/secret.txt",
    "\u2025/secret.txt",
    "\uff0e\uff0e/secret.txt",
    "~/secret.txt",
    "file:///etc/passwd",
    "x" * 5000,
    "a/" * 1000 + "x",
]


def addresses(name: str) -> list[tuple[str, str]]:
    """Every request that takes a path, with ``name`` in its place, encoded once and as it is."""
    found = []
    for part in (urllib.parse.quote(name, safe=""), urllib.parse.quote(name, safe="/%")):
        found += [
            ("GET", f"/view?filename={part}&type=output"),
            ("GET", f"/view?filename={part}%20[input]"),
            ("GET", f"/view?filename=secret.txt&subfolder={part}&type=input"),
            ("GET", f"/view?filename=x&type={part}"),
            ("GET", f"/userdata/{part}"),
            ("GET", f"/userdata?dir={part}"),
            ("GET", f"/v2/userdata?path={part}"),
            ("DELETE", f"/userdata/{part}"),
            ("POST", f"/userdata/{part}"),
            ("POST", f"/userdata/x.json/move/{part}"),
            ("GET", f"/workflow_templates/toy/{part}"),
            ("GET", f"/workflow_templates/{part}/toy.json"),
            ("GET", f"/extensions/toy/{part}"),
            ("GET", f"/extensions/host/{part}"),
            ("GET", f"/assets/{part}"),
            ("GET", f"/{part}"),
            ("GET", f"/models/{part}"),
            ("GET", f"/experiment/models/{part}"),
            ("GET", f"/internal/files/{part}"),
            ("GET", f"/settings/{part}"),
        ]
    return found


def files_below(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", TRAVERSALS, ids=lambda name: repr(name[:30]))
def test_no_request_leaves_its_folder(server, secrets, name):
    protected = [*secrets, server.data / "output", server.data / "input"]
    before = files_below(*protected)
    server.post("/userdata/x.json", b"{}")
    for method, target in addresses(name):
        answer = server.raw(
            method, "/api" + target if not target.startswith(("/ext", "/ass")) else target, b"overwritten"
        )
        assert answer.status < 500, (method, target[:200], answer.body)
        assert SECRET not in answer.body and b"root:" not in answer.body, (method, target[:200])
    for upload_name, subfolder in ((name, ""), ("x.json", name)):
        if "\0" not in name:
            answer = server.upload("/upload/image", upload_name.replace('"', ""), b"{}", subfolder=subfolder)
            assert answer.status < 500, answer.body
    reference = json.dumps({"filename": name, "subfolder": "", "type": "output"})
    assert 400 <= server.upload("/upload/mask", "m.png", b"x", original_ref=reference).status < 500
    after = files_below(*secrets)
    assert after == {path: content for path, content in before.items() if path in after}
    assert (server.data / "secret.txt").read_bytes() == SECRET
    assert (server.data / "user/secret.txt").read_bytes() == SECRET
    assert not (server.data / "x.json").exists()


def test_links_are_not_listed(server, secrets):
    listed = server.get("/userdata?dir=.&recurse=true").json
    assert not [name for name in listed if "link" in name]


HOSTS = [
    ("127.0.0.1:{port}", 200),
    ("localhost:{port}", 200),
    ("comfy.localhost:{port}", 200),
    ("[::1]:{port}", 200),
    ("192.168.1.5:{port}", 200),
    ("evil.example:{port}", 403),
    ("evil.example", 403),
    ("localhost.evil.example:{port}", 403),
    ("127.0.0.1.evil.example:{port}", 403),
    ("127.0.0.1:{port}@evil.example", 403),
    ("evil.example:abc", 403),
    ("[", 403),
]


@pytest.mark.parametrize("host, status", HOSTS)
def test_a_name_that_was_re_pointed_to_this_machine_is_refused(server, host, status):
    port = urllib.parse.urlsplit(server.address).port
    host = host.format(port=port)
    for path in ("/", "/queue", "/api/prompt", "/scripts/app.js"):
        assert server.raw("GET", path, headers={"Host": host}).status == status
    origin = {"Host": host, "Origin": f"http://{host}"}  # after re-pointing, both name the attacker's site
    assert server.raw("POST", "/interrupt", headers=origin).status == status


ORIGINS = [
    ({}, 200),
    ({"Origin": "http://{netloc}"}, 200),
    ({"Origin": "http://{netloc}", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "https://{netloc}.evil.example"}, 403),
    ({"Origin": "http://127.0.0.1:1"}, 403),
    ({"Origin": "http://localhost:{port}"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": ""}, 403),
    ({"Origin": "http://["}, 403),
    ({"Origin": "file://"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "none"}, 200),
]


@pytest.mark.parametrize("headers, status", ORIGINS)
def test_another_site_cannot_send_requests(server, headers, status):
    netloc = urllib.parse.urlsplit(server.address).netloc
    headers = {name: value.format(netloc=netloc, port=netloc.split(":")[1]) for name, value in headers.items()}
    plain = {**headers, "Content-Type": "text/plain"}  # what a page can send without asking first
    assert server.raw("POST", "/interrupt", headers=plain).status == status
    assert server.raw("POST", "/api/queue", b'{"delete": []}', plain).status == status
    assert server.raw("GET", "/object_info", headers=headers).status == status


def test_a_link_from_another_site_opens_the_page_and_nothing_else(server):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.raw("GET", "/", headers=link).status == 200
    assert server.raw("GET", "/history", headers=link).status == 403
    assert server.raw("GET", "/", headers={**link, "Sec-Fetch-Dest": "iframe"}).status == 403


def test_another_site_cannot_open_a_socket(server):
    address = server.address.replace("http", "ws") + "/ws"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(address, origin="http://evil.example", timeout=10)
    websocket.create_connection(address, origin=server.address, timeout=10).close()
    websocket.create_connection(address, suppress_origin=True, timeout=10).close()


def test_no_answer_allows_other_sites_to_read_it(server):
    answer = server.raw(
        "OPTIONS", "/prompt", headers={"Origin": server.address, "Access-Control-Request-Method": "POST"}
    )
    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert server.get("/").headers["X-Frame-Options"] == "SAMEORIGIN"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"prompt":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"prompt": {"1": {"class_type": "ToyShow", "inputs": {"value": ' + b"[" * 90 + b"]" * 90 + b"}}}}",
        b'{"prompt": {"1": ' + b"9" * 10_000 + b"}}",
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": {"\\ud800": {"class_type": "\\udfff", "inputs": {}}}}',
        b'{"prompt": {"1": {"class_type": "ToyShow", "inputs": {"value": NaN}}}}',
        b'{"prompt": {"1": {"class_type": "ToyShow", "inputs": {"value": 1e999}}}}',
        b'{"number": 1' + b"0" * 400 + b', "prompt": {"1": {"class_type": "ToyShow", "inputs": {"value": 1}}}}',
        json.dumps({"prompt": {str(i): {"class_type": "ToyShow", "inputs": {}} for i in range(6000)}}).encode(),
    ],
    ids=["nested list", "nested objects", "nested input", "long number", "not utf-8", "lone surrogates", "nan", "inf",
         "huge place", "6000 nodes"],
)  # fmt: skip
def test_hostile_prompts_are_refused(server, body):
    assert server.post("/prompt", body).status == 400


def test_a_prompt_that_is_too_large_is_refused(server):
    body = b'{"prompt": "' + b"x" * (33 * 1024 * 1024) + b'"}'
    try:
        assert server.post("/prompt", body).status == 413
    except OSError:
        pass  # the host closed the connection before it had read all


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x", "gzip, gzip"])
@pytest.mark.parametrize("path", ["/prompt", "/upload/image", "/settings", "/userdata/encoded.json"])
def test_bodies_in_a_wrong_encoding_are_refused(server, encoding, path):
    form = "multipart/form-data; boundary=x" if "upload" in path else "application/json"
    for body in (b"garbage", gzip.compress(b"{}")[:-9], zlib.compress(b"{}")[1:]):
        answer = server.raw("POST", path, body, {"Content-Type": form, "Content-Encoding": encoding})
        assert answer.status < 500, answer.body


def test_a_body_that_unpacks_to_a_huge_one_is_refused(server):
    bomb = gzip.compress(b'{"prompt":"' + bytes(300 << 20) + b'"}', 1)
    before = server.rss()
    answer = server.raw("POST", "/prompt", bomb, {"Content-Encoding": "gzip"})
    assert len(bomb) < 2 << 20 and answer.status == 413
    assert server.rss() < before + (260 << 20)


def test_a_client_that_does_not_read_stops_nobody(server):
    """It asks for its socket, never reads from it, and has many prompts sent to it."""
    port = urllib.parse.urlsplit(server.address).port
    lazy = sockets.create_connection(("127.0.0.1", port))
    lazy.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    lazy.sendall(
        f"GET /ws?clientId=lazy HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    prompt_id = server.submit(graph(0.31, steps=3000, mark=str(uuid.uuid4())), "lazy")
    other = server.socket(flags={})
    own = server.submit(graph(0.32), other.sid)
    assert other.run_of(own)[-1][0] == "executing"
    assert server.finished(prompt_id)["status"]["completed"] is True
    other.close(), lazy.close()


def test_huge_and_broken_frames_end_only_their_own_socket(server):
    good = server.socket(flags={})
    for payload in (
        b"x" * (4 << 20),
        b"\xff\xfe",
        b"{" * 1000,
        b"[]",
        b'{"type": 5}',
        b'{"type":"feature_flags","data":[]}',
    ):
        bad = websocket.create_connection(server.address.replace("http", "ws") + "/ws", timeout=10)
        try:
            bad.send(payload, websocket.ABNF.OPCODE_TEXT)
            bad.send(payload, websocket.ABNF.OPCODE_BINARY)
        except OSError:
            pass  # cut off already
        bad.shutdown()
    raw = websocket.create_connection(server.address.replace("http", "ws") + "/ws", timeout=10)
    raw.sock.sendall(b"\x8f\xff" + b"\xff" * 100)  # a reserved opcode, and a length of 2**64 - 1
    raw.shutdown()
    prompt_id = server.submit(graph(0.33), good.sid)
    assert good.run_of(prompt_id)
    good.close()


def test_half_a_request_stops_nobody(server):
    port = urllib.parse.urlsplit(server.address).port
    halves = []
    for text in (
        b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /",
        b"\x16\x03\x01",
        b"",
    ):
        for _ in range(20):
            half = sockets.create_connection(("127.0.0.1", port))
            half.sendall(text)
            halves.append(half)
    assert server.get("/queue").status == 200
    for half in halves:
        half.close()


def test_too_many_sockets_are_refused_and_the_rest_go_on(server):
    address = server.address.replace("http", "ws") + "/ws"
    opened, refused = [], 0
    for _ in range(280):
        try:
            opened.append(websocket.create_connection(address, timeout=10))
        except websocket.WebSocketBadStatusException as error:
            assert error.status_code == 503
            refused += 1
    assert refused >= 20 and server.get("/queue").status == 200
    for connection in opened:
        connection.shutdown()
    end = time.monotonic() + 10
    while True:
        try:
            websocket.create_connection(address, timeout=10).close()
            return
        except websocket.WebSocketBadStatusException:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_many_threads_of_nonsense(server):
    """The host answers all the time while others send what is no HTTP."""
    port = urllib.parse.urlsplit(server.address).port

    def nonsense(seed: int) -> None:
        for i in range(20):
            with sockets.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(bytes((seed * 31 + i * 7 + j) % 256 for j in range(200)))

    threads = [threading.Thread(target=nonsense, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert server.get("/prompt").status == 200
    for thread in threads:
        thread.join()
