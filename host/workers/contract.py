"""What the sweep and the server need from a set of workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from host.engines.contract import Engine

__all__ = ["Pool"]


class Pool(Protocol):
    """Workers that come and may go. Each one is an `Engine`, usually a proxy of one that lives elsewhere.

    A worker that dies raises `EngineLost` from the call that was running, and starts again with the next call. One that
    raises `EngineError` will not come back.
    """

    def start(self, on_join: Callable[[Engine], None]) -> None:
        """Start the workers.

        Args:
            on_join: Called with each worker that is ready, from any thread: also with those that join later.

        Raises:
            EngineError: No worker can be started. The message is shown to the user.
        """

    def close(self) -> None:
        """Stop every worker and what it started. May be called more than once, and while jobs run."""
