"""How an answer of the pack becomes an HTTP route of the host's server (aiohttp's, in ComfyUI and here)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..ddim import DDIMError
from .bridge import add_route

__all__ = ["MAX_BODY", "serve"]

_log = logging.getLogger(__name__)

MAX_BODY = 1_000_000  # bytes: a config with a thousand trained_betas is 25 kB

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def serve(path: str, answer: Answer) -> None:
    """Serve ``answer(JSON object) -> JSON object`` under POST ``path``; a DDIMError is status 400 with its sentence."""

    async def handler(request: Any) -> Any:
        from aiohttp import web

        try:
            given = parse(await _body(request))
            # In a thread: the server must go on serving while a long schedule is computed.
            return web.json_response(await asyncio.to_thread(answer, given))
        except DDIMError as error:
            return web.json_response({"error": str(error)}, status=400)

    add_route("POST", path, handler)


def parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object in a request's body.

    Raises:
        DDIMError: for anything else.
    """
    try:
        given = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DDIMError(f"the request must be a JSON object, got {body[:60]!r} ({error})") from error
    if not isinstance(given, dict):
        raise DDIMError(f"the request must be a JSON object, got {type(given).__name__}")
    return given


async def _body(request: Any) -> bytes:
    """The body, read in pieces and no further than MAX_BODY: the host's own limit is for pictures."""
    body = bytearray()
    async for piece in request.content.iter_chunked(65536):
        body += piece
        if len(body) > MAX_BODY:
            raise DDIMError(f"the request must be at most {MAX_BODY} bytes; send the scheduler's config alone")
    return bytes(body)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows")
