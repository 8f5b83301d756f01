"""The shapes of JSON values: plain copies of Python's objects, and how deep lists and objects nest."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["MAX_WRITTEN_DEPTH", "jsonable", "nests_deeper_than"]

MAX_WRITTEN_DEPTH = 200  # values nested deeper are written as text


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
    if depth >= MAX_WRITTEN_DEPTH:
        return str(value)
    if isinstance(value, dict):
        return {str(key): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, tensors
        return jsonable(value.tolist(), depth + 1)
    return str(value)


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
