"""Clients that stop in the middle of a request are disconnected; slow ones are served."""

from __future__ import annotations

import socket as sockets
import time
import urllib.parse
from collections.abc import Iterator

import pytest

from tests.server.support import HostProcess

SECONDS = 1.0
HEAD = (
    b"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
)
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.json"\r\n\r\n'
STOPPED = {
    "nothing": b"",
    "half a header": b"GET /features HTTP/1.1\r\nHost: local",
    "a second request's half": b"GET /features HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",
    "no body": HEAD % b"prompt",
    "half a body": HEAD % b"prompt" + b'{"prompt": {',
    "half a file": HEAD % b"userdata/half.json" + b"[",
    "half an upload": HEAD % b"upload/image" + PART + b"[" + b" " * 50_000,
    "half a mask": HEAD % b"upload/mask" + PART + b"x",
}


@pytest.fixture(scope="module")
def host(toy_pack, tmp_path_factory) -> Iterator[HostProcess]:
    limits = {"MAX_HEADER_SECONDS": SECONDS, "MAX_BODY_PAUSE_SECONDS": SECONDS}
    started = HostProcess(tmp_path_factory.mktemp("impatient"), [toy_pack], limits=limits)
    yield started
    started.stop()


def connect(host: HostProcess) -> sockets.socket:
    return sockets.create_connection(("127.0.0.1", urllib.parse.urlsplit(host.address).port), timeout=20)


def read_all(connection: sockets.socket) -> bytes:
    """What the host sends until it closes the connection."""
    data = b""
    try:
        while piece := connection.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    return data


@pytest.mark.parametrize("name", STOPPED)
def test_a_client_that_stops_is_disconnected(host, name):
    start = time.monotonic()
    with connect(host) as client:
        client.sendall(STOPPED[name])
        answered = read_all(client)
    assert time.monotonic() - start > 0.8 * SECONDS
    assert answered.count(b"HTTP/1.1") == ("second" in name)
    host.wait(lambda: not list((host.data / "temp").iterdir()))
    assert not (host.data / "user/default/half.json").exists()
    assert "Traceback" not in host.errors.read_text()


def test_a_slow_upload_is_stored(host):
    """It takes three times as long as a pause may take; the headers come at once."""
    pieces = [PART, b"[", *[b" " * 1000] * 8, b"1]", b"\r\n--x--\r\n"]
    with connect(host) as client:
        client.sendall((HEAD % b"upload/image").replace(b"100000", b"%d" % sum(map(len, pieces))))
        for piece in pieces:
            client.sendall(piece)
            time.sleep(SECONDS / 4)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert (host.data / "input/a.json").read_bytes() == b"[" + b" " * 8000 + b"1]"


def test_a_slow_answer_is_not_cut(host, toy_pack):
    """The limits are for requests: a connection on which the host is still working stays open."""
    with connect(host) as client:
        client.sendall(b"GET /toy/slow?seconds=%g HTTP/1.1\r\nHost: localhost\r\n\r\n" % (3 * SECONDS))
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_socket_outlives_the_limits(host):
    socket = host.socket(flags={})
    time.sleep(2 * SECONDS)
    prompt_id = host.submit({"1": {"class_type": "ToyShow", "inputs": {"value": 2.0}}}, socket.sid)
    assert socket.run_of(prompt_id)
    socket.close()
