"""JSON requests and responses: untrusted input in, strict JSON out, one shape of error."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from host.limits import MAX_JSON_DEPTH
from host.strict_json import dumps, nests_deeper_than

__all__ = ["http_error", "json_response", "query_integer", "read_id_list", "read_json", "read_object"]

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


def http_error(status: int, message: str) -> web.HTTPException:
    """Return the exception to raise for an error response: `{"error": message}` with its status."""
    return _EXCEPTIONS[status](text=dumps({"error": message}), content_type="application/json")


async def read_json(request: web.Request) -> Any:
    """Return the body parsed as JSON, whatever its content type says (many clients send none).

    NaN and Infinity, which Python clients and old pictures' metadata contain, are read as null.

    Raises:
        web.HTTPException: 400 if the body is not JSON or nests too deeply, 413 if it exceeds `MAX_BODY_BYTES`.
    """
    body = await request.read()
    try:
        value = json.loads(body, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise http_error(400, f"the body is not valid JSON: {str(error)[:200]}") from error
    if nests_deeper_than(value, MAX_JSON_DEPTH):
        raise http_error(400, f"the JSON nests deeper than {MAX_JSON_DEPTH} levels")
    return value


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
