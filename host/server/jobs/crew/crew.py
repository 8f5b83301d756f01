"""Several workers on one queue, each with an engine elsewhere, behind the methods of one.

Workers may join late and may be lost. Without any, the queue waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from host.engines.contract import Engine, EngineError
from host.folders import Folders
from host.packs import Registry
from host.server.jobs.crew.engine_runs import EngineRuns
from host.server.jobs.queue_status import QueueStatus
from host.server.jobs.store import JobStore
from host.server.jobs.worker import Worker
from host.server.websockets import WebSockets
from host.workers.contract import Pool

__all__ = ["Crew"]

log = logging.getLogger(__name__)


class Crew:
    """Workers that take jobs from one store; see `Worker` for the methods.

    Args:
        pool: The engines. They are started and closed here.
        store: Provides jobs and stores results.
        registry: The node classes.
        folders: The server's folders, where the files of the jobs go.
        websockets: The clients that receive events.
        post: Calls a function on the event loop's thread, in order.
    """

    def __init__(
        self,
        pool: Pool,
        store: JobStore,
        registry: Registry,
        folders: Folders,
        websockets: WebSockets,
        post: Callable[..., Any],
    ) -> None:
        self._pool, self._store, self._websockets, self._post = pool, store, websockets, post
        self._registry, self._folders = registry, folders
        self._queue_status = QueueStatus(store, websockets, post)
        self._lock = threading.Lock()
        self._workers: list[Worker] = []  # replaced, never changed
        self._crashed: list[str] = []
        self._is_stopping = False

    def start(self) -> None:
        """Start the workers, and run everything in the queue."""
        self._crashed = self._store.recover()
        threading.Thread(target=self._start, name="workers", daemon=True).start()

    def stop(self, timeout: float) -> None:
        """Interrupt the running jobs, put them back into the queue, and stop the workers."""
        with self._lock:
            self._is_stopping = True
            workers = self._workers
        threads = [threading.Thread(target=worker.stop, args=(timeout,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._pool.close()

    def is_running(self) -> bool:
        """Return False: no node runs in this process."""
        return False

    def notify(self) -> None:
        """Report a change of the queue: wakes the workers, and tells every client how many jobs remain."""
        for worker in self._workers:
            worker.wake()
        self._queue_status.publish()

    def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Do nothing: the caches and models of the workers are their own."""
        if unload_models or free_memory:
            log.info("the memory of workers cannot be freed from here")

    def interrupt(self, job_id: str | None = None) -> bool:
        """Stop every running job, or only `job_id`. Returns whether there was one to stop."""
        return any([worker.interrupt(job_id) for worker in self._workers])

    def status(self) -> dict[str, Any]:
        """Return the data of a `status` event."""
        return self._queue_status.data()

    def greeting(self, client_id: str, status: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the events for a client that connects; see `Worker.greeting`."""
        running = [event for worker in self._workers for event in worker.running(client_id)]
        return [("status", {**status, "sid": client_id}), *running]

    def _start(self) -> None:
        try:
            self._pool.start(self._add)
        except EngineError as error:
            log.error("%s; prompts wait in the queue until the server is started again", error)

    def _add(self, engine: Engine) -> None:
        """Let a worker that is ready take jobs."""
        worker = Worker(self._store, EngineRuns(engine, self._registry, self._folders), self._websockets, self._post)
        worker.on_put_back = self.notify
        worker.on_end = lambda reason: self._remove(worker, reason)
        with self._lock:
            if self._is_stopping:
                return
            crashed, self._crashed = self._crashed, []
            self._workers = [*self._workers, worker]
        log.info("%s takes prompts", engine.name)
        worker.start(crashed)

    def _remove(self, worker: Worker, reason: str) -> None:
        with self._lock:
            self._workers = [other for other in self._workers if other is not worker]
            left = len(self._workers)
        if not self._is_stopping:
            log.warning("%s; %d worker(s) left", reason, left)
            self.notify()
