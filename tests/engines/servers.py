"""What the tests of engines behind HTTP share: prompts, results to compare, and servers that do not behave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp import web

from host.engines.contract import Job, JobResult
from host.engines.picture_metadata import MADE_WITH, replace_texts


def loading_graph(name: str) -> dict[str, Any]:
    """A prompt that reads an input file."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}},
    }


def silent(event: str, data: dict[str, Any]) -> None:
    """Nobody listens."""


def contents(result: JobResult) -> list[bytes]:
    """The files of a result, without what tells the engines apart."""
    return [replace_texts(file.data, {MADE_WITH: {}}) for file in result.files]


class Heard:
    """Every event of a run; `then` is called with each."""

    def __init__(self, then: Callable[[str, dict[str, Any]], None] = silent) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._then = then

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        self.events.append((event, data))
        self._then(event, data)

    def of(self, event: str) -> list[dict[str, Any]]:
        """The data of one kind of event."""
        return [data for name, data in self.events if name == event]


class Background:
    """An engine's run in a thread of its own."""

    def __init__(self, engine: Any, job: Job, emit: Callable[[str, dict[str, Any]], None] = silent) -> None:
        self.result: JobResult | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(engine, job, emit))
        self._thread.start()

    def _run(self, engine: Any, job: Job, emit: Any) -> None:
        try:
            self.result = engine.run(job, emit)
        except BaseException as error:
            self.error = error

    def wait(self, seconds: float = 200) -> JobResult:
        """The result; raises what the run raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the run does not end"
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


@contextmanager
def served(app: web.Application) -> Iterator[str]:
    """The address of an application that runs in a thread."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, shutdown_timeout=1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(start(), loop).result(60)}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def relay(address: str, frames: int | None) -> web.Application:
    """Passes requests on to a server. A WebSocket is cut after some frames; None refuses every one."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        async with aiohttp.ClientSession() as session:
            if request.path == "/ws":
                return await cut(session, request) if frames is not None else web.Response(status=503)
            body, headers = await request.read(), {"Content-Type": request.headers.get("Content-Type", "")}
            async with session.request(request.method, address + request.path_qs, data=body, headers=headers) as answer:
                return web.Response(body=await answer.read(), status=answer.status)

    async def cut(session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async with session.ws_connect(address + request.path_qs) as source:
            await source.send_str((await socket.receive()).data)
            for _ in range(frames or 0):
                message = await source.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
        await socket.close()
        return socket

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", pass_on)
    return app
