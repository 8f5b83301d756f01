"""The worker with an executor that fails in ways a real one should not."""

from __future__ import annotations

import json
import sqlite3
import threading
import time

import pytest

from host.execution.executor import RunResult
from host.server.jobs import worker as worker_module
from host.server.jobs.store import MAX_ATTEMPTS, TRUSTED_ATTEMPTS, JobStore
from host.server.jobs.views import job_item
from host.server.jobs.worker import SUSPECT_SECONDS, Worker
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
    assert (
        f"crashed {MAX_ATTEMPTS} times" in job_item(wait_done(store, "poison"))["execution_error"]["exception_message"]
    )
    worker.stop(10)
    assert executor.runs == 0


class ManyStarts:
    """Each life of a server that dies: a worker on the same store, whose clock is moved."""

    def __init__(self, store, monkeypatch) -> None:
        self.store, self.now, self.ran = store, 0.0, []
        monkeypatch.setattr(worker_module.time, "monotonic", lambda: self.now)

    def life(self, seconds: float) -> None:
        """The server starts, is up for some seconds, and dies in whatever job it claims at the end of them."""
        worker = Worker(self.store, None, WebSockets({}), lambda call, *arguments: None)
        worker._thread = threading.Thread(target=lambda: None)
        worker.start()
        self.now += seconds
        if (active := worker._claim()) is not None:
            self.ran.append(active.job.id)


def test_a_machine_that_is_switched_off_soon_after_each_start_fails_no_prompt(store, monkeypatch):
    store.add("innocent", PROMPT, {}, ["1"])
    lives = ManyStarts(store, monkeypatch)
    for _ in range(5 * MAX_ATTEMPTS):
        lives.life(SUSPECT_SECONDS / 2)
    assert store.get("innocent").status == "pending" and lives.ran == ["innocent"] * TRUSTED_ATTEMPTS
    worker = begin(store, EmptyExecutor())
    lives.now += SUSPECT_SECONDS
    worker.notify()
    assert wait_done(store, "innocent").status == "completed"
    worker.stop(10)


def test_a_prompt_that_ends_its_host_at_once_is_given_up_and_the_others_run(store, monkeypatch):
    store.add("poison", PROMPT, {}, ["1"])
    lives = ManyStarts(store, monkeypatch)
    while store.get("poison").status != "failed":
        assert len(lives.ran) <= MAX_ATTEMPTS
        lives.life(SUSPECT_SECONDS if len(lives.ran) >= TRUSTED_ATTEMPTS else 0.0)
    assert lives.ran == ["poison"] * MAX_ATTEMPTS


def test_a_node_that_does_not_stop_with_its_host_is_not_blamed(store):
    """The host ends it, on purpose, while it runs."""
    stuck = threading.Event()

    class StuckExecutor:
        def run(self, *_, **__):
            stuck.wait()

    store.add("slow", PROMPT, {}, ["1"])
    workers = []
    for _ in range(TRUSTED_ATTEMPTS + 1):
        workers.append(begin(store, StuckExecutor()))
        end = time.monotonic() + 60
        while store.get("slow").status != "in_progress":
            assert time.monotonic() < end
            time.sleep(0.01)
        workers[-1].stop(0.01)
        assert workers[-1].is_running() and store.get("slow").status == "pending"
    stuck.set()
    for worker in workers:
        worker.stop(10)


class EmptyExecutor:
    """Succeeds at once."""

    def run(self, prompt, prompt_id, outputs, extra_data, emit, cancel, *, before_end):
        result = RunResult("success", {}, {}, [])
        before_end(result)
        emit("execution_success", {"prompt_id": prompt_id})
        return result


class Clients(WebSockets):
    """A client that is always connected; what it was sent."""

    def __init__(self) -> None:
        super().__init__({})
        self.events = []

    def connected(self, client_id):
        return True

    def publish_frame(self, frame, client_id):
        self.events.append((json.loads(frame)["type"], client_id))


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database is locked"), OSError("disk full")], ids=repr)
def test_a_result_that_cannot_be_recorded_is_recorded_later(store, monkeypatch, error):
    """Meanwhile its client hears that the run has ended, and the next job runs."""
    monkeypatch.setattr(worker_module, "_FIRST_RETRY_SECONDS", 0.01)
    finish, broken, clients = store.finish, threading.Event(), Clients()
    broken.set()

    def sometimes_broken(job_id, result, summary):
        if job_id == "one" and broken.is_set():
            raise error
        finish(job_id, result, summary)

    monkeypatch.setattr(store, "finish", sometimes_broken)
    worker = Worker(store, EmptyExecutor(), clients, lambda call, *arguments: call(*arguments))
    store.add("one", PROMPT, {"client_id": "a"}, ["1"])
    store.add("two", PROMPT, {"client_id": "b"}, ["1"])
    worker.start()
    wait_done(store, "two")
    assert store.get("one").status == "in_progress"
    broken.clear()
    assert wait_done(store, "one").status == "completed"
    assert store.remaining() == 0
    assert [event for event, client_id in clients.events if client_id == "a"] == ["execution_success", "executing"]
    worker.stop(10)


def test_a_store_that_is_locked_while_jobs_are_claimed_delays_them(store, monkeypatch):
    monkeypatch.setattr(worker_module, "_FIRST_RETRY_SECONDS", 0.01)
    claim, failures = store.claim, iter([sqlite3.OperationalError("database is locked")] * 3)

    def locked_at_first(**options):
        for error in failures:
            raise error
        return claim(**options)

    monkeypatch.setattr(store, "claim", locked_at_first)
    store.add("one", PROMPT, {}, ["1"])
    worker = begin(store, EmptyExecutor())
    assert wait_done(store, "one").status == "completed"
    worker.stop(10)
