"""The open web sockets: who is connected, what each can show, and what each still has to be sent.

Everything here runs on the event loop's thread. Each socket has its own writer and its own bounded backlog: a client
that does not read costs the others nothing, loses previews first, and is cut off when its backlog is full.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from host.payload import dumps

from .wire import problem

__all__ = ["Hub"]

log = logging.getLogger(__name__)

MAX_SOCKETS = 256
MAX_FRAME_BYTES = 1 << 20  # of what a client sends; the frontend's own frames are a few hundred bytes
MAX_BACKLOG_BYTES = 32 << 20  # of what waits for one client
MAX_BACKLOG_BEFORE_PREVIEWS = 4 << 20  # with more than that waiting, previews are left out
MAX_SID_LENGTH = 128
_CLOSE_SECONDS = 1.0

Frame = str | bytes


@dataclass(eq=False)
class _Client:
    """One socket with what waits to be sent on it."""

    socket: web.WebSocketResponse
    abort: Callable[[], None]
    flags: dict[str, Any] = field(default_factory=dict)
    backlog: deque[Frame] = field(default_factory=deque)
    waiting: int = 0  # bytes of the backlog
    cut: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, frame: Frame) -> None:
        if isinstance(frame, bytes) and self.waiting > MAX_BACKLOG_BEFORE_PREVIEWS:
            return
        self.backlog.append(frame)
        self.waiting += len(frame)
        if self.waiting > MAX_BACKLOG_BYTES and not self.cut:
            self.cut = True
            log.warning("a client does not read its messages; its connection is cut")
            self.abort()
        self.wake.set()

    async def write(self) -> None:
        """Sends the backlog in order until the socket closes."""
        while not self.socket.closed:
            while self.backlog:
                frame = self.backlog.popleft()
                self.waiting -= len(frame)
                await (self.socket.send_bytes(frame) if isinstance(frame, bytes) else self.socket.send_str(frame))
            self.wake.clear()
            await self.wake.wait()


class Hub:
    """Sends events to one client or to all, in the order in which they are published.

    Args:
        features: what this host can do, the answer to a client that names its own features.

    Attributes:
        greeting: gives the events to send to a client that has just connected, from its sid.
        log_readers: sids of the clients that want to see the host's log.
    """

    def __init__(self, features: dict[str, Any]) -> None:
        self.greeting: Callable[[str], list[tuple[str, Any]]] = lambda sid: []
        self.log_readers: set[str] = set()
        self._clients: dict[str, _Client] = {}
        self._sockets: set[_Client] = set()
        self._features = features

    def publish(self, event: str, data: Any, sid: str | None = None) -> None:
        """Queues one JSON event for client ``sid``, or for all where it is None."""
        frame = dumps({"type": event, "data": data})
        for client in self._receivers(sid):
            client.put(frame)

    def publish_bytes(self, frame: bytes, sid: str) -> None:
        """Queues one binary frame for client ``sid``."""
        for client in self._receivers(sid):
            client.put(frame)

    def publish_log(self, lines: dict[str, Any]) -> None:
        """Queues log lines for the clients that asked for them."""
        for sid in self.log_readers:
            self.publish("logs", lines, sid)

    def supports(self, sid: str, feature: str) -> bool:
        """Whether client ``sid`` is connected and announced ``feature``."""
        client = self._clients.get(sid)
        return client is not None and bool(client.flags.get(feature))

    def connected(self, sid: str) -> bool:
        """Whether client ``sid`` is connected."""
        return sid in self._clients

    def __len__(self) -> int:
        return len(self._sockets)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Serves one socket for as long as it is open.

        A client that comes back with its old sid takes the place of its old socket, which may not have noticed yet
        that it is dead.
        """
        sid = request.query.get("clientId", "")[:MAX_SID_LENGTH] or uuid.uuid4().hex
        if len(self._sockets) >= MAX_SOCKETS:
            raise problem(503, f"more than {MAX_SOCKETS} clients are connected")
        socket = web.WebSocketResponse(max_msg_size=MAX_FRAME_BYTES, timeout=_CLOSE_SECONDS)
        await socket.prepare(request)
        client = _Client(socket, abort=lambda: _abort(request))
        self._clients[sid] = client
        self._sockets.add(client)
        writer = asyncio.create_task(client.write())
        for event, data in self.greeting(sid):
            client.put(dumps({"type": event, "data": data}))
        try:
            await self._listen(client)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self._sockets.discard(client)
            if self._clients.get(sid) is client:
                del self._clients[sid]
                self.log_readers.discard(sid)
        return socket

    async def close(self) -> None:
        """Closes every socket, so that pages notice at once and look for the next host."""

        async def close(client: _Client) -> None:
            try:
                await asyncio.wait_for(client.socket.close(code=1001, message=b"the host stops"), _CLOSE_SECONDS)
            except (TimeoutError, asyncio.TimeoutError, ConnectionError, RuntimeError):
                client.abort()

        await asyncio.gather(*(close(client) for client in list(self._sockets)))

    def _receivers(self, sid: str | None) -> list[_Client]:
        if sid is None:
            return list(self._sockets)
        return [self._clients[sid]] if sid in self._clients else []

    async def _listen(self, client: _Client) -> None:
        """Reads the client's frames; only the first one, with its features, means something."""
        first = True
        async for message in client.socket:
            if message.type is WSMsgType.TEXT and first:
                self._read_features(client, message.data)
            first = False

    def _read_features(self, client: _Client, text: str) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict) or message.get("type") != "feature_flags":
            return
        flags = message.get("data")
        client.flags = flags if isinstance(flags, dict) else {}
        client.put(dumps({"type": "feature_flags", "data": self._features}))


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
