"""JSON in from strangers, JSON out to browsers: one limit, one error shape, no NaN."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from host.payload import dumps

__all__ = ["MAX_BODY_BYTES", "MAX_DEPTH", "integer", "problem", "read_json", "read_object", "reply"]

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 100
_EXCEPTIONS: dict[int, type[web.HTTPException]] = {
    400: web.HTTPBadRequest,
    403: web.HTTPForbidden,
    404: web.HTTPNotFound,
    409: web.HTTPConflict,
    415: web.HTTPUnsupportedMediaType,
    503: web.HTTPServiceUnavailable,
}


def reply(value: Any, status: int = 200) -> web.Response:
    """A JSON response."""
    return web.Response(text=dumps(value), status=status, content_type="application/json")


def problem(status: int, message: str) -> web.HTTPException:
    """The one shape of an error: ``{"error": message}`` with its status, to be raised."""
    return _EXCEPTIONS[status](text=dumps({"error": message}), content_type="application/json")


async def read_json(request: web.Request) -> Any:
    """The body as JSON whatever its content type says (many clients name none).

    Raises:
        web.HTTPException: 400 for a body that is no JSON or nests too deep, 413 for one over ``MAX_BODY_BYTES``.

    NaN and Infinity, which Python clients and old pictures' metadata write, are read as null.
    """
    body = await request.read()
    try:
        value = json.loads(body, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise problem(400, f"the body is not valid JSON: {str(error)[:200]}") from error
    if _depth_exceeds(value, MAX_DEPTH):
        raise problem(400, f"the JSON nests deeper than {MAX_DEPTH} levels")
    return value


async def read_object(request: web.Request, *, empty: bool = False) -> dict[str, Any]:
    """The body as a JSON object; an empty body counts as ``{}`` where ``empty`` is set."""
    if empty and not await request.read():
        return {}
    value = await read_json(request)
    if not isinstance(value, dict):
        raise problem(400, f"expected a JSON object, got {type(value).__name__}")
    return value


def integer(request: web.Request, name: str, *, minimum: int | None = None) -> int | None:
    """The query parameter ``name`` as an integer, None where it is absent; 400 where it is none or too small."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = int(text[:20])
    except ValueError as error:
        raise problem(400, f"{name} must be an integer") from error
    if minimum is not None and value < minimum:
        raise problem(400, f"{name} must be {minimum} or more")
    return min(value, 2**53)


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Walks level by level: no recursion, so that hostile nesting costs nothing."""
    level = [value]
    for _ in range(limit):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [child for child in item.values() if isinstance(child, (dict, list))]
    if isinstance(item, list):
        return [child for child in item if isinstance(child, (dict, list))]
    return []
