"""What strangers may send without stopping the host for everybody else."""

from __future__ import annotations

import gzip
import json
import resource
import socket as sockets
import threading
import time
import urllib.parse
import uuid
import zlib

import pytest
import websocket

from tests.server.support import HostProcess, graph


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


def test_a_malformed_handshake_is_refused(server):
    """A key that is no Base64 is answered 400 by aiohttp; one that is no ASCII was an error of the host."""
    address = urllib.parse.urlsplit(server.address)
    for key in (b"AAAA", b"\x80AAAAAAAAAAAAAAAAAAAAA=="):
        with sockets.create_connection((address.hostname, address.port), timeout=60) as connection:
            connection.sendall(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


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


def test_idle_connections_use_up_nothing(toy_pack, tmp_path):
    """More of them than a process may have open files by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this machine allows no more open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    idle = []
    try:
        host = HostProcess(tmp_path / "data", [toy_pack], files=1024)
        port = urllib.parse.urlsplit(host.address).port
        for _ in range(1500):
            idle.append(sockets.create_connection(("127.0.0.1", port)))
        assert host.get("/queue").status == 200 and host.get("/").status == 200
        host.stop()
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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
