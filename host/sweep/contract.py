"""What the driver of a sweep needs to know of its plan, and what it tells while it runs and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from host.engines.contract import Job

__all__ = ["Jobs", "Listener", "Outcome", "Record", "SavedFile"]


class Jobs(Protocol):
    """The jobs of a sweep by index, made only when one is needed, so that a million of them fit in memory.

    The same index always gives the same job, whoever asks and how often.
    """

    def __len__(self) -> int:
        """Return the number of jobs."""

    def job(self, index: int) -> Job:
        """Return the job `index`, 0 to len - 1."""

    def values(self, index: int) -> dict[str, Any]:
        """Return the values that vary: {"NODE.INPUT" as the user wrote it: value}, in the order of the axes."""

    def file_stem(self, index: int) -> str:
        """Return the beginning of the job's file names: its index, padded, and its values; safe on any file system."""


class Listener(Protocol):
    """Hears what a sweep does, one call at a time, from any thread. It must return quickly."""

    def worker_joined(self, worker: str) -> None:
        """A worker is ready."""

    def worker_gone(self, worker: str, reason: str) -> None:
        """A worker takes no more jobs: it cannot be started again, or it was refused. `reason` is a sentence."""

    def job_started(self, worker: str, index: int) -> None:
        """A worker begins a job; also one that it began before and lost."""

    def job_progress(self, worker: str, index: int, node: str, value: float, maximum: float) -> None:
        """A node of a job has done `value` of `maximum` steps; `node` is its title or class."""

    def job_ended(self, worker: str, index: int, status: str) -> None:
        """A job ended on a worker.

        Args:
            worker: The worker's name.
            index: The job.
            status: "success" or "error", which are recorded now; "lost" or "interrupted", which are not; "canary" for
                a job that was run only to compare this worker with the first.
        """

    def notice(self, text: str) -> None:
        """Something that the user should read: a sentence."""


@dataclass(frozen=True)
class SavedFile:
    """A file of a job in the sweep's folder.

    Attributes:
        name: Its name, without folders.
        size: Its size in bytes.
        digest: The digest of `OutputFile`.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Record:
    """The result of one job.

    Attributes:
        index: The job.
        status: "success" or "error".
        files: Its files, in order.
        digest: The digest of `JobResult`; "" if there is none.
        seconds: How long it took.
        worker: The name of the worker that ran it.
        error: One sentence for an error, else None.
    """

    index: int
    status: str
    files: tuple[SavedFile, ...] = ()
    digest: str = ""
    seconds: float = 0.0
    worker: str = ""
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        total: How many jobs it has.
        succeeded: How many of them have pictures on the disk, from this run or an earlier one.
        failed: How many are recorded as failed.
        interrupted: Whether `request_stop` ended it.
        stopped: One sentence why it ended before every job had a result, though nobody asked it to; else None.
    """

    total: int
    succeeded: int
    failed: int
    interrupted: bool = False
    stopped: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every job has a result."""
        return self.succeeded + self.failed == self.total
