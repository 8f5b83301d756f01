"""How long a client may take to send a request.

A request's headers must be complete after some time; the server's own limit on idle connections sees to that
(`keepalive_timeout`), because it does not look at what a connection has sent so far. A body may take as long as it
likes while it makes progress.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from host.limits import MAX_BODY_PAUSE_SECONDS

__all__ = ["close_paused_bodies"]

log = logging.getLogger(__name__)

_LOOKS = 10  # at the body, in the time that a pause may take


@web.middleware
async def close_paused_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Close the connection of a client that sends nothing of its body for `MAX_BODY_PAUSE_SECONDS`."""
    if request.content.is_eof():
        return await handler(request)
    watch = asyncio.create_task(_watch_body(request))
    try:
        return await handler(request)
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


async def _watch_body(request: web.Request) -> None:
    content, transport = request.content, request.transport
    received, pauses = 0, 0
    while transport is not None and not content.is_eof() and pauses < _LOOKS:
        await asyncio.sleep(MAX_BODY_PAUSE_SECONDS / _LOOKS)
        # The transport does not read while the host has enough to work on: then the client is not the one to wait for.
        is_paused = content.total_bytes == received and transport.is_reading()
        received, pauses = content.total_bytes, pauses + 1 if is_paused else 0
    if pauses == _LOOKS and transport is not None:
        log.info("%s %r: the body has stopped; its connection is closed", request.method, request.path[:200])
        transport.abort()
