"""The thread that runs jobs, and the order in which clients receive their events.

There is one, and it runs them in this process; or there are several, one for each worker elsewhere (`crew`).

A result is in the store *before* its client learns that the run ended, so that a client that then asks for the history
finds it. The last event of a run is `executing` with node null, which the oldest clients wait for.

A job that was running when the server died is run again, but not for ever: it may be the cause. Nor may a job be blamed
because the machine was switched off soon after each start. So a job with some such deaths is a suspect. It starts when
the server has been up for a while, and until then the jobs behind it run: a server that dies earlier does not count
against it, and a job that kills the server at once still reaches the limit.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from host.engines.contract import EngineError, EngineLost
from host.execution.executor import RunResult
from host.server.jobs.active_job import ActiveJob
from host.server.jobs.client_events import ClientEvents
from host.server.jobs.job import Job, Result
from host.server.jobs.queue_status import QueueStatus
from host.server.jobs.runs import Runs
from host.server.jobs.store import MAX_ATTEMPTS, TRUSTED_ATTEMPTS, JobStore
from host.server.jobs.views import crash_event, error_event, summarise
from host.server.memory import return_freed_memory
from host.server.websockets import WebSockets

__all__ = ["SUSPECT_SECONDS", "Worker"]

log = logging.getLogger(__name__)

_STATUSES = {"success": "completed", "error": "failed", "interrupted": "cancelled"}
_ENDS = ("execution_success", "execution_error", "execution_interrupted")
_POLL_SECONDS = 60.0
SUSPECT_SECONDS = 20.0  # how long the server must be up before a suspect starts
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.5, 30.0  # the waits double


class Worker:
    """Takes jobs from the store, one after another.

    Args:
        store: Provides jobs and stores results.
        runs: Runs one prompt.
        websockets: The clients that receive events.
        post: Calls a function on the event loop's thread, in order.

    Attributes:
        on_put_back: Called when a job is in the queue again, because the engine died.
        on_end: Called when the engine will not come back, and the thread ends.
    """

    def __init__(self, store: JobStore, runs: Runs, websockets: WebSockets, post: Callable[..., Any]) -> None:
        self._store, self._executor, self._websockets, self._post = store, runs, websockets, post
        self.on_put_back: Callable[[], None] = self.notify
        self.on_end: Callable[[str], None] = lambda reason: None
        self._queue_status = QueueStatus(store, websockets, post)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._active: ActiveJob | None = None
        self._stopping = False
        self._free_requested = threading.Event()
        self._unrecorded: list[tuple[str, Result]] = []  # results that the store did not take yet
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._suspects_from = math.inf  # when suspects may start, by the monotonic clock
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self, crashed: Iterable[str] | None = None) -> None:
        """Record jobs that keep crashing the server as failed, then run everything in the queue.

        Args:
            crashed: Those jobs, or None to look for them, which only the first worker of a store may do.
        """
        for job_id in self._store.recover() if crashed is None else crashed:
            self._finish(job_id, Result("failed", messages=[["execution_error", crash_event(job_id, MAX_ATTEMPTS)]]))
        self._suspects_from = time.monotonic() + SUSPECT_SECONDS
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Interrupt the running job and put it back into the queue, for the next start."""
        self._stopping = True
        self.interrupt()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        if (active := self._active) is not None:  # its node does not stop: it is ended with the process, on purpose
            self._release(active.job.id)

    def is_running(self) -> bool:
        """Return whether the thread lives, in a node that does not stop."""
        return self._thread.is_alive()

    def notify(self) -> None:
        """Report a change of the queue: wakes the thread, and tells every client how many jobs remain."""
        self._wake.set()
        self._queue_status.publish()

    def wake(self) -> None:
        """Let the thread look at the queue."""
        self._wake.set()

    def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Drop cached results (and the models that they hold) before the next job runs."""
        if unload_models or free_memory:
            self._free_requested.set()
            self._wake.set()

    def interrupt(self, job_id: str | None = None) -> bool:
        """Stop the running job, or only if it is `job_id`. Returns whether there was one to stop."""
        with self._lock:
            active = self._active
            if active is None or (job_id is not None and active.job.id != job_id):
                return False
            active.cancel.set()
            return True

    def status(self) -> dict[str, Any]:
        """Return the data of a `status` event."""
        return self._queue_status.data()

    def greeting(self, client_id: str, status: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the events for a client that connects: the queue's length, its id, and which of its nodes runs."""
        return [("status", {**status, "sid": client_id}), *self.running(client_id)]

    def running(self, client_id: str) -> list[tuple[str, Any]]:
        """Return the event that says which node of a client runs, if one does."""
        active = self._active
        if active is None or active.client_id != client_id or active.executing is None:
            return []
        return [("executing", active.executing)]

    def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._free_if_requested()
            try:
                active = self._claim()
                if active is not None:
                    self._run_job(active)
            except (sqlite3.Error, OSError) as error:
                log.warning("the job store cannot be used: %s; trying again in %g s", error, self._retry_seconds)
                self._wait_to_retry()
                continue
            except EngineError as error:
                self._stopping = True
                self.on_end(str(error))
            except Exception:
                log.exception("the job queue failed; continuing with the next job")
                time.sleep(1)
                continue
            if self._unrecorded:
                self._record_again(idle=active is None)
            elif active is None:
                self._wake.wait(self._seconds_until_suspects() or _POLL_SECONDS)
        self._record_again(idle=False)

    def _free_if_requested(self) -> None:
        if self._free_requested.is_set():
            self._free_requested.clear()
            self._executor.free()
            return_freed_memory()

    def _claim(self) -> ActiveJob | None:
        """Claim a job; from now on it can be interrupted."""
        with self._lock:
            job = self._store.claim(with_suspects=self._seconds_until_suspects() == 0)
            self._active = None if job is None else self._activate(job)
            return self._active

    def _seconds_until_suspects(self) -> float:
        return max(self._suspects_from - time.monotonic(), 0.0)

    def _activate(self, job: Job) -> ActiveJob:
        extra_data = job.extra_data or {}
        client_id = extra_data.get("client_id")
        client_id = client_id if isinstance(client_id, str) else None
        return ActiveJob(job, extra_data, client_id, ClientEvents(self._websockets, self._post, client_id))

    def _run_job(self, active: ActiveJob) -> None:
        if self._stopping:
            active.cancel.set()
        self.notify()
        try:
            self._execute(active)
        finally:
            with self._lock:
                self._active = None
        self.notify()
        if not active.is_silent:
            active.events.send("executing", {"node": None, "prompt_id": active.job.id})

    def _execute(self, active: ActiveJob) -> None:
        """Run the job. An error of the executor itself becomes this job's error, and affects no other job."""
        job = active.job
        started = time.perf_counter()
        try:
            self._executor.run(
                job.prompt or {},
                job.id,
                job.targets or [],
                active.extra_data,
                cancel=active.cancel,
                emit=partial(self._emit, active),
                before_end=partial(self._store_result, active),
            )
        except EngineError:
            active.is_silent = True
            self._release(job.id)
            raise
        except EngineLost as error:
            self._lose(active, error)
        except BaseException as error:  # includes a node's sys.exit(): the thread must continue with the next job
            log.exception("job %s failed outside of its nodes", job.id)
            self._fail(active, error)
        log.info("prompt %s took %.2f seconds", job.id, time.perf_counter() - started)

    def _lose(self, active: ActiveJob, error: EngineLost) -> None:
        """Put a job back into the queue whose engine died, or record it as failed if it may be the cause."""
        job_id = active.job.id
        if self._stopping:
            active.is_silent = True
            self._release(job_id)
        elif self._store.put_back(job_id):
            log.warning("%s; prompt %s runs again", error, job_id)
            active.is_silent = True
            self.on_put_back()
        else:
            message = f"{error}; it is not run again after {TRUSTED_ATTEMPTS} workers were lost with it"
            self._fail(active, RuntimeError(message))

    def _fail(self, active: ActiveJob, error: BaseException) -> None:
        """Record and report an error outside of any node."""
        event = error_event(active.job.id, error)
        self._finish(active.job.id, Result("failed", messages=[["execution_error", event]]))
        self._emit(active, "execution_error", event)

    def _store_result(self, active: ActiveJob, result: RunResult) -> None:
        """Store the result, or put the job back into the queue if it was interrupted because the host stops."""
        if self._stopping and result.status == "interrupted":
            active.is_silent = True
            self._release(active.job.id)
        else:
            messages = [list(message) for message in result.messages]
            stored = Result(_STATUSES[result.status], result.outputs, result.meta, messages)
            self._finish(active.job.id, stored)

    def _release(self, job_id: str) -> None:
        try:
            self._store.release(job_id)
        except sqlite3.Error as error:  # it stays in progress, and the next start runs it all the same
            log.warning("job %s is not back in the queue yet: %s", job_id, error)

    def _finish(self, job_id: str, result: Result) -> None:
        """Record a result; one that the store does not take now is kept, and recorded later."""
        if not self._record(job_id, result):
            self._unrecorded.append((job_id, result))

    def _record(self, job_id: str, result: Result) -> bool:
        try:
            self._store.finish(job_id, result, summarise(result))
        except (sqlite3.Error, OSError) as error:  # another program holds the store, or the disk is full
            log.warning("the result of %s cannot be recorded: %s; trying again", job_id, error)
            return False
        return True

    def _record_again(self, *, idle: bool) -> None:
        """Try to record the results that were not recorded; with nothing else to do, wait before the next try."""
        count = len(self._unrecorded)
        self._unrecorded = [entry for entry in self._unrecorded if not self._record(*entry)]
        if len(self._unrecorded) < count:
            self._retry_seconds = _FIRST_RETRY_SECONDS
            self.notify()
        if self._unrecorded and idle:
            self._wait_to_retry()

    def _wait_to_retry(self) -> None:
        self._wake.wait(self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, _LAST_RETRY_SECONDS)

    def _emit(self, active: ActiveJob, event: str, data: dict[str, Any]) -> None:
        if event == "executing":
            active.executing = data
        if not active.is_silent:
            if event in _ENDS:
                active.events.flush()
            active.events.send(event, data)
