"""An engine in a worker process of this machine, as its driver sees it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from host.engines.contract import Emit, EngineError, EngineLost, Job, JobResult
from host.engines.spec import EngineSpec
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
    Request,
    Run,
    Start,
)
from host.workers.pipes import start_process

__all__ = ["ProcessEngine"]

_MAX_STARTS = 3  # in a row without success
_LOOK_SECONDS = 1.0  # between looks at the process, while the pipe is silent
_END_SECONDS = 15.0  # for a process that was told to end; it gives its job and its threads five each
_LAST_LINES = 30  # of what it printed, to be shown if it dies
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ProcessEngine:
    """A worker process that holds one engine; see `contract.Engine` for the methods.

    The process is started by the first call, and again by the first call after it died.

    Args:
        spec: The engine that it starts.
        name: What the user calls it.
    """

    def __init__(self, spec: EngineSpec, name: str) -> None:
        self.name = name
        self._spec = spec
        self._process: _Process | None = None
        self._lock = threading.Lock()  # guards the process's coming and going
        self._is_closed = False
        self._runs = 0

    def start(self) -> None:
        """Start the process and its engine, if they do not run.

        Raises:
            EngineError: It cannot be started; the message has the last lines that it printed.
        """
        self._started()

    def environment(self) -> dict[str, Any]:
        """Return what pictures are made with."""
        found: dict[str, Any] = self._call(Environment())
        return found

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Return the node classes as `GET /object_info` does."""
        found: dict[str, dict[str, Any]] = self._call(ObjectInfo())
        return found

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """Put files into the engine's input folder."""
        self._call(PutInputs(dict(files)))

    def run(self, job: Job, emit: Emit) -> JobResult:
        """Run a job, and block until it ended. Previews and progress come about ten times a second."""
        self._runs += 1
        result: JobResult = self._call(Run(job, self._runs), emit)
        return result

    def interrupt(self) -> None:
        """Stop the running job between two steps. A request that comes before the job has begun is lost."""
        process = self._process
        if process is not None:
            process.send_if_alive(Interrupt(self._runs))

    def close(self) -> None:
        """Stop the process, and delete its files; a job that runs is stopped first."""
        with self._lock:
            self._is_closed = True
            process, self._process = self._process, None
        if process is not None:
            process.end()

    # -- calls

    def _call(self, request: Request, emit: Emit | None = None) -> Any:
        process = self._started()
        try:
            return process.call(request, emit)
        except _Died:
            self._discard(process)
            raise EngineLost(f"{self.name} {process.how_it_ended()}") from None
        except _LostBehindProcess:  # the process goes on, and knows that it has to wait for a server to come back
            raise
        except BaseException:  # what it still has to say would be taken for the answer to the next request
            self._discard(process)
            raise

    def _started(self) -> _Process:
        """Return the running process; start one if there is none."""
        if self._process is not None:
            return self._process
        for _ in range(_MAX_STARTS):
            with self._lock:
                if self._is_closed:
                    raise EngineError(f"{self.name} was closed")
                process = self._process = _Process(self._spec)
            try:
                process.call(Start(self._spec, process.folder, self.name), None)
                return process
            except (_Died, EngineLost) as error:
                self._discard(process)
                reason = f"failed with {error}" if isinstance(error, EngineLost) else process.how_it_ended()
            except BaseException:
                self._discard(process)
                raise
        printed = process.last_lines()
        raise EngineError(
            f"{self.name} cannot be started: it {reason}, {_MAX_STARTS} times in a row"
            + (f". It printed:\n{printed}" if printed else "")
        )

    def _discard(self, process: _Process) -> None:
        with self._lock:
            if self._process is process:
                self._process = None
        process.end()


class _LostBehindProcess(EngineLost):
    """What the process's engine drives was lost; the engine starts it again, or waits for it."""


class _Died(Exception):
    """The process has ended."""


class _Process:
    """One worker process, from its start to its end."""

    def __init__(self, spec: EngineSpec) -> None:
        self.folder = tempfile.mkdtemp(prefix="ddim-worker-")
        threads = {name: str(spec.threads) for name in _THREAD_VARIABLES}
        try:
            self._process, self._connection = start_process("host.workers.process", threads)
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise EngineError(f"a worker process cannot be started: {error}") from error
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader = threading.Thread(target=self._read_output, name="worker output", daemon=True)
        self._reader.start()
        self._sending = threading.Lock()
        self._ending = threading.Lock()

    def call(self, request: Request, emit: Emit | None) -> Any:
        """Send a request, and return its answer.

        Raises:
            EngineError, EngineLost: The engine says so.
            _Died: The process has ended.
        """
        self._send(request)
        while True:
            reply = self._receive()
            if isinstance(reply, Event):
                if emit is not None:
                    emit(reply.name, reply.data)
            elif isinstance(reply, Failed):
                lost = _LostBehindProcess if reply.starts_itself else EngineLost
                raise (EngineError if reply.is_final else lost)(reply.message)
            else:
                assert isinstance(reply, Done)
                return reply.value

    def send_if_alive(self, request: Request) -> None:
        with suppress(_Died):
            self._send(request)

    def end(self) -> None:
        """Let the process end, or end it with all that it started; and delete its folder. May be called again."""
        with self._ending:
            self.send_if_alive(Close())
            deadline = time.monotonic() + _END_SECONDS
            while self._is_running() and time.monotonic() < deadline:
                time.sleep(0.01)
            self._kill_group()
            self._process.wait()
            self._reader.join(1.0)  # it goes on only if a process that left the group still prints
            shutil.rmtree(self.folder, ignore_errors=True)

    def how_it_ended(self) -> str:
        """Say how the process ended, as the end of a sentence."""
        code = self._process.returncode
        if code < 0:
            with suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}" + _HINTS.get(-code, "")
        last = self.last_lines().splitlines()[-1:]
        return f"ended with exit code {code}" + (f" ({shorten(last[0], 300)})" if last else "")

    def last_lines(self) -> str:
        """Return the end of what it printed."""
        return "".join(self._lines).rstrip()

    def _is_running(self) -> bool:
        """Return whether the process runs; it stays a zombie, so that its number stays its own."""
        if os.name == "nt":
            return self._process.poll() is None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
        except ChildProcessError:
            return False

    def _kill_group(self) -> None:
        """End the process and what it started, which would keep its GPU and its port."""
        if self._process.returncode is not None:
            return
        if os.name == "nt":
            self._process.kill()
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _send(self, request: Request) -> None:
        try:
            with self._sending:
                self._connection.send(request)
        except OSError as error:
            raise _Died from error

    def _receive(self) -> Any:
        try:
            while not self._connection.poll(_LOOK_SECONDS):
                # A process that a node started may hold the other end of the pipe open.
                if not self._is_running() and not self._connection.poll(0):
                    raise _Died
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise _Died from error

    def _read_output(self) -> None:
        """Keep the end of what the process prints, so that it never waits for a reader."""
        assert self._process.stdout is not None
        with self._process.stdout as output:
            while line := output.readline(4096):
                self._lines.append(line.decode(errors="replace"))


_HINTS = {9: " (often because memory ran out)"}
