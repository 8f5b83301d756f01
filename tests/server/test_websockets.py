"""The backlog of one client: bounded, in order, previews dropped first."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from host.server import websockets
from host.server.websockets import WebSockets, _Client


class Socket:
    """A socket that sends nothing until it is opened, then notes what it sends."""

    closed = False

    def __init__(self) -> None:
        self.open, self.sent = asyncio.Event(), []

    async def send_str(self, frame):
        await self.open.wait()
        self.sent.append(frame)

    send_bytes = send_str


def test_a_client_that_reads_gets_everything_in_order():
    async def check():
        socket = Socket()
        socket.open.set()
        client = _Client(socket, abort=lambda: None)
        frames = [f"text {i}" if i % 3 else b"preview" + bytes([i]) for i in range(200)]  # a burst
        for frame in frames:
            client.put(frame)
        writer = asyncio.create_task(client.write())
        while len(socket.sent) < len(frames):
            await asyncio.sleep(0)
        writer.cancel()
        assert socket.sent == frames and client.backlog_bytes == 0

    asyncio.run(check())


def test_a_client_that_does_not_read_loses_previews_then_its_connection():
    async def check():
        cuts = []
        client = _Client(Socket(), abort=lambda: cuts.append(1))
        text, preview = "t" * (1 << 20), b"p" * (1 << 20)
        for _ in range(20):
            client.put(preview)
        assert client.backlog_bytes <= websockets.MAX_BACKLOG_BEFORE_PREVIEWS + len(preview)
        for _ in range(20):
            client.put(text)
        assert cuts == []
        for _ in range(20):
            client.put(text)
        assert cuts == [1]

    asyncio.run(check())


def test_a_silent_socket_frees_its_place(monkeypatch):
    """A client that answers no ping is disconnected; one that does stays."""
    monkeypatch.setattr(websockets, "HEARTBEAT_SECONDS", 0.2)

    async def check():
        clients = WebSockets({})
        app = web.Application()
        app.router.add_get("/ws", clients.connect)
        async with TestServer(app) as server, ClientSession() as session:
            silent = await session.ws_connect(server.make_url("/ws"), autoping=False)
            good = await session.ws_connect(server.make_url("/ws"))
            reading = asyncio.create_task(good.receive())
            assert len(clients) == 2
            while len(clients) > 1:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            assert len(clients) == 1 and not reading.done()
            await good.close()
            await silent.close()
            reading.cancel()

    asyncio.run(asyncio.wait_for(check(), 60))
