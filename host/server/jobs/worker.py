"""The one thread that runs jobs, and the order in which clients hear of it.

A result is in the store *before* its client is told that the run ended: who asks for the history on that message finds
it. The last message of a run is ``executing`` with node null, for which the oldest clients wait.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from host.execution.executor import Executor, RunResult

from .hub import Hub
from .job import Job, Result
from .jobs import summarise
from .previews import encode_image, plain_frame, tagged_frame
from .store import JobStore

__all__ = ["Worker"]

log = logging.getLogger(__name__)

_STATUS = {"success": "completed", "error": "failed", "interrupted": "cancelled"}
_POLL_SECONDS = 60.0


@dataclass
class _Run:
    """The job that runs now."""

    job: Job
    cancel: threading.Event = field(default_factory=threading.Event)
    node: dict[str, Any] | None = None  # the last `executing` event
    silent: bool = False  # it goes back into the queue: its client is told nothing

    @property
    def sid(self) -> str | None:
        sid = (self.job.extra_data or {}).get("client_id")
        return sid if isinstance(sid, str) else None


class Worker:
    """Takes jobs from the store one after the other.

    Args:
        store: where jobs come from and results go.
        executor: runs one prompt.
        hub: who is told.
        post: calls a function on the event loop's thread, in order.
    """

    def __init__(self, store: JobStore, executor: Executor, hub: Hub, post: Callable[..., Any]) -> None:
        self._store, self._executor, self._hub, self._post = store, executor, hub, post
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._stopping = False
        self._free_wanted = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Gives up on jobs that keep ending their host, then runs everything that waits."""
        for job_id in self._store.recover():
            self._finish(job_id, Result("failed", messages=[["execution_error", _death_notice(job_id)]]))
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Interrupts the running job and puts it back into the queue, for the next start."""
        self._stopping = True
        self.interrupt()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def notify(self) -> None:
        """Says that the queue has changed: the thread looks, and every client learns how much is left."""
        self._wake.set()
        self._post(self._hub.publish, "status", self.status())

    def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Drops cached results (and with them the models they hold) before the next job runs."""
        if unload_models or free_memory:
            self._free_wanted.set()
            self._wake.set()

    def interrupt(self, job_id: str | None = None) -> bool:
        """Stops the running job, or only if it is ``job_id``; says whether there was one to stop."""
        with self._lock:
            run = self._run
            if run is None or (job_id is not None and run.job.id != job_id):
                return False
            run.cancel.set()
            return True

    def status(self) -> dict[str, Any]:
        """The payload of a ``status`` event."""
        return {"status": {"exec_info": {"queue_remaining": self._store.remaining()}}}

    def greeting(self, sid: str) -> list[tuple[str, Any]]:
        """What a client that connects is told: the queue's length, its sid, and which of its nodes runs."""
        run = self._run
        events: list[tuple[str, Any]] = [("status", {**self.status(), "sid": sid})]
        if run is not None and run.sid == sid and run.node is not None:
            events.append(("executing", run.node))
        return events

    def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._drop_caches()
            try:
                run = self._next()
                if run is None:
                    self._wake.wait(_POLL_SECONDS)
                else:
                    self._serve(run)
            except Exception:  # a full disk, say: other jobs must still have their turn
                log.exception("the job queue failed; it goes on with the next job")
                time.sleep(1)

    def _drop_caches(self) -> None:
        if self._free_wanted.is_set():
            self._free_wanted.clear()
            self._executor.free()

    def _next(self) -> _Run | None:
        """Claims a job; from that moment it can be interrupted."""
        with self._lock:
            job = self._store.claim()
            self._run = None if job is None else _Run(job)
            return self._run

    def _serve(self, run: _Run) -> None:
        if self._stopping:
            run.cancel.set()
        self.notify()
        try:
            self._execute(run)
        finally:
            with self._lock:
                self._run = None
        self.notify()
        if run.sid is not None:
            last = {"node": None, "prompt_id": run.job.id}
            self._post(self._hub.publish, "executing", last, run.sid)

    def _execute(self, run: _Run) -> None:
        """Runs the job; an error of the executor itself becomes the job's error and nobody else's."""
        job = run.job
        started = time.perf_counter()
        try:
            self._executor.run(
                job.prompt or {},
                job.id,
                job.targets or [],
                job.extra_data or {},
                cancel=run.cancel,
                emit=partial(self._emit, run),
                before_end=partial(self._record, run),
            )
        except BaseException as error:  # also a node's sys.exit(): the thread must go on with the next job
            log.exception("job %s failed outside of its nodes", job.id)
            event = _error_event(job.id, error)
            self._finish(job.id, Result("failed", messages=[["execution_error", event]]))
            self._emit(run, "execution_error", event)
        log.info("prompt %s took %.2f seconds", job.id, time.perf_counter() - started)

    def _record(self, run: _Run, outcome: RunResult) -> None:
        """Stores what came out, or puts the job back if it was cut short because the host stops."""
        if self._stopping and outcome.status == "interrupted":
            run.silent = True
            self._store.release(run.job.id)
        else:
            messages = [list(message) for message in outcome.messages]
            self._finish(run.job.id, Result(_STATUS[outcome.status], outcome.outputs, outcome.meta, messages))

    def _finish(self, job_id: str, result: Result) -> None:
        self._store.finish(job_id, result, summarise(result))

    def _emit(self, run: _Run, event: str, data: dict[str, Any]) -> None:
        if event == "executing":
            run.node = data
        if run.sid is None or run.silent:
            return
        if event == "preview":
            self._send_preview(run.sid, data)
        else:
            self._post(self._hub.publish, event, data, run.sid)

    def _send_preview(self, sid: str, data: dict[str, Any]) -> None:
        """Encodes here, in the worker's thread, so that the event loop stays free."""
        image_format = data["format"]
        node = {name: value for name, value in data.items() if name not in ("image", "format", "max_size")}
        try:
            file = encode_image(data["image"], image_format, data["max_size"])
        except (OSError, ValueError, KeyError):  # a preview is a courtesy: the run goes on without
            log.warning("node %s gave a preview that is not a picture", data.get("node_id"), exc_info=True)
            return
        tagged = self._hub.supports(sid, "supports_preview_metadata")
        frame = tagged_frame(image_format, file, node) if tagged else plain_frame(image_format, file)
        self._post(self._hub.publish_bytes, frame, sid)


def _error_event(job_id: str, error: BaseException) -> dict[str, Any]:
    """An error of no node. The page checks every field of a job: a null here would empty its history."""
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


def _death_notice(job_id: str) -> dict[str, Any]:
    message = "the host ended too often while it ran this prompt; it is not tried again"
    return _error_event(job_id, RuntimeError(message))
