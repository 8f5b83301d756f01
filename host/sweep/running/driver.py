"""The driver of a sweep: hands jobs to workers until every job has a result.

There is one thread for each worker, which waits for it; the workers do the work. Nothing is kept for a job but a byte
that says whether it is done: results go to the journal and are read from there.

A sweep that is run again with its journal runs what has no result, and what has lost its files. A job that failed has a
result: it would fail again, so it is run again only on request (`retry_failed`), when its cause is gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from host.engines.contract import Emit, Engine, EngineError, EngineLost, JobResult
from host.error_format import shorten
from host.prompt_format import Prompt, node_title
from host.sweep.contract import Jobs, Listener, Outcome
from host.sweep.running.canary import Canary
from host.sweep.running.journal import Journal, JournalError
from host.sweep.running.ledger import MAX_ATTEMPTS, Ledger
from host.sweep.running.saving import SaveError
from host.workers.contract import Pool

__all__ = ["Sweep"]

_WAKE_SECONDS = 0.1  # between looks at `request_stop`, which a signal handler calls and which must not take a lock
_INTERRUPT_SECONDS = 1.0  # between requests to stop: one that comes before the engine has begun the job is lost
_JOIN_SECONDS = 60.0
_MAX_TITLE = 80


class Sweep:
    """One run of a sweep. `run` is called once.

    Args:
        jobs: The jobs.
        pool: The workers. They are started and closed here.
        journal: The journal, held by this process; the caller closes it.
        folder: Where the files go; it exists.
        listener: Hears what happens.
        inputs: The files that the jobs read, by their annotated names; every worker gets them once.
        canary: Compares the workers, where they may be unlike each other.
        retry_failed: Whether jobs that are recorded as failed are run again.

    Raises:
        JournalError: The journal has results that do not belong to these jobs.
    """

    def __init__(
        self,
        jobs: Jobs,
        pool: Pool,
        journal: Journal,
        folder: Path,
        listener: Listener,
        *,
        inputs: Mapping[str, bytes] | None = None,
        canary: Canary | None = None,
        retry_failed: bool = False,
    ) -> None:
        self._jobs, self._pool, self._listener = jobs, pool, listener
        self._inputs, self._canary = inputs or {}, canary
        self._changed = threading.Condition()  # guards what follows, and the ledger
        self._talking = threading.Lock()  # the listener hears one thing at a time
        self._ledger = Ledger(jobs, journal, folder, self._changed, retry_failed=retry_failed)
        self._stop_requested = False
        self._stopped: str | None = None  # why the sweep cannot go on
        self._fault: BaseException | None = None
        self._is_starting = True
        self._is_over = False
        self._threads: list[threading.Thread] = []
        self._workers: dict[int, Engine] = {}  # those that take jobs, by the object's id: names need not be unique
        self._busy: set[int] = set()

    def request_stop(self) -> None:
        """Stop the started jobs between two steps, and then the sweep. May be called in a signal handler."""
        self._stop_requested = True

    def run(self) -> Outcome:
        """Run the jobs that have no result, and block until all have one or the sweep is stopped."""
        try:
            if self._ledger.left:
                self._threads.append(threading.Thread(target=self._start, name="sweep start", daemon=True))
                self._threads[0].start()
                self._wait()
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()
            self._pool.close()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        if self._fault is not None:
            raise self._fault
        interrupted = self._stop_requested and self._ledger.left > 0
        counts = self._ledger.counts
        return Outcome(len(self._jobs), counts["success"], counts["error"], interrupted, self._stopped)

    # -- the main thread, and the one that starts the workers

    def _start(self) -> None:
        try:
            if self._canary is not None:
                self._prepare_canary(self._canary)
            self._pool.start(self._add_worker)
        except (EngineError, JournalError) as error:
            self._halt(str(error))
        except BaseException as error:
            self._halt(fault=error)
        finally:
            with self._changed:
                self._is_starting = False
                self._changed.notify_all()

    def _wait(self) -> None:
        """Wait for the end; after a request to stop, interrupt what runs."""
        next_interrupt = 0.0
        while True:
            with self._changed:
                if self._has_ended():
                    return
                self._changed.wait(_WAKE_SECONDS)
                running = [self._workers[key] for key in self._busy] if self._is_stopping() else []
            if running and time.monotonic() >= next_interrupt:
                next_interrupt = time.monotonic() + _INTERRUPT_SECONDS
                for engine in running:
                    with suppress(EngineError, EngineLost):
                        engine.interrupt()

    def _has_ended(self) -> bool:
        if not self._busy and (self._is_stopping() or not self._ledger.left):
            return True
        if self._workers or self._is_starting:
            return False
        self._stopped = self._stopped or "no worker is left; --resume goes on from here"
        return True

    def _is_stopping(self) -> bool:
        return self._stop_requested or self._is_over or self._stopped is not None or self._fault is not None

    def _halt(self, reason: str | None = None, fault: BaseException | None = None) -> None:
        """End the sweep before its time."""
        with self._changed:
            if not self._is_over:
                self._stopped, self._fault = self._stopped or reason, self._fault or fault
            self._changed.notify_all()

    @contextmanager
    def _tell(self) -> Iterator[Listener]:
        with self._talking:
            yield self._listener

    # -- the workers' threads

    def _add_worker(self, engine: Engine) -> None:
        with self._changed:
            if self._is_over:
                return
            self._workers[id(engine)] = engine
            thread = threading.Thread(target=self._serve, args=(engine,), name=engine.name, daemon=True)
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]
            thread.start()

    def _serve(self, engine: Engine) -> None:
        """Give a worker jobs until there are none, and see to how it ends."""
        try:
            with self._tell() as listener:
                listener.worker_joined(engine.name)
            self._give_jobs(engine)
        except EngineError as error:
            if not self._is_stopping():
                with self._tell() as listener:
                    listener.worker_gone(engine.name, str(error))
        except (SaveError, JournalError) as error:
            self._halt(f"{error}; finished jobs are kept, --resume goes on from here")
        except BaseException as error:
            self._halt(fault=error)
        finally:
            with self._changed:
                self._workers.pop(id(engine), None)
                self._busy.discard(id(engine))
                self._changed.notify_all()

    def _give_jobs(self, engine: Engine) -> None:
        losses, is_ready = 0, False  # also after it was lost, because it starts again with nothing
        while not self._is_stopping():
            if is_ready:
                index = self._take(engine)
                if index is None:
                    return
                is_ready = self._run_job(engine, index) != "lost"
                continue
            try:
                is_ready = self._prepare(engine)
                losses = 0
            except EngineLost as error:
                losses += 1
                if losses == MAX_ATTEMPTS:
                    raise EngineError(f"{engine.name} was lost {losses} times before it took a job: {error}") from error

    def _take(self, engine: Engine) -> int | None:
        """Return the next job, or None if there will be none. Waits while other workers may lose theirs."""
        with self._changed:
            while not self._is_stopping() and self._ledger.left:
                index = self._ledger.take(engine.name, is_alone=len(self._workers) == 1)
                if index is not None:
                    self._busy.add(id(engine))
                    return index
                self._changed.wait()
        return None

    def _run_job(self, engine: Engine, index: int, *, is_canary: bool = False) -> str:
        """Run a job and see to its result. Returns what became of it: see `Listener.job_ended`."""
        status = "lost"
        with self._tell() as listener:
            listener.job_started(engine.name, index)
        try:
            job = self._jobs.job(index)
            result = engine.run(job, self._progress(engine.name, index, job.prompt))
            status = self._end(engine, index, result, is_canary)
        except EngineLost as error:
            self._lose(engine, index, str(error))
        except EngineError:
            self._ledger.put_back(engine.name, index)
            raise
        finally:
            with self._changed:
                self._busy.discard(id(engine))
                self._changed.notify_all()
            with self._tell() as listener:
                listener.job_ended(engine.name, index, status)
        return status

    def _end(self, engine: Engine, index: int, result: JobResult, is_canary: bool) -> str:
        if result.status == "interrupted":
            self._lose(engine, index, f"{engine.name} was told by someone else to stop it")
            return "interrupted" if self._is_stopping() else "lost"
        difference = None
        if is_canary and self._canary is not None and result.status == "success":
            difference = self._canary.compare(engine, result.digest)
        if difference is not None:
            with self._tell() as listener:
                listener.notice(difference)
            return "canary"
        if is_canary and self._ledger.is_done(index):
            return "canary"
        return result.status if self._ledger.finish(engine.name, index, result) else "canary"

    def _lose(self, engine: Engine, index: int, reason: str) -> None:
        if self._is_stopping():
            self._ledger.put_back(engine.name, index)
            return
        text = self._ledger.lose(engine.name, index, reason)
        with self._tell() as listener:
            listener.notice(text)

    def _progress(self, worker: str, index: int, prompt: Prompt) -> Emit:
        """Return what passes a job's progress on."""

        def emit(event: str, data: dict[str, Any]) -> None:
            if event == "progress":
                node = prompt.get(data["node"], {})
                title = shorten(str(node_title(node) or node.get("class_type", "node")), _MAX_TITLE)
                with self._tell() as listener:
                    listener.job_progress(worker, index, title, data["value"], data["max"])

        return emit

    # -- new workers

    def _prepare(self, engine: Engine) -> bool:
        """Give a new worker the input files, and compare it with the others. Returns whether it is ready for jobs."""
        if self._inputs:
            engine.put_inputs(self._inputs)
        first = self._ledger.result(0) if self._canary is not None else None
        if self._canary is None or (first is not None and first.status == "error"):  # nothing to compare workers by
            return True
        was_done = self._ledger.is_done(0)
        with self._changed:
            self._busy.add(id(engine))
        if self._run_job(engine, 0, is_canary=True) in ("success", "error", "canary"):
            return True
        if was_done and not self._is_stopping():
            raise EngineLost("it was lost in job 0, which other workers have run")
        return False

    def _prepare_canary(self, canary: Canary) -> None:
        record = self._ledger.result(0)
        if record is None:
            self._ledger.reserve(0)
        elif record.status == "success":
            canary.expect(record.digest, record.worker)
