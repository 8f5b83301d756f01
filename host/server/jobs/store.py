"""The job store: every accepted prompt and every result, in one SQLite file that survives a kill.

A job is a row from the moment its prompt is accepted. ``claim`` and ``finish`` are single transactions, so that after a
kill each row is either pending, in progress (it is run again, because no result of it exists) or done (it is not).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from host.payload import dumps

from .job import FULL, LIGHT, Job, Result, read_job
from .transaction import Transaction

__all__ = ["JobStore", "SameId"]

MAX_HISTORY = 10_000
MAX_ATTEMPTS = 10
_BATCH = 50

_VERSION = 1  # of the table below
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    number REAL NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    create_time INTEGER NOT NULL,
    start_time INTEGER,
    end_time INTEGER,
    done_seq INTEGER,
    workflow_id TEXT,
    prompt TEXT NOT NULL,
    extra_data TEXT NOT NULL,
    targets TEXT NOT NULL,
    result TEXT,
    summary TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number, seq);
CREATE INDEX IF NOT EXISTS jobs_by_done ON jobs (done_seq);
"""


class SameId(ValueError):
    """A prompt came under an id that another job has."""


class JobStore:
    """Jobs by id, in running order and in finishing order. Safe to use from any thread.

    Args:
        path: the database file; its folder exists.

    Raises:
        sqlite3.DatabaseError: for a file that is no job store of this version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        if self._db.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
            self._db.close()
            raise sqlite3.DatabaseError("it was written by another version of this host")
        self._db.execute(f"PRAGMA user_version={_VERSION}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA journal_size_limit=16777216")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Writes everything into the one file and lets go of it."""
        with self._lock:
            self._db.close()

    def recover(self) -> list[str]:
        """After a start: jobs that a dead host was running become pending; ids of those it died on too often.

        A prompt that ends its host ``MAX_ATTEMPTS`` times is not tried again: the caller records it as failed.
        """
        with self._transaction():
            self._db.execute("UPDATE jobs SET status='pending', start_time=NULL WHERE status='in_progress'")
            rows = self._db.execute("SELECT id FROM jobs WHERE status='pending' AND attempts>=?", (MAX_ATTEMPTS,))
            return [row[0] for row in rows]

    def add(
        self,
        job_id: str,
        prompt: dict[str, Any],
        extra_data: dict[str, Any],
        targets: Sequence[str],
        *,
        workflow_id: str | None = None,
        number: float | None = None,
        front: bool = False,
    ) -> float:
        """Accepts a prompt for good and returns its number in the queue (lowest runs first).

        Args:
            number: the place in the queue; None counts up.
            front: put it before everything that waits.

        Raises:
            SameId: when a job has this id already.
        """
        now = int(time.time() * 1000)
        row = (
            job_id,
            now,
            workflow_id,
            dumps(prompt),
            dumps({**extra_data, "create_time": now}),
            dumps(list(targets)),
        )
        with self._transaction():
            try:
                seq = (
                    self._db.execute(
                        "INSERT INTO jobs (id, create_time, workflow_id, prompt, extra_data, targets)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        row,
                    ).lastrowid
                    or 0
                )
            except sqlite3.IntegrityError as error:
                raise SameId(f"a job with id {job_id} exists") from error
            place = number if number is not None else float(1 - seq if front else seq - 1)
            self._db.execute("UPDATE jobs SET number=? WHERE seq=?", (place, seq))
        return place

    def claim(self) -> Job | None:
        """Marks the next job as in progress and returns it; None when nothing waits."""
        with self._transaction():
            row = self._db.execute(
                "SELECT seq FROM jobs WHERE status='pending' ORDER BY number, seq LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            self._db.execute(
                "UPDATE jobs SET status='in_progress', attempts=attempts+1, start_time=? WHERE seq=?",
                (int(time.time() * 1000), row[0]),
            )
            return self._one("seq=?", row[0])

    def release(self, job_id: str) -> None:
        """Puts a job that did not end back into the queue, as if it had not been claimed."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET status='pending', attempts=attempts-1, start_time=NULL"
                " WHERE id=? AND status='in_progress'",
                (job_id,),
            )

    def finish(self, job_id: str, result: Result, summary: dict[str, Any]) -> None:
        """Records the result of a run for good, and forgets the oldest ones over ``MAX_HISTORY``."""
        text = dumps({"outputs": result.outputs, "meta": result.meta, "messages": result.messages})
        with self._transaction():
            last = self._db.execute("SELECT COALESCE(MAX(done_seq), 0) FROM jobs").fetchone()[0]
            self._db.execute(
                "UPDATE jobs SET status=?, end_time=?, done_seq=?, result=?, summary=? WHERE id=?",
                (result.status, int(time.time() * 1000), last + 1, text, dumps(summary), job_id),
            )
            self._db.execute("DELETE FROM jobs WHERE done_seq<=?", (last + 1 - MAX_HISTORY,))

    def cancel(self, job_id: str) -> bool:
        """Takes a pending job out of the queue; False if it is not pending."""
        with self._transaction():
            return self._db.execute("DELETE FROM jobs WHERE id=? AND status='pending'", (job_id,)).rowcount > 0

    def clear_queue(self) -> None:
        """Takes every pending job out of the queue."""
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE status='pending'")

    def forget(self, job_id: str) -> None:
        """Drops one result from the history."""
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE id=? AND done_seq IS NOT NULL", (job_id,))

    def clear_history(self) -> None:
        """Drops every result from the history."""
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE done_seq IS NOT NULL")

    def remaining(self) -> int:
        """How many jobs run or wait."""
        with self._lock:
            return self._db.execute("SELECT COUNT(*) FROM jobs WHERE status IN ('pending', 'in_progress')").fetchone()[
                0
            ]

    def queue(self, status: str) -> list[Job]:
        """The jobs that run (``in_progress``) or wait (``pending``), in running order, complete."""
        with self._lock:
            rows = self._db.execute(f"SELECT {FULL} FROM jobs WHERE status=? ORDER BY number, seq", (status,))
            return [read_job(row) for row in rows]

    def get(self, job_id: str) -> Job | None:
        """One job, complete; None for an unknown id."""
        with self._lock:
            return self._one("id=?", job_id)

    def history(self, max_items: int | None = None, offset: int = -1) -> Iterator[list[Job]]:
        """Finished jobs in finishing order, complete, in batches so that a long history fits in memory.

        Args:
            max_items: at most so many; with a negative ``offset`` the newest ones.
            offset: how many of the oldest to leave out.
        """
        with self._lock:
            keys = [
                row[0] for row in self._db.execute("SELECT seq FROM jobs WHERE done_seq IS NOT NULL ORDER BY done_seq")
            ]
        if max_items is not None:
            first = max(offset if offset >= 0 else len(keys) - max_items, 0)
            keys = keys[first : first + max(max_items, 0)]
        elif offset > 0:
            keys = keys[offset:]
        for start in range(0, len(keys), _BATCH):
            yield self._by_seq(keys[start : start + _BATCH])

    def listing(
        self,
        statuses: Sequence[str],
        *,
        workflow_id: str | None = None,
        by_duration: bool = False,
        newest_first: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[list[Job], int]:
        """Light jobs of the given statuses, sorted and cut, and how many there are without the cut."""
        where = f"status IN ({','.join('?' * len(statuses))})"
        values: list[Any] = list(statuses)
        if workflow_id is not None:
            where += " AND workflow_id=?"
            values.append(workflow_id)
        order = "COALESCE(end_time-start_time, 0)" if by_duration else "create_time"
        way = "DESC" if newest_first else "ASC"
        with self._lock:
            total = self._db.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}", values).fetchone()[0]
            rows = self._db.execute(
                f"SELECT {LIGHT} FROM jobs WHERE {where} ORDER BY {order} {way}, seq {way} LIMIT ? OFFSET ?",
                [*values, -1 if limit is None else limit, offset],
            )
            return [read_job(row) for row in rows], total

    def _by_seq(self, keys: Sequence[int]) -> list[Job]:
        marks = ",".join("?" * len(keys))
        with self._lock:
            rows = self._db.execute(
                f"SELECT {FULL} FROM jobs WHERE seq IN ({marks}) AND result IS NOT NULL ORDER BY done_seq",
                keys,
            )
            return [read_job(row) for row in rows]

    def _one(self, where: str, value: Any) -> Job | None:
        row = self._db.execute(f"SELECT {FULL} FROM jobs WHERE {where}", (value,)).fetchone()
        return None if row is None else read_job(row)

    def _transaction(self) -> Transaction:
        return Transaction(self._lock, self._db)
