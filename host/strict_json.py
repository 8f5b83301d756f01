"""Strict JSON: what every browser's `JSON.parse` accepts, how deep it may nest, and how many values it may hold."""

from __future__ import annotations

import json
import math
from typing import Any

from host.limits import MAX_JSON_DEPTH, MAX_JSON_VALUES

__all__ = ["dumps", "jsonable", "nests_deeper_than", "parse_untrusted"]

_MAX_WRITTEN_DEPTH = 200  # values nested deeper are written as text


def jsonable(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` made of plain dicts, lists, strings, finite numbers, booleans and None.

    NaN and infinities become None: JSON cannot express them, and a single one would make a browser drop the whole
    message. NumPy numbers and 0-d tensors become Python numbers; any other object becomes its text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth >= _MAX_WRITTEN_DEPTH:
        return str(value)
    if isinstance(value, dict):
        return {str(key): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, tensors
        return jsonable(value.tolist(), depth + 1)
    return str(value)


def dumps(value: Any) -> str:
    """Serialize `value` as strict JSON."""
    return json.dumps(jsonable(value), allow_nan=False)


def parse_untrusted(text: bytes) -> Any:
    """Parse JSON that came with a request. NaN and Infinity, which Python clients write, are read as null.

    The number of values is counted before they are made: parsing holds Python's global lock, and 32 MiB of `{},{},...`
    would stop every other thread for seconds and take gigabytes.

    Raises:
        ValueError: The text is not JSON, nests deeper than `MAX_JSON_DEPTH`, or has more than `MAX_JSON_VALUES` values.
    """
    if _may_exceed(text, MAX_JSON_VALUES):
        raise ValueError(f"the JSON has more than {MAX_JSON_VALUES} values")
    try:
        value = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {str(error)[:200]}") from error
    if nests_deeper_than(value, MAX_JSON_DEPTH):
        raise ValueError(f"the JSON nests deeper than {MAX_JSON_DEPTH} levels")
    return value


def _may_exceed(text: bytes, limit: int) -> bool:
    """Return whether JSON text has more than `limit` values. Separators inside of strings are not counted."""
    if _separators(text) <= limit:
        return False
    plain = text.replace(rb"\\", b"").replace(rb"\"", b"")  # what is left of `"` begins and ends strings
    if plain.count(b'"') > 4 * limit:  # a key and a text for each value
        return True
    outside = b'"'.join(plain.split(b'"')[::2])  # a text leaves a mark, so that a list of one text is not an empty one
    return _separators(outside) > limit


def _separators(text: bytes) -> int:
    """Return how many commas and brackets precede a value: one for each value but the first."""
    opening = text.count(b"[") + text.count(b"{") - text.count(b"[]") - text.count(b"{}")
    return text.count(b",") + opening


def nests_deeper_than(value: Any, limit: int) -> bool:
    """Return whether lists and objects in `value` nest more than `limit` deep.

    Goes level by level instead of recursing, so that hostile input cannot exhaust the stack.
    """
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        level = [child for container in level for child in _inner_containers(container)]
        if not level:
            return False
    return bool(level)


def _inner_containers(container: dict[str, Any] | list[Any]) -> list[Any]:
    children = container.values() if isinstance(container, dict) else container
    return [child for child in children if isinstance(child, (dict, list))]
