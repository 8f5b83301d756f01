"""Writing strict JSON."""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any

from host.strict_json.shapes import jsonable

__all__ = ["dumps"]

_WRITTEN_AT_ONCE = 1 << 20  # characters of a string
_WORDS = {None: "null", True: "true", False: "false"}


def dumps(value: Any) -> str:
    """Serialize `value` as strict JSON."""
    pieces: list[str] = []
    _write(jsonable(value), pieces.append)
    return "".join(pieces)


def _write(value: Any, put: Callable[[str], None]) -> None:
    """Write what `jsonable` returns, as `json.dumps` does, which would do all of it in one step."""
    if isinstance(value, str):
        _write_text(value, put)
    elif isinstance(value, dict):
        separator = "{"
        for key, item in value.items():
            put(separator)
            _write_text(key, put)
            put(": ")
            _write(item, put)
            separator = ", "
        put("}" if value else "{}")
    elif isinstance(value, list):
        separator = "["
        for item in value:
            put(separator)
            _write(item, put)
            separator = ", "
        put("]" if value else "[]")
    else:
        put(_WORDS[value] if value is None or isinstance(value, bool) else repr(value))


def _write_text(text: str, put: Callable[[str], None]) -> None:
    if len(text) <= _WRITTEN_AT_ONCE:
        put(encode_basestring_ascii(text))
        return
    put('"')
    for at in range(0, len(text), _WRITTEN_AT_ONCE):
        put(encode_basestring_ascii(text[at : at + _WRITTEN_AT_ONCE])[1:-1])
    put('"')
