"""The job store against a list: any sequence of calls, with restarts and kills between them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from host.server.jobs import store as module
from host.server.jobs.job import STATUSES, Result
from host.server.jobs.store import DuplicateId, JobStore

PROMPT = {"1": {"class_type": "X", "inputs": {}}}


class StoreAgainstList(RuleBasedStateMachine):
    """``waiting`` and ``done`` hold ids in the order in which the store must give them."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = JobStore(self.folder / "jobs.sqlite3")
        self.count = 0
        self.waiting: list[tuple[float, int, str]] = []
        self.running: tuple[float, int, str] | None = None
        self.done: list[str] = []

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(place=st.one_of(st.none(), st.integers(-5, 5)), front=st.booleans())
    def add(self, place, front):
        self.count += 1
        name = f"job{self.count}"
        number = self.store.add(name, PROMPT, {}, ["1"], number=place, front=front)
        if place is not None:
            assert number == place
        self.waiting.append((number, self.count, name))
        self.waiting.sort()
        with pytest.raises(DuplicateId):
            self.store.add(name, PROMPT, {}, ["1"])

    @precondition(lambda self: self.running is None)
    @rule()
    def claim(self):
        job = self.store.claim()
        if self.waiting:
            self.running = self.waiting.pop(0)
            assert job.id == self.running[2] and job.prompt == PROMPT and job.status == "in_progress"
        else:
            assert job is None

    @precondition(lambda self: self.running is not None)
    @rule(status=st.sampled_from(["completed", "failed", "cancelled"]))
    def finish(self, status):
        self.store.finish(self.running[2], Result(status, {"1": {"x": [1]}}), {"outputs_count": 1})
        self.done.append(self.running[2])
        self.running = None

    @precondition(lambda self: self.running is not None)
    @rule()
    def release(self):
        self.store.release(self.running[2])
        self._requeue()

    @rule(at=st.integers(0, 20))
    def cancel(self, at):
        every = [*(entry[2] for entry in self.waiting), *self.done, "unknown"]
        name = every[at % len(every)]
        assert self.store.cancel(name) == any(entry[2] == name for entry in self.waiting)
        self.waiting = [entry for entry in self.waiting if entry[2] != name]

    @rule(at=st.integers(0, 20))
    def forget(self, at):
        if self.done:
            self.store.forget(self.done.pop(at % len(self.done)))

    @rule()
    def kill(self):
        """Another connection opens the same files: what a dead process leaves."""
        copy = Path(tempfile.mkdtemp())
        for path in self.folder.iterdir():
            shutil.copy(path, copy / path.name)
        self.store.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.store = JobStore(copy / "jobs.sqlite3")
        given_up = self.store.recover()
        if self.running is not None:
            self._requeue()
        for name in given_up:
            self.store.finish(name, Result("failed"), {})
            self.done.append(name)
        self.waiting = [entry for entry in self.waiting if entry[2] not in given_up]

    def _requeue(self):
        self.waiting.append(self.running)
        self.waiting.sort()
        self.running = None

    @invariant()
    def same(self):
        assert [job.id for job in self.store.queue("pending")] == [entry[2] for entry in self.waiting]
        assert [job.id for job in self.store.queue("in_progress")] == ([self.running[2]] if self.running else [])
        assert [job.id for batch in self.store.history() for job in batch] == self.done
        assert self.store.remaining() == len(self.waiting) + (self.running is not None)
        listed, total = self.store.listing(STATUSES, limit=3)
        assert total == len(self.waiting) + len(self.done) + (self.running is not None) and len(listed) == min(3, total)


TestStoreAgainstList = StoreAgainstList.TestCase
TestStoreAgainstList.settings = settings(max_examples=15, stateful_step_count=25, deadline=None, database=None)


@pytest.fixture
def store(tmp_path):
    opened = JobStore(tmp_path / "jobs.sqlite3")
    yield opened
    opened.close()


def test_a_prompt_that_keeps_ending_its_host_is_given_up(store):
    store.add("poison", PROMPT, {}, ["1"])
    for _ in range(module.MAX_ATTEMPTS):
        assert store.recover() == []
        assert store.claim().id == "poison"
    assert store.recover() == ["poison"]


def test_a_suspect_is_left_out_and_does_not_hold_up_the_others(store):
    store.add("suspect", PROMPT, {}, ["1"])
    store.add("other", PROMPT, {}, ["1"])
    for _ in range(module.TRUSTED_ATTEMPTS):
        assert store.claim(with_suspects=False).id == "suspect"
        store.recover()
    assert store.claim(with_suspects=False).id == "other"
    assert store.claim(with_suspects=False) is None
    assert store.claim(with_suspects=True).id == "suspect"


def test_a_release_is_no_attempt(store):
    store.add("patient", PROMPT, {}, ["1"])
    for _ in range(3 * module.MAX_ATTEMPTS):
        store.claim()
        store.release("patient")
    assert store.recover() == []


def test_the_oldest_results_go_first(store, monkeypatch):
    monkeypatch.setattr(module, "MAX_HISTORY", 3)
    for i in range(5):
        store.add(f"job{i}", PROMPT, {}, ["1"])
        store.claim()
        store.finish(f"job{i}", Result("completed"), {})
    assert [job.id for batch in store.history() for job in batch] == ["job2", "job3", "job4"]


def test_half_a_change_is_no_change(store, monkeypatch):
    store.add("job", PROMPT, {}, ["1"])
    store.claim()
    with pytest.raises(sqlite3.Error), store._transaction():
        store._db.execute("UPDATE jobs SET status='completed'")
        store._db.execute("no such statement")
    assert store.get("job").status == "in_progress"


def test_other_users_cannot_read_the_store(store, tmp_path):
    store.add("job", PROMPT, {}, ["1"])
    files = list(tmp_path.glob("jobs.sqlite3*"))
    assert len(files) >= 2  # with the write-ahead log
    assert [path.stat().st_mode & 0o077 for path in files] == [0] * len(files)
