"""A worker process: one engine at the end of a pipe.

It is started by `process_engine`, as a program of its own rather than as a fork, which would inherit torch's threads
and the driver's locks. It ends when it is told to, and when the driver's end of the pipe closes, however the driver
ended: nothing is left running, and its folder is deleted. Ctrl-C in the terminal does not concern it: the driver
decides what stops.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from host.engines.contract import Engine, EngineError, EngineLost, JobResult
from host.error_format import shorten
from host.workers.messages import (
    Close,
    Done,
    Environment,
    Event,
    Failed,
    Interrupt,
    ObjectInfo,
    PutInputs,
    Reply,
    Request,
    Run,
    Start,
)
from host.workers.pipes import inherited_end
from host.workers.throttle import Throttle

__all__ = ["main"]

_GRACE_SECONDS = 5.0  # for the running job to stop, and then for the threads of its nodes


def main(connection: Connection) -> None:
    """Serve the driver at the other end of `connection` until it closes it or says so."""
    # A handler that does nothing, because a process started from here would inherit a signal that is ignored.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    _Worker(connection).serve()


class _DriverGone(Exception):
    """Nobody reads the pipe any more."""


class _Worker:
    """Requests come in through one thread, which also hears the pipe close; the main thread handles them in order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._folder: str | None = None
        self._ended = threading.Event()
        self._sending = threading.Lock()
        self._running = 0  # the number of the run that is going on, or the last one
        self._answers: dict[type, Callable[[Any], Any]] = {
            Start: self._start,
            PutInputs: lambda request: self._started.put_inputs(request.files),
            Run: self._run,
            Environment: lambda request: self._started.environment(),
            ObjectInfo: lambda request: self._started.object_info(),
        }

    def serve(self) -> None:
        threading.Thread(target=self._receive, name="requests", daemon=True).start()
        try:
            while not isinstance(request := self._requests.get(), Close):
                self._send(self._answer(request))
        except _DriverGone:
            pass
        finally:
            self._clean_up()

    @property
    def _started(self) -> Engine:
        if self._engine is None:
            raise EngineError("no engine was started")
        return self._engine

    def _answer(self, request: Request) -> Reply:
        try:
            return Done(self._answers[type(request)](request))
        except EngineError as error:
            return Failed(str(error), is_final=True)
        except EngineLost as error:
            return Failed(str(error), is_final=False, starts_itself=True)
        except _DriverGone:
            raise
        except Exception as error:  # a fault of the engine: another process may do better
            traceback.print_exc()
            return Failed(shorten(f"{type(error).__name__}: {error}"), is_final=False)

    def _start(self, request: Start) -> None:
        from host.engines.start import start  # not earlier: engines import torch, and the pipe must be heard before

        self._engine = start(request.spec, Path(request.folder), request.name)

    def _run(self, request: Run) -> JobResult:
        self._running = request.number
        return self._started.run(request.job, Throttle(self._emit))

    def _emit(self, event: str, data: dict[str, Any]) -> None:
        try:
            self._send(Event(event, data))
        except _DriverGone:
            raise
        except Exception:  # what cannot be sent as it is: a preview may be any object
            if event != "preview":
                raise

    def _send(self, reply: Reply) -> None:
        try:
            with self._sending:  # nodes may report from threads of their own
                self._connection.send(reply)
        except OSError as error:
            raise _DriverGone from error

    # -- the thread that receives

    def _receive(self) -> None:
        try:
            while not isinstance(request := self._connection.recv(), Close):
                if isinstance(request, Interrupt):
                    self._interrupt(request.number)
                    continue
                if isinstance(request, Start):
                    self._folder = request.folder
                self._requests.put(request)
        except (EOFError, OSError):
            pass
        self._end()

    def _interrupt(self, number: int) -> None:
        # The driver asks again until the run has ended: a request that comes before its time is dropped.
        if number == self._running and self._engine is not None:
            with suppress(EngineError, EngineLost):
                self._engine.interrupt()

    def _end(self) -> None:
        """Let the main thread end the process; if a job or a thread of a node does not stop, end it here."""
        self._requests.put(Close())
        if self._engine is not None:
            with suppress(Exception):
                self._engine.interrupt()
        if self._ended.wait(_GRACE_SECONDS):
            time.sleep(_GRACE_SECONDS)  # this thread ends with the main one
        else:
            self._clean_up()
        os._exit(1)

    def _clean_up(self) -> None:
        try:
            if self._engine is not None:
                with suppress(Exception):
                    self._engine.close()
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._ended.set()


if __name__ == "__main__":
    main(inherited_end(sys.argv[1]))
