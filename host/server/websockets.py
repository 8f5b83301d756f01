"""The open WebSockets: the connected clients, their features, and what remains to be sent to each.

Everything here runs on the event loop's thread. Each client has its own writer and its own bounded backlog: a client
that does not read costs the others nothing, loses previews first, and is disconnected when its backlog is full.
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

from host.limits import MAX_WEBSOCKETS
from host.server.json_http import http_error
from host.strict_json import dumps

__all__ = ["MAX_CLIENT_ID_LENGTH", "Frame", "WebSockets"]

log = logging.getLogger(__name__)

MAX_CLIENT_ID_LENGTH = 128
MAX_RECEIVED_BYTES = 1 << 20  # of one frame; the frontend's own frames are a few hundred bytes
MAX_BACKLOG_BYTES = 32 << 20  # not yet sent to one client
MAX_BACKLOG_BEFORE_PREVIEWS = 4 << 20  # with a larger backlog, previews are skipped
HEARTBEAT_SECONDS = 60.0  # a client that is gone, or reads nothing for half of this after a ping, frees its place
_CLOSE_SECONDS = 1.0

Frame = str | bytes


@dataclass(eq=False)
class _Client:
    """One client: its socket, and the frames not yet sent to it."""

    socket: web.WebSocketResponse
    abort: Callable[[], None]
    flags: dict[str, Any] = field(default_factory=dict)
    backlog: deque[Frame] = field(default_factory=deque)
    backlog_bytes: int = 0
    is_cut_off: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, frame: Frame) -> None:
        """Queue a frame. Skips a preview, or disconnects the client, if the backlog is too large."""
        if isinstance(frame, bytes) and self.backlog_bytes > MAX_BACKLOG_BEFORE_PREVIEWS:
            return
        self.backlog.append(frame)
        self.backlog_bytes += len(frame)
        if self.backlog_bytes > MAX_BACKLOG_BYTES and not self.is_cut_off:
            self.is_cut_off = True
            log.warning("a client does not read its messages; its connection is cut")
            self.abort()
        self.wake.set()

    async def write(self) -> None:
        """Send the backlog in order until the socket closes."""
        while not self.socket.closed:
            while self.backlog:
                frame = self.backlog.popleft()
                self.backlog_bytes -= len(frame)
                await (self.socket.send_bytes(frame) if isinstance(frame, bytes) else self.socket.send_str(frame))
            self.wake.clear()
            await self.wake.wait()


class WebSockets:
    """Sends events to one client or to all, in the order in which they are published.

    Args:
        features: The host's features, sent to a client that announces its own.

    Attributes:
        status: Returns the data of a `status` event; called in a thread, because it asks the job store.
        greeting: Returns the events to send to a client that has just connected, given its id and that status.
        log_readers: Ids of the clients that want to see the host's log.
    """

    def __init__(self, features: dict[str, Any]) -> None:
        self.status: Callable[[], dict[str, Any]] = dict
        self.greeting: Callable[[str, dict[str, Any]], list[tuple[str, Any]]] = lambda client_id, status: []
        self.log_readers: set[str] = set()
        self._clients: dict[str, _Client] = {}
        self._sockets: set[_Client] = set()
        self._features = features

    def publish(self, event: str, data: Any, client_id: str | None = None) -> None:
        """Queue one JSON event for a client, or for all if `client_id` is None."""
        receivers = self._receivers(client_id)
        frame = dumps({"type": event, "data": data}) if receivers else ""
        for client in receivers:
            client.put(frame)

    def publish_frame(self, frame: Frame, client_id: str) -> None:
        """Queue one encoded frame for a client."""
        for client in self._receivers(client_id):
            client.put(frame)

    def publish_log(self, lines: dict[str, Any]) -> None:
        """Queue log lines for the clients that subscribed to them."""
        for client_id in self.log_readers:
            self.publish("logs", lines, client_id)

    def supports(self, client_id: str, feature: str) -> bool:
        """Return whether a client is connected and announced `feature`."""
        client = self._clients.get(client_id)
        return client is not None and bool(client.flags.get(feature))

    def connected(self, client_id: str) -> bool:
        """Return whether a client is connected."""
        return client_id in self._clients

    def __len__(self) -> int:
        return len(self._sockets)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one socket for as long as it is open.

        A client that reconnects with its old id replaces its old socket, which may not have noticed yet that it is
        dead.
        """
        client_id = request.query.get("clientId", "")[:MAX_CLIENT_ID_LENGTH] or uuid.uuid4().hex
        if len(self._sockets) >= MAX_WEBSOCKETS:
            raise http_error(503, f"more than {MAX_WEBSOCKETS} clients are connected")
        socket = web.WebSocketResponse(
            max_msg_size=MAX_RECEIVED_BYTES, timeout=_CLOSE_SECONDS, heartbeat=HEARTBEAT_SECONDS
        )
        status = await asyncio.to_thread(self.status)
        try:
            await socket.prepare(request)
        except ValueError as error:  # a key that is no Base64, for one
            raise http_error(400, "the handshake of the web socket is malformed") from error
        client = _Client(socket, abort=lambda: _abort(request))
        self._clients[client_id] = client
        self._sockets.add(client)
        writer = asyncio.create_task(client.write())
        for event, data in self.greeting(client_id, status):
            client.put(dumps({"type": event, "data": data}))
        try:
            await self._listen(client)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self._sockets.discard(client)
            if self._clients.get(client_id) is client:
                del self._clients[client_id]
                self.log_readers.discard(client_id)
        return socket

    async def close(self) -> None:
        """Close every socket, so that pages notice at once and try to reconnect."""

        async def close(client: _Client) -> None:
            try:
                await asyncio.wait_for(client.socket.close(code=1001, message=b"the host stops"), _CLOSE_SECONDS)
            except (TimeoutError, asyncio.TimeoutError, ConnectionError, RuntimeError):
                client.abort()

        await asyncio.gather(*(close(client) for client in list(self._sockets)))

    def _receivers(self, client_id: str | None) -> list[_Client]:
        if client_id is None:
            return list(self._sockets)
        return [self._clients[client_id]] if client_id in self._clients else []

    async def _listen(self, client: _Client) -> None:
        """Read the client's frames. Only the first one matters, if it announces the client's features."""
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
