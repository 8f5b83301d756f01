"""How a function from JSON to JSON, or a file, becomes an HTTP route of the host's server (aiohttp in both hosts)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ...ddim import DDIMError
from ..backend import current

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["MAX_BODY", "parse", "serve", "serve_file", "serve_lookup", "serve_table"]

MAX_BODY = 1_000_000  # bytes: a config with a thousand trained_betas is 25 kB
CHUNK = 65_536  # bytes read at once
LONGEST_WAIT = 10.0  # seconds that a request waits for a file
BETWEEN_LOOKS = 0.02
IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
MAX_SHOWN = 60  # bytes of a wrong body in an error message

Answer: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def serve(path: str, answer: Answer) -> None:
    """Serve ``answer(JSON object) -> JSON object`` under POST ``path``; a DDIMError is status 400 with its message.

    Args:
        path: Starts with ``/``.
        answer: Runs in a thread, because the server must keep serving while a long schedule is computed.
    """

    async def handler(request: web.Request) -> web.StreamResponse:
        from aiohttp import web  # only where a server runs

        try:
            given = parse(await _read_body(request))
            return web.json_response(await asyncio.to_thread(answer, given))
        except DDIMError as error:
            return web.json_response({"error": str(error)}, status=400)

    current().add_route("POST", path, handler)


def serve_table(path: str, table: Mapping[str, Any]) -> None:
    """Serve a JSON object that never changes under GET ``path``, which starts with ``/``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        from aiohttp import web  # only where a server runs

        return web.json_response(dict(table))

    current().add_route("GET", path, handler)


def serve_file(path: str, file_of: Callable[[str], Path | None]) -> None:
    """Serve files that runs write, under GET ``path/NAME``; one that is not there yet is waited for.

    Args:
        path: Starts with ``/``.
        file_of: The file of a name, which comes from a stranger; None for one that cannot exist.
    """

    async def handler(request: web.Request) -> web.StreamResponse:
        from aiohttp import web  # only where a server runs

        file = file_of(request.match_info["name"])
        data = None if file is None else await _when_there(file)
        if file is None or data is None:
            return web.json_response({"error": "there is no such file; run the node again"}, status=404)
        headers = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=data, content_type=IMAGE_TYPES[file.suffix], headers=headers)

    current().add_route("GET", path + "/{name}", handler)


def serve_lookup(path: str, find: Callable[[str], Mapping[str, Any] | None]) -> None:
    """Serve ``find(NAME)`` as JSON under GET ``path/NAME``; None is status 404.

    Args:
        path: Starts with ``/``.
        find: Gets a name that comes from a stranger; runs in a thread.
    """

    async def handler(request: web.Request) -> web.StreamResponse:
        from aiohttp import web  # only where a server runs

        found = await asyncio.to_thread(find, request.match_info["name"])
        if found is None:
            return web.json_response({"error": "there is nothing of that name"}, status=404)
        return web.json_response(found)

    current().add_route("GET", path + "/{name}", handler)


async def _when_there(file: Path) -> bytes | None:
    """Return the content of a file as soon as it is there; the process that writes it may be another one."""
    end = time.monotonic() + LONGEST_WAIT
    while (data := await asyncio.to_thread(_content, file)) is None and time.monotonic() < end:
        await asyncio.sleep(BETWEEN_LOOKS)
    return data


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:  # not there yet, or a temp folder that cannot be read
        return None


def parse(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        DDIMError: For anything else.
    """
    try:
        given = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DDIMError(f"the request must be a JSON object, got {body[:MAX_SHOWN]!r} ({error})") from error
    if not isinstance(given, dict):
        raise DDIMError(f"the request must be a JSON object, got {type(given).__name__}")
    return given


async def _read_body(request: web.Request) -> bytes:
    """Read at most MAX_BODY bytes: the host's own limit is made for images."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > MAX_BODY:
            raise DDIMError(f"the request must be at most {MAX_BODY} bytes; send the scheduler's config alone")
    return bytes(body)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
