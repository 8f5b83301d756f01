"""The worker with an executor that fails in ways a real one should not."""

from __future__ import annotations

import threading
import time

import pytest

from host.server.jobs.store import MAX_ATTEMPTS, JobStore
from host.server.jobs.views import job_item
from host.server.jobs.worker import Worker
from host.server.websockets import WebSockets

PROMPT = {"1": {"class_type": "X", "inputs": {}}}


class FailingExecutor:
    """Raises what it is told to, and counts."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.runs = error, 0

    def run(self, *_, **__):
        self.runs += 1
        raise self.error


@pytest.fixture
def store(tmp_path):
    opened = JobStore(tmp_path / "jobs.sqlite3")
    yield opened
    opened.close()


def begin(store, executor) -> Worker:
    worker = Worker(store, executor, WebSockets({}), lambda call, *arguments: None)
    worker.start()
    return worker


def wait_done(store, job_id):
    end = time.monotonic() + 60
    while (job := store.get(job_id)).result is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return job


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_executor_that_raises_fails_its_job_and_no_other(store, error):
    executor = FailingExecutor(error)
    worker = begin(store, executor)
    for job_id in ("one", "two"):
        store.add(job_id, PROMPT, {}, ["1"])
        worker.notify()
        job = wait_done(store, job_id)
        assert job.status == "failed"
        shown = job_item(job)["execution_error"]
        assert shown["exception_type"] == type(error).__name__
        assert all(isinstance(shown[name], str) for name in ("node_id", "node_type", "exception_message"))
    assert executor.runs == 2
    worker.stop(10)


def test_a_prompt_that_keeps_ending_its_host_is_recorded_as_failed(store):
    store.add("poison", PROMPT, {}, ["1"])
    for _ in range(MAX_ATTEMPTS):
        store.recover()
        store.claim()
    executor = FailingExecutor(RuntimeError())
    worker = begin(store, executor)
    assert "crashed too often" in job_item(wait_done(store, "poison"))["execution_error"]["exception_message"]
    worker.stop(10)
    assert executor.runs == 0


def test_a_full_disk_stops_nobody_but_the_job(store, monkeypatch):
    """The result of one job cannot be written; the next one still has its turn."""
    finish, broken = store.finish, threading.Event()

    def once_full(job_id, result, summary):
        if job_id == "one" and not broken.is_set():
            raise OSError("disk full")
        finish(job_id, result, summary)

    monkeypatch.setattr(store, "finish", once_full)
    worker = begin(store, FailingExecutor(RuntimeError("x")))
    store.add("one", PROMPT, {}, ["1"])
    store.add("two", PROMPT, {}, ["1"])
    worker.notify()
    wait_done(store, "two")
    worker.stop(10)
    broken.set()
    assert store.get("one").status == "in_progress"  # it has no result: the next start runs it again
    assert store.recover() == [] and store.claim().id == "one"
