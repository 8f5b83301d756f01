"""The progress bars of a sweep: one for all jobs, and one for each worker."""

from __future__ import annotations

import sys

from tqdm import tqdm

from host.cli.console import is_quiet
from host.error_format import shorten

__all__ = ["SweepBars"]

_MAX_WORKER_BARS = 16  # more would not fit on a screen
_JOBS = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_STEPS = "  {desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}"
_IDLE = "  {desc}"
_MAX_LABEL = 40


class SweepBars:
    """Draws what a sweep tells, on stderr; see `host.sweep.contract.Listener` for the methods.

    Where stderr is no terminal, the workers' bars are left out.

    Args:
        total: The number of jobs.
        done: How many of them are done already.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self._jobs = tqdm(
            total=total, initial=done, desc="jobs", unit="job", file=sys.stderr, bar_format=_JOBS, dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 5.0, smoothing=0.1, position=0, disable=is_quiet(),
        )  # fmt: skip
        self._workers: dict[str, tqdm] = {}
        self._failed = 0

    def worker_joined(self, worker: str) -> None:
        """A worker is ready."""
        if worker not in self._workers and len(self._workers) < _MAX_WORKER_BARS:
            self._workers[worker] = tqdm(
                total=1, desc=f"{worker}: ready", file=sys.stderr, bar_format=_IDLE, leave=False,
                disable=is_quiet() or None, dynamic_ncols=True, position=len(self._workers) + 1,
            )  # fmt: skip

    def worker_gone(self, worker: str, reason: str) -> None:
        """A worker takes no more jobs."""
        self._show(worker, "gone", 0, 0)
        self.notice(f"{worker} takes no more jobs: {reason}")

    def job_started(self, worker: str, index: int) -> None:
        """A worker begins a job."""
        self._show(worker, f"job {index}", 0, 0)

    def job_progress(self, worker: str, index: int, node: str, value: float, maximum: float) -> None:
        """A node of a job has done some steps."""
        self._show(worker, f"job {index}, {shorten(node, _MAX_LABEL)}", value, maximum)

    def job_ended(self, worker: str, index: int, status: str) -> None:
        """A job ended on a worker."""
        self._show(worker, "ready", 0, 0)
        if status in ("success", "error"):
            if status == "error":
                self._failed += 1
                self._jobs.set_postfix_str(f"{self._failed} failed", refresh=False)
            self._jobs.update()

    def notice(self, text: str) -> None:
        """Write a line above the bars."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar of the jobs as it is, remove the others, and start a new line."""
        for bar in reversed(self._workers.values()):
            bar.close()
        self._jobs.refresh()
        self._jobs.close()

    def _show(self, worker: str, text: str, value: float, maximum: float) -> None:
        bar = self._workers.get(worker)
        if bar is None or bar.disable:
            return
        bar.bar_format = _STEPS if maximum else _IDLE
        bar.total, bar.n = maximum or 1, value
        bar.set_description_str(f"{worker}: {text}", refresh=False)
        bar.refresh()
