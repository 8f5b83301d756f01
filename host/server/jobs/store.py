"""The job store: every accepted prompt and every result, in one SQLite file that survives a crash.

A job is a row from the moment its prompt is accepted. `claim` and `finish` are single transactions, so that after a
crash each row is either pending, in progress (it has no result, so it is run again) or done (it is not run again).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host.server.jobs.job import FULL_COLUMNS, LIGHT_COLUMNS, Job, Result, read_job
from host.server.jobs.schema import SCHEMA, SCHEMA_VERSION
from host.strict_json import dumps

__all__ = ["MAX_ATTEMPTS", "TRUSTED_ATTEMPTS", "DuplicateId", "JobStore"]

MAX_HISTORY = 10_000  # results; the oldest are dropped
MAX_ATTEMPTS = 10  # a prompt that was running this often when the server died is not run again
TRUSTED_ATTEMPTS = 3  # after so many it is a suspect, which `claim` can leave out
_BATCH_SIZE, _BATCH_CHARACTERS = 50, 4 << 20  # of the jobs that are read at once


class DuplicateId(ValueError):
    """A new prompt has the id of an existing job."""


class JobStore:
    """The jobs by id, in running order and in finishing order. Safe to use from any thread.

    Args:
        path: The database file; its folder exists.

    Raises:
        sqlite3.DatabaseError: The file is not a job store of this version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        os.chmod(path, 0o600)  # prompts and workflows are their user's own; SQLite's other files copy the mode
        # A cached statement would keep the texts that it wrote last, for as long as the store is open.
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, cached_statements=0)
        if self._db.execute("PRAGMA user_version").fetchone()[0] not in (0, SCHEMA_VERSION):
            self._db.close()
            raise sqlite3.DatabaseError("it was written by another version of this host")
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA journal_size_limit=16777216")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Write everything to the file and close it."""
        with self._lock:
            self._db.close()

    def recover(self) -> list[str]:
        """Make the jobs pending that were running when the server crashed.

        Returns:
            The ids of jobs that were running at `MAX_ATTEMPTS` crashes. The caller records them as failed.
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
        """Store a prompt durably.

        Args:
            job_id: The job's id.
            prompt: The checked prompt.
            extra_data: The request's extra data, stored with the time of creation.
            targets: The output nodes to execute.
            workflow_id: The id of the editor's workflow.
            number: The place in the queue; None for the next one.
            front: Whether to put the job before all pending ones.

        Returns:
            The job's number in the queue; the lowest runs first.

        Raises:
            DuplicateId: A job with this id exists.
        """
        now = int(time.time() * 1000)
        extra = dumps({**extra_data, "create_time": now})
        row = (job_id, now, workflow_id, dumps(prompt), extra, dumps(list(targets)))
        with self._transaction():
            try:
                inserted = self._db.execute(
                    "INSERT INTO jobs (id, create_time, workflow_id, prompt, extra_data, targets)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError as error:
                raise DuplicateId(f"a job with id {job_id} exists") from error
            seq = inserted.lastrowid or 0
            if number is None:
                number = float(1 - seq if front else seq - 1)
            self._db.execute("UPDATE jobs SET number=? WHERE seq=?", (number, seq))
        return number

    def claim(self, *, with_suspects: bool = True) -> Job | None:
        """Mark the next job as in progress and return it, or return None if none is pending, or only suspects are."""
        limit = MAX_ATTEMPTS if with_suspects else TRUSTED_ATTEMPTS
        query = "SELECT seq FROM jobs WHERE status='pending' AND attempts<? ORDER BY number, seq LIMIT 1"
        with self._transaction():
            row = self._db.execute(query, (limit,)).fetchone()
            if row is None:
                return None
            self._db.execute(
                "UPDATE jobs SET status='in_progress', attempts=attempts+1, start_time=? WHERE seq=?",
                (int(time.time() * 1000), row[0]),
            )
            return self._one("seq=?", row[0])

    def release(self, job_id: str) -> None:
        """Put an unfinished job back into the queue, as if it had not been claimed."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET status='pending', attempts=attempts-1, start_time=NULL"
                " WHERE id=? AND status='in_progress'",
                (job_id,),
            )

    def put_back(self, job_id: str) -> bool:
        """Put a job back into the queue whose worker died; the attempt counts.

        Returns:
            False for a job that was lost so often that it may be the cause: it is left as it is.
        """
        with self._transaction():
            changed = self._db.execute(
                "UPDATE jobs SET status='pending', start_time=NULL WHERE id=? AND status='in_progress' AND attempts<?",
                (job_id, TRUSTED_ATTEMPTS),
            )
            return changed.rowcount > 0

    def finish(self, job_id: str, result: Result, summary: dict[str, Any]) -> None:
        """Store the result of a run durably, and drop the oldest results beyond `MAX_HISTORY`."""
        text = dumps({"outputs": result.outputs, "meta": result.meta, "messages": result.messages})
        with self._transaction():
            last = self._db.execute("SELECT COALESCE(MAX(done_seq), 0) FROM jobs").fetchone()[0]
            self._db.execute(
                "UPDATE jobs SET status=?, end_time=?, done_seq=?, result=?, summary=? WHERE id=?",
                (result.status, int(time.time() * 1000), last + 1, text, dumps(summary), job_id),
            )
            self._db.execute("DELETE FROM jobs WHERE done_seq<=?", (last + 1 - MAX_HISTORY,))

    def cancel(self, job_id: str) -> bool:
        """Remove a pending job from the queue. Returns False if it is not pending."""
        with self._transaction():
            return self._db.execute("DELETE FROM jobs WHERE id=? AND status='pending'", (job_id,)).rowcount > 0

    def clear_queue(self) -> None:
        """Remove every pending job from the queue."""
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE status='pending'")

    def forget(self, job_id: str) -> None:
        """Remove one result from the history."""
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE id=? AND done_seq IS NOT NULL", (job_id,))

    def clear_history(self) -> None:
        """Remove every result from the history."""
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE done_seq IS NOT NULL")

    def remaining(self) -> int:
        """Return the number of jobs that run or wait."""
        with self._lock:
            query = "SELECT COUNT(*) FROM jobs WHERE status IN ('pending', 'in_progress')"
            return int(self._db.execute(query).fetchone()[0])

    def queue(self, status: str) -> list[Job]:
        """Return the complete jobs that run (`in_progress`) or wait (`pending`), in running order."""
        with self._lock:
            rows = self._db.execute(f"SELECT {FULL_COLUMNS} FROM jobs WHERE status=? ORDER BY number, seq", (status,))
            return [read_job(row) for row in rows]

    def get(self, job_id: str) -> Job | None:
        """Return one complete job, or None for an unknown id."""
        with self._lock:
            return self._one("id=?", job_id)

    def queue_keys(self) -> tuple[list[int], list[int]]:
        """Return the keys of the jobs that run, and of those that wait in running order, for `jobs`."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, status FROM jobs WHERE status IN ('in_progress', 'pending') ORDER BY number, seq"
            ).fetchall()
        return [row[0] for row in rows if row[1] == "in_progress"], [row[0] for row in rows if row[1] == "pending"]

    def history_keys(self, max_items: int | None = None, offset: int = -1) -> list[int]:
        """Return the keys of finished jobs in finishing order, for `jobs`.

        Args:
            max_items: The largest number of jobs; with a negative `offset`, the newest ones.
            offset: How many of the oldest jobs to skip.
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
        return keys

    def jobs(self, keys: Sequence[int]) -> list[Job | None]:
        """Return the first complete jobs of `keys`, a few megabytes in all; None for one that was deleted meanwhile."""
        found: list[Job | None] = []
        size = 0
        with self._lock:
            for key in keys[:_BATCH_SIZE]:
                job = self._one("seq=?", key)
                found.append(job)
                size += 0 if job is None else len(job.extra_data_text or "") + len(job.prompt_text or "")
                if size > _BATCH_CHARACTERS:
                    break
        return found

    def history(self, max_items: int | None = None, offset: int = -1) -> Iterator[list[Job]]:
        """Yield complete finished jobs in finishing order, in batches, so that a long history fits in memory."""
        keys = self.history_keys(max_items, offset)
        while keys:
            batch = self.jobs(keys)
            keys = keys[len(batch) :]
            yield [job for job in batch if job is not None and job.result_text is not None]

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
        """Return one page of light jobs with the given statuses, sorted, and the number of jobs on all pages."""
        where = f"status IN ({','.join('?' * len(statuses))})"
        values: list[Any] = list(statuses)
        if workflow_id is not None:
            where += " AND workflow_id=?"
            values.append(workflow_id)
        key = "COALESCE(end_time-start_time, 0)" if by_duration else "create_time"
        order = f"{key} DESC, seq DESC" if newest_first else f"{key} ASC, seq ASC"
        with self._lock:
            total = self._db.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}", values).fetchone()[0]
            rows = self._db.execute(
                f"SELECT {LIGHT_COLUMNS} FROM jobs WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
                [*values, -1 if limit is None else limit, offset],
            )
            return [read_job(row) for row in rows], total

    def _one(self, where: str, value: Any) -> Job | None:
        row = self._db.execute(f"SELECT {FULL_COLUMNS} FROM jobs WHERE {where}", (value,)).fetchone()
        return None if row is None else read_job(row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the lock, and commit or roll back. IMMEDIATE: a writer waits its turn instead of failing at commit."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
