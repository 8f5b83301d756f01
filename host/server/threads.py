"""Work outside of the event loop's thread: whatever may wait for a disk, a lock or a processor."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import wraps
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

__all__ = ["entered_in_thread", "in_thread"]

_Value = TypeVar("_Value")


def in_thread(handler: Callable[[web.Request], web.StreamResponse]) -> Handler:
    """Make a route's handler from a plain function, which runs in a thread."""

    @wraps(handler)
    async def run(request: web.Request) -> web.StreamResponse:
        return await asyncio.to_thread(handler, request)

    return run


@asynccontextmanager
async def entered_in_thread(manager: AbstractContextManager[_Value]) -> AsyncIterator[_Value]:
    """Enter and leave a context manager in a thread; the block itself runs in the event loop's."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(manager.__exit__, *sys.exc_info())
