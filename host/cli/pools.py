"""The workers of a command: started early where their nodes must be known, and asked what they run on."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from host.cli.console import say
from host.cli.options.engines import PoolDescription
from host.engines.contract import Engine, EngineError, EngineLost
from host.workers.contract import Pool

__all__ = ["OpenedPool", "make_pool"]

_SILENT_SECONDS = 2.0  # then the user is told what takes so long
_WAKE_SECONDS = 0.2  # so that Ctrl-C is heard while a worker starts


def make_pool(description: PoolDescription) -> OpenedPool:
    """Return the pool of workers that the options ask for; none is started yet."""
    if description.address:
        from host.workers.ray_pool import RayPool

        return OpenedPool(RayPool(description.specs, description.address, description.workers))
    from host.workers.local import LocalPool

    return OpenedPool(LocalPool(description.specs))


class OpenedPool:
    """A pool whose first worker can be used before a sweep takes all of them; see `host.workers.contract.Pool`.

    Args:
        pool: The pool.

    Attributes:
        environments: {worker: what it runs on}, of all workers that have joined.
    """

    def __init__(self, pool: Pool) -> None:
        self.environments: dict[str, Any] = {}
        self._pool = pool
        self._changed = threading.Condition()  # guards everything below
        self._waiting: list[Engine] = []
        self._on_join: Callable[[Engine], None] | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._has_started = False

    def first(self) -> Engine:
        """Start the workers, and return the first that is ready. It stays part of the pool.

        Raises:
            EngineError: None can be started.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._start, name="pool start", daemon=True)
            self._thread.start()
        with self._changed:
            silent_until = time.monotonic() + _SILENT_SECONDS
            while not self._waiting and not self._has_started:
                self._changed.wait(_WAKE_SECONDS)
                if time.monotonic() > silent_until:
                    silent_until = math.inf
                    say("starting the workers; a ComfyUI takes a while")
            if self._waiting:
                return self._waiting[0]
            raise self._error or EngineError("no worker is ready")

    def start(self, on_join: Callable[[Engine], None]) -> None:
        """Start the workers, or hand over those that were started for `first`. Raises EngineError like a pool."""
        if self._thread is None:
            self._on_join = on_join
            self._pool.start(self._join)
            return
        with self._changed:
            self._on_join = on_join
            ready, self._waiting = self._waiting, []
        for engine in ready:
            on_join(engine)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop every worker."""
        self._pool.close()

    def _start(self) -> None:
        try:
            self._pool.start(self._join)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._has_started = True
            self._changed.notify_all()

    def _join(self, engine: Engine) -> None:
        try:
            self.environments[engine.name] = engine.environment()
        except (EngineError, EngineLost):
            pass  # whoever gives it a job learns of it
        with self._changed:
            if self._on_join is None:
                self._waiting.append(engine)
                self._changed.notify_all()
                return
        self._on_join(engine)
