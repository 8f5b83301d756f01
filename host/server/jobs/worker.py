"""The one thread that runs jobs, and the order in which clients receive their events.

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
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from host.execution import Executor, RunResult
from host.server.jobs.client_events import ClientEvents
from host.server.jobs.job import Job, Result
from host.server.jobs.store import MAX_ATTEMPTS, JobStore
from host.server.jobs.views import summarise
from host.server.memory import return_freed_memory
from host.server.websockets import WebSockets

__all__ = ["SUSPECT_SECONDS", "Worker"]

log = logging.getLogger(__name__)

_STATUSES = {"success": "completed", "error": "failed", "interrupted": "cancelled"}
_ENDS = ("execution_success", "execution_error", "execution_interrupted")
_POLL_SECONDS = 60.0
SUSPECT_SECONDS = 20.0  # how long the server must be up before a suspect starts
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.5, 30.0  # the waits double


@dataclass
class _ActiveJob:
    """The job that runs now."""

    job: Job
    extra_data: dict[str, Any]
    client_id: str | None
    events: ClientEvents
    cancel: threading.Event = field(default_factory=threading.Event)
    executing: dict[str, Any] | None = None  # the data of the last `executing` event
    is_silent: bool = False  # it goes back into the queue, so its client receives no further events


class Worker:
    """Takes jobs from the store, one after another.

    Args:
        store: Provides jobs and stores results.
        executor: Runs one prompt.
        websockets: The clients that receive events.
        post: Calls a function on the event loop's thread, in order.
    """

    def __init__(self, store: JobStore, executor: Executor, websockets: WebSockets, post: Callable[..., Any]) -> None:
        self._store, self._executor, self._websockets, self._post = store, executor, websockets, post
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._active: _ActiveJob | None = None
        self._stopping = False
        self._free_requested = threading.Event()
        self._unrecorded: list[tuple[str, Result]] = []  # results that the store did not take yet
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._suspects_from = math.inf  # when suspects may start, by the monotonic clock
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Record jobs that keep crashing the server as failed, then run everything in the queue."""
        for job_id in self._store.recover():
            self._finish(job_id, Result("failed", messages=[["execution_error", _crash_event(job_id)]]))
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
        try:
            self._post(self._websockets.publish, "status", self.status())
        except sqlite3.Error as error:
            log.warning("the clients are not told of the queue's length: %s", error)

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
        return {"status": {"exec_info": {"queue_remaining": self._store.remaining()}}}

    def greeting(self, client_id: str, status: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the events for a client that connects: the queue's length, its id, and which of its nodes runs."""
        active = self._active
        events: list[tuple[str, Any]] = [("status", {**status, "sid": client_id})]
        if active is not None and active.client_id == client_id and active.executing is not None:
            events.append(("executing", active.executing))
        return events

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

    def _claim(self) -> _ActiveJob | None:
        """Claim a job; from now on it can be interrupted."""
        with self._lock:
            job = self._store.claim(with_suspects=self._seconds_until_suspects() == 0)
            self._active = None if job is None else self._activate(job)
            return self._active

    def _seconds_until_suspects(self) -> float:
        return max(self._suspects_from - time.monotonic(), 0.0)

    def _activate(self, job: Job) -> _ActiveJob:
        extra_data = job.extra_data or {}
        client_id = extra_data.get("client_id")
        client_id = client_id if isinstance(client_id, str) else None
        return _ActiveJob(job, extra_data, client_id, ClientEvents(self._websockets, self._post, client_id))

    def _run_job(self, active: _ActiveJob) -> None:
        if self._stopping:
            active.cancel.set()
        self.notify()
        try:
            self._execute(active)
        finally:
            with self._lock:
                self._active = None
        self.notify()
        active.events.send("executing", {"node": None, "prompt_id": active.job.id})

    def _execute(self, active: _ActiveJob) -> None:
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
        except BaseException as error:  # includes a node's sys.exit(): the thread must continue with the next job
            log.exception("job %s failed outside of its nodes", job.id)
            event = _error_event(job.id, error)
            self._finish(job.id, Result("failed", messages=[["execution_error", event]]))
            self._emit(active, "execution_error", event)
        log.info("prompt %s took %.2f seconds", job.id, time.perf_counter() - started)

    def _store_result(self, active: _ActiveJob, result: RunResult) -> None:
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

    def _emit(self, active: _ActiveJob, event: str, data: dict[str, Any]) -> None:
        if event == "executing":
            active.executing = data
        if not active.is_silent:
            if event in _ENDS:
                active.events.flush()
            active.events.send(event, data)


def _error_event(job_id: str, error: BaseException) -> dict[str, Any]:
    """Return the event of an error outside of any node. Every field is filled: the page rejects nulls."""
    return {
        "prompt_id": job_id,
        "node_id": "",
        "node_type": "",
        "executed": [],
        "exception_message": str(error),
        "exception_type": type(error).__name__,
        "traceback": traceback.format_tb(error.__traceback__),
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": int(time.time() * 1000),
    }


def _crash_event(job_id: str) -> dict[str, Any]:
    message = f"the server crashed {MAX_ATTEMPTS} times while it ran this prompt, which is not run again"
    return _error_event(job_id, RuntimeError(message))
