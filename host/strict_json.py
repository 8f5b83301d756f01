"""Values that leave the host as JSON: everything a browser's JSON.parse accepts, nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["dumps", "jsonable"]

_MAX_DEPTH = 200


def jsonable(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` of plain dicts, lists, strings, finite numbers, booleans and None.

    NaN and infinities become None: JSON has no word for them, and one of them would make a browser drop the
    whole message. Numbers of numpy and 0-d tensors become Python's; other objects become their text.
    """
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth >= _MAX_DEPTH:
        return str(value)
    if isinstance(value, dict):
        return {str(key): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars, tensors
        return jsonable(value.tolist(), depth + 1)
    return str(value)


def dumps(value: Any) -> str:
    """Write `value` as strict JSON."""
    return json.dumps(jsonable(value), allow_nan=False)
