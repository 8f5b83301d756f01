"""Which job is next: the lowest one that has no result and that nobody runs."""

from __future__ import annotations

__all__ = ["Pending"]


class Pending:
    """The jobs without a result. One byte a job; not safe to use from several threads at once.

    Args:
        done: For each job, whether it needs no run. It is changed here.
    """

    def __init__(self, done: bytearray) -> None:
        self._done = done
        self._next = 0  # every job before it is done, runs, or was put back
        self._put_back: dict[int, str] = {}  # lost jobs, with the worker that lost them last
        self.left = done.count(0)  # those that run included

    def take(self, worker: str, *, is_alone: bool) -> int | None:
        """Return the next job for a worker, or None if there is none for it now.

        A worker does not get a job back that it has lost while there are others to try it: what is wrong with a machine
        should not count against a job.

        Args:
            worker: The worker's name.
            is_alone: Whether there is no other worker.
        """
        lost = min((index for index, last in self._put_back.items() if is_alone or last != worker), default=None)
        self._next = self._done.find(0, self._next)
        if self._next < 0:
            self._next = len(self._done)
        if lost is not None and lost < self._next:
            del self._put_back[lost]
            return lost
        if self._next == len(self._done):
            return None
        self._next += 1
        return self._next - 1

    def put_back(self, index: int, worker: str) -> None:
        """Take a job back that a worker did not finish, unless another one has."""
        if not self._done[index]:
            self._put_back[index] = worker

    def is_done(self, index: int) -> bool:
        """Return whether a job has a result."""
        return bool(self._done[index])

    def finish(self, index: int) -> None:
        """Note that a job has a result."""
        self._put_back.pop(index, None)
        if not self._done[index]:
            self._done[index] = 1
            self.left -= 1

    def reserve(self, index: int) -> None:
        """Do not hand out the first job, which every new worker runs anyway: see `canary`."""
        if index == self._next:
            self._next += 1
