"""How many jobs run or wait, as clients are told."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any

from host.server.jobs.store import JobStore
from host.server.websockets import WebSockets

__all__ = ["QueueStatus"]

log = logging.getLogger(__name__)


class QueueStatus:
    """Tells clients of the queue's length.

    Args:
        store: The queue.
        websockets: The clients.
        post: Calls a function on the event loop's thread, in order.
    """

    def __init__(self, store: JobStore, websockets: WebSockets, post: Callable[..., Any]) -> None:
        self._store, self._websockets, self._post = store, websockets, post

    def data(self) -> dict[str, Any]:
        """Return the data of a `status` event."""
        return {"status": {"exec_info": {"queue_remaining": self._store.remaining()}}}

    def publish(self) -> None:
        """Tell every client."""
        try:
            self._post(self._websockets.publish, "status", self.data())
        except sqlite3.Error as error:
            log.warning("the clients are not told of the queue's length: %s", error)
