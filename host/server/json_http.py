"""JSON requests and responses: untrusted input in, strict JSON out, one shape of error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from host.error_format import shorten
from host.strict_json import dumps, parse_untrusted

__all__ = [
    "LARGE_BODY_SLOT",
    "http_error",
    "json_response",
    "json_stream",
    "one_large_body_at_a_time",
    "query_integer",
    "read_id_list",
    "read_json",
    "read_object",
]

LARGE_BODY_SLOT = web.AppKey("large_body_slot", asyncio.Semaphore)
_LARGE_BODY = 64 << 10  # bytes; a larger one is parsed in a thread, one after another
_SENT_AT_ONCE = 1 << 20  # characters of one piece
_HOLDS_SLOT = "holds_large_body_slot"

_EXCEPTIONS: dict[int, type[web.HTTPException]] = {
    400: web.HTTPBadRequest,
    403: web.HTTPForbidden,
    404: web.HTTPNotFound,
    409: web.HTTPConflict,
    415: web.HTTPUnsupportedMediaType,
    503: web.HTTPServiceUnavailable,
}


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a response with strict JSON."""
    return web.Response(text=dumps(value), status=status, content_type="application/json")


async def json_stream(request: web.Request, pieces: AsyncIterator[str] | Iterable[str]) -> web.StreamResponse:
    """Send a response with JSON that comes in pieces, each as soon as the client has room for it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    async for piece in _one_after_another(pieces):
        for start in range(0, len(piece), _SENT_AT_ONCE):
            await response.write(piece[start : start + _SENT_AT_ONCE].encode())
    return response


async def _one_after_another(pieces: AsyncIterator[str] | Iterable[str]) -> AsyncIterator[str]:
    if isinstance(pieces, AsyncIterator):
        async for piece in pieces:
            yield piece
    else:
        for piece in pieces:
            yield piece


def http_error(status: int, message: str) -> web.HTTPException:
    """Return the exception to raise for an error response: `{"error": message}`, shortened, with its status."""
    return _EXCEPTIONS[status](text=dumps({"error": shorten(message)}), content_type="application/json")


async def read_json(request: web.Request) -> Any:
    """Return the body parsed as JSON, whatever its content type says (many clients send none).

    NaN and Infinity, which Python clients and old pictures' metadata contain, are read as null.

    Raises:
        web.HTTPException: 400 if the body is not JSON, nests too deeply or holds too many values, 413 if it exceeds
            `MAX_BODY_BYTES`.
    """
    body = await request.read()
    if len(body) <= _LARGE_BODY:
        return _parse(body)
    await _claim_slot(request)
    return await asyncio.to_thread(_parse, body)


def _parse(body: bytes) -> Any:
    try:
        return parse_untrusted(body)
    except ValueError as error:
        raise http_error(400, f"the body cannot be read: {error}") from error


async def _claim_slot(request: web.Request) -> None:
    """Wait until no other request holds a large body. `one_large_body_at_a_time` ends the claim."""
    if not request.get(_HOLDS_SLOT):
        await request.app[LARGE_BODY_SLOT].acquire()
        request[_HOLDS_SLOT] = True


@web.middleware
async def one_large_body_at_a_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Free the slot of a large body after its request: what was parsed from it may take ten times its size."""
    try:
        return await handler(request)
    finally:
        if request.get(_HOLDS_SLOT):
            request.app[LARGE_BODY_SLOT].release()


async def read_object(request: web.Request, *, allow_empty: bool = False) -> dict[str, Any]:
    """Return the body as a JSON object; with `allow_empty`, an empty body counts as `{}`."""
    if allow_empty and not await request.read():
        return {}
    value = await read_json(request)
    if not isinstance(value, dict):
        raise http_error(400, f"expected a JSON object, got {type(value).__name__}")
    return value


def read_id_list(body: dict[str, Any], name: str) -> list[str]:
    """Return the list of ids at `body[name]`; an absent one is empty, and anything else is answered 400."""
    ids = body.get(name, [])
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise http_error(400, f"{name} must be a list of ids")
    return ids


def query_integer(request: web.Request, name: str, *, minimum: int | None = None) -> int | None:
    """Return the query parameter `name` as an integer, or None if it is absent.

    Raises:
        web.HTTPException: 400 if it is not an integer, or below `minimum`.
    """
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = int(text[:20])
    except ValueError as error:
        raise http_error(400, f"{name} must be an integer") from error
    if minimum is not None and value < minimum:
        raise http_error(400, f"{name} must be {minimum} or more")
    return min(value, 2**53)
