"""What the driver of a sweep needs to know of its plan."""

from __future__ import annotations

from typing import Any, Protocol

from host.engines.contract import Job

__all__ = ["Jobs"]


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
