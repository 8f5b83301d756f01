"""Worker processes on this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from host.engines.contract import Engine, EngineError
from host.engines.spec import EngineSpec
from host.workers.process_engine import ProcessEngine

__all__ = ["LocalPool"]

log = logging.getLogger(__name__)


class LocalPool:
    """Worker processes, each with one engine; see `contract.Pool` for the methods.

    Args:
        specs: The engines: usually one, or several ComfyUIs that run already.
        workers: How many processes for each of them.
    """

    def __init__(self, specs: Sequence[EngineSpec], workers: int = 1) -> None:
        several = [spec for spec in specs for _ in range(workers)]
        self._engines = [ProcessEngine(spec, _name(number, spec)) for number, spec in enumerate(several, 1)]

    def start(self, on_join: Callable[[Engine], None]) -> None:
        """Start the processes side by side, and wait until each has joined or failed."""
        failures: list[EngineError] = []

        def start(engine: ProcessEngine) -> None:
            try:
                engine.start()
            except EngineError as error:
                failures.append(error)
                return
            on_join(engine)

        threads = [threading.Thread(target=start, args=(engine,), daemon=True) for engine in self._engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(failures) == len(self._engines):
            raise failures[0] if failures else EngineError("a pool needs at least one worker")
        for failure in failures:
            log.warning("%s", failure)

    def close(self) -> None:
        """Stop the processes, side by side, and what they started."""
        threads = [threading.Thread(target=engine.close, daemon=True) for engine in self._engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _name(number: int, spec: EngineSpec) -> str:
    return f"worker {number}" + (f" ({spec.address})" if spec.kind == "http" else "")
