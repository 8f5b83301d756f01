"""HTTP and WebSocket requests to one server, on an event loop in a thread of its own. Answers are bounded in size."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import aiohttp

from host.engines.contract import EngineError
from host.error_format import shorten
from host.strict_json import nests_deeper_than

__all__ = ["MAX_FILE_BYTES", "Answer", "Client", "Unreachable", "server_address"]

MAX_FILE_BYTES = 1 << 30  # of one file that a node wrote
_MAX_ANSWER_BYTES = 128 << 20  # of JSON: a large ComfyUI describes its nodes in 10 MiB
_MAX_FRAME_BYTES = 64 << 20
_MAX_DEPTH = 100  # nested lists and objects in an answer
_CONNECT_SECONDS = 15.0
_PAUSE_SECONDS = 120.0  # without anything of an answer: a server that loads a model may be silent for long
_HEARTBEAT_SECONDS = 60.0
_CLOSE_SECONDS = 5.0

_Value = TypeVar("_Value")


class Unreachable(Exception):
    """A request had no answer: the server is down, or the connection broke."""


class Answer(NamedTuple):
    """The answer to a request: its status, and its JSON, or None if it holds none."""

    status: int
    body: Any


def server_address(text: str) -> str:
    """Return an address such as "http://127.0.0.1:8188" in its plain form.

    Raises:
        EngineError: It is not the address of an HTTP server.
    """
    expected = f"expected an address such as http://127.0.0.1:8188, got {shorten(text, 200)!r}"
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise EngineError(expected) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise EngineError(expected)
    if parts.username is not None or parts.password is not None:
        raise EngineError("the address of a server must not hold a password, which would be shown in messages")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


class Client:
    """Requests to one server.

    Args:
        address: The server, as `server_address` returns it.

    Attributes:
        address: The server.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._loop = asyncio.new_event_loop()
        self._session: aiohttp.ClientSession | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"client of {address}", daemon=True)
        self._closing = threading.Lock()
        self._thread.start()

    # -- the event loop's thread

    @property
    def is_closed(self) -> bool:
        """Whether no request can be made any more."""
        return self._loop.is_closed()

    def call(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Run a coroutine on the event loop, from any other thread, and return its result."""
        return self.submit(work).result()

    def submit(self, work: Coroutine[Any, Any, _Value]) -> concurrent.futures.Future[_Value]:
        """Start a coroutine on the event loop, and return its future result. Raises Unreachable once it is closed."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise Unreachable("the connection was closed here") from error

    def close(self) -> None:
        """Close all connections and end the thread. May be called more than once."""
        with self._closing:
            if self._loop.is_closed():
                return
            try:
                asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_CLOSE_SECONDS)
            except concurrent.futures.TimeoutError:
                pass  # a connection that does not close is dropped with its thread
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        await self._loop.shutdown_default_executor()

    # -- requests, on the event loop

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Send a GET request. Raises Unreachable, or EngineError for an answer that is too large or no JSON."""
        async with self._request("GET", path, params=dict(query or {})) as response:
            return await _read_answer(response)

    async def post(self, path: str, body: Any) -> Answer:
        """Send JSON. Raises as `get`."""
        async with self._request("POST", path, json=body) as response:
            return await _read_answer(response)

    async def upload(self, path: str, name: str, data: bytes, fields: Mapping[str, str]) -> Answer:
        """Send a form with a file, which it calls `image` whatever it is. Raises as `get`."""
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("image", data, filename=name, content_type="application/octet-stream")
        for key, value in fields.items():
            form.add_field(key, value)
        async with self._request("POST", path, data=form) as response:
            return await _read_answer(response)

    async def download(self, path: str, query: Mapping[str, str], limit: int = MAX_FILE_BYTES) -> bytes | None:
        """Return a file's content, or None if there is no such file.

        Raises:
            Unreachable: There is no answer.
            EngineError: The file is larger than `limit` bytes.
        """
        async with self._request("GET", path, params=dict(query)) as response:
            return await _read_bytes(response, limit) if response.status == 200 else None

    @asynccontextmanager
    async def websocket(self, client_id: str) -> AsyncIterator[Any]:
        """Open the WebSocket, for the block. Raises Unreachable."""
        try:
            async with self._opened_session().ws_connect(
                f"{self.address}/ws",
                params={"clientId": client_id},
                max_msg_size=_MAX_FRAME_BYTES,
                heartbeat=_HEARTBEAT_SECONDS,
            ) as socket:
                yield socket
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise Unreachable(_cause(error)) from error

    def _opened_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_PAUSE_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session

    @asynccontextmanager
    async def _request(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request. Redirections are not followed: they could lead to other machines."""
        try:
            async with self._opened_session().request(
                method, self.address + path, allow_redirects=False, **options
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise Unreachable(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """Return the cause of a broken connection in words."""
    if isinstance(error, asyncio.TimeoutError):
        return "it does not answer in time"
    cause = getattr(error, "os_error", None) or error
    return shorten(getattr(cause, "strerror", None) or str(cause) or type(error).__name__, 200)


async def _read_bytes(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise EngineError(f"the server's answer to {response.url.path} has more than {limit} bytes")
    return bytes(data)


async def _read_answer(response: aiohttp.ClientResponse) -> Answer:
    data = await _read_bytes(response, _MAX_ANSWER_BYTES)
    return Answer(response.status, await asyncio.to_thread(_parse, data) if len(data) > 1 << 16 else _parse(data))


def _parse(data: bytes) -> Any:
    """Return the JSON in an answer. Whatever is no JSON, or nests too deeply, counts as none."""
    try:
        value = json.loads(data, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return None if nests_deeper_than(value, _MAX_DEPTH) else value
