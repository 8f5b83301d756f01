"""A bridge from plain functions to nodes' async methods."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["settle"]


def settle(value: Any) -> Any:
    """Return `value`, or what it gives when it is a coroutine, run to its end here and now."""
    if not inspect.iscoroutine(value):
        return value
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, value).result()
