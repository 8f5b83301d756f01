"""What became of each job of a sweep: the one place that saves files, records results, and knows which jobs are open.

- A job that ended, also with an error: its files are on the disk before its result is recorded, and both are before it
  counts.
- A job whose worker died: it is handed out again, at most `MAX_ATTEMPTS` times in all, also over several runs of the
  sweep.
- A job that was stopped, or whose driver died: it has no result. When it runs again its files have the same names, so
  whatever was written is replaced by the same content.
"""

from __future__ import annotations

import math
from pathlib import Path
from threading import Condition

from host.atomic_files import delete_left_over
from host.engines.contract import JobResult
from host.sweep.contract import Jobs, Record
from host.sweep.running.journal import Journal, JournalError
from host.sweep.running.pending import Pending
from host.sweep.running.saving import are_on_disk, save_files

__all__ = ["MAX_ATTEMPTS", "Ledger"]

MAX_ATTEMPTS = 3  # of a job whose worker dies


class Ledger:
    """The jobs of one run of a sweep. Safe to use from any thread.

    Args:
        jobs: The jobs.
        journal: Their results so far.
        folder: Where their files are.
        changed: Guards the state; held by callers who wait for a change.
        retry_failed: Whether jobs that are recorded as failed are run again.

    Attributes:
        counts: How many jobs have the status "success" and "error".

    Raises:
        JournalError: The journal has results that do not belong to these jobs.
    """

    def __init__(self, jobs: Jobs, journal: Journal, folder: Path, changed: Condition, *, retry_failed: bool) -> None:
        self._jobs, self._journal, self._folder, self._changed = jobs, journal, folder, changed
        self.counts = {"success": 0, "error": 0}
        delete_left_over(folder)  # of a driver that was killed; no other one is at work while the journal is held
        self._pending = Pending(self._read_results(retry_failed))

    def _read_results(self, retry_failed: bool) -> bytearray:
        """Return which jobs need no run; forget the results of those that do."""
        done = bytearray(len(self._jobs))
        for record in self._journal.results():
            if record.index >= len(done):
                found = f"a result of job {record.index}, but the sweep has {len(done)} jobs"
                raise JournalError(f"{self._journal.path} has {found}")
            again = retry_failed if record.status == "error" else not are_on_disk(self._folder, record)
            if again:
                self._journal.forget(record.index)
            else:
                done[record.index] = 1
                self.counts[record.status] += 1
        return done

    @property
    def left(self) -> int:
        """How many jobs have no result; those that run included."""
        return self._pending.left

    def is_done(self, index: int) -> bool:
        """Return whether a job has a result."""
        return self._pending.is_done(index)

    def result(self, index: int) -> Record | None:
        """Return the result of a job, or None."""
        return self._journal.result(index)

    def reserve(self, index: int) -> None:
        """See `Pending.reserve`."""
        with self._changed:
            self._pending.reserve(index)

    def take(self, worker: str, *, is_alone: bool) -> int | None:
        """See `Pending.take`."""
        with self._changed:
            return self._pending.take(worker, is_alone=is_alone)

    def put_back(self, worker: str, index: int) -> None:
        """Take a job back as if it had not been handed out."""
        with self._changed:
            self._pending.put_back(index, worker)
            self._changed.notify_all()

    def finish(self, worker: str, index: int, result: JobResult) -> bool:
        """Keep the files and the result of a job that ended. Returns False if it has a result already.

        Raises:
            SaveError, JournalError: They cannot be written. The job has no result then.
        """
        files = save_files(self._folder, self._jobs.file_stem(index), result.files)
        return self._record(Record(index, result.status, files, result.digest, _seconds(result), worker, result.error))

    def lose(self, worker: str, index: int, reason: str) -> str:
        """Hand a job out again that a worker lost, or give it up. Returns a sentence for the user."""
        if self.is_done(index):
            return f"{worker} was lost: {reason}"
        attempts = self._journal.add_attempt(index)
        if attempts < MAX_ATTEMPTS:
            self.put_back(worker, index)
            return f"job {index} is run again: {reason}"
        self._record(Record(index, "error", worker=worker, error=f"{attempts} attempts failed: {reason}"))
        return f"job {index} is given up after {attempts} attempts: {reason}"

    def _record(self, record: Record) -> bool:
        is_first = self._journal.record(record)
        with self._changed:
            self.counts[record.status] += is_first
            self._pending.finish(record.index)
            self._changed.notify_all()
        return is_first


def _seconds(result: JobResult) -> float:
    """Return a job's time as a number that can be stored, whatever an engine says."""
    return float(result.seconds) if math.isfinite(result.seconds) else 0.0
