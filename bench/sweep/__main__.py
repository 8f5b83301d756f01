"""What the driver of a sweep costs for each job, and what a second worker gains: ``python -m bench.sweep``.

The jobs of the first table do nothing. With an engine in the driver's process what remains is the driver alone: the
job, its thread, the file that is flushed to the disk, the journal. With worker processes the pipe is added. One driver
feeds as many devices as it has processor time for: the time of a job on a device over the driver's own for it.

The second table runs the same jobs, each about a second of one thread, with one worker and with two, in turn.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.timing import print_table
from host.engines.spec import EngineSpec
from host.sweep.running import JOURNAL_NAME, Journal, Sweep
from host.workers.contract import Pool
from host.workers.local import LocalPool
from tests.sweep.support import ToyEngine, ToyJobs, ToyPool, make_pack

_JOB_SECONDS = (1.0, 10.0)


class _Watch:
    """A listener that looks at the driver's memory when a tenth of the jobs is done, and at the end."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._ended = jobs, 0
        self.began = 0.0
        self.memory: list[int] = []

    def worker_joined(self, worker: str) -> None:
        self.began = time.perf_counter()  # of the last worker

    def worker_gone(self, worker: str, reason: str) -> None:
        raise AssertionError(reason)

    def job_started(self, worker: str, index: int) -> None:
        pass

    def job_progress(self, worker: str, index: int, node: str, value: float, maximum: float) -> None:
        pass

    def job_ended(self, worker: str, index: int, status: str) -> None:
        assert status == "success", status
        self._ended += 1
        if self._ended in (self._jobs // 10, self._jobs):
            self.memory.append(_resident())

    def notice(self, text: str) -> None:
        raise AssertionError(text)


def _resident() -> int:
    """Return the resident bytes of this process; 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _run(jobs: ToyJobs, pool: Pool) -> tuple[float, float, _Watch]:
    """Run a sweep. Returns seconds from the last worker's start on, the driver's processor seconds, and its memory."""
    watch = _Watch(len(jobs))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal.create(folder / JOURNAL_NAME, "{}")
        began = time.process_time()
        try:
            outcome = Sweep(jobs, pool, journal, folder, watch).run()
            seconds = time.perf_counter() - watch.began
            assert outcome.succeeded == len(jobs), outcome
            return seconds, time.process_time() - began, watch
        finally:
            journal.close()


def _cost_row(title: str, jobs: ToyJobs, pool: Pool) -> list[Any]:
    seconds, busy, watch = _run(jobs, pool)
    wall, own = 1e3 * seconds / len(jobs), 1e3 * busy / len(jobs)
    growth = (watch.memory[-1] - watch.memory[0]) / 2**20
    feeds = [f"{1e3 * job_seconds / own:,.0f}" for job_seconds in _JOB_SECONDS]
    return [title, f"{wall:.2f}", f"{own:.2f}", f"{growth:+.1f}", *feeds]


def cost_table(count: int, pack: Path) -> None:
    """Measure jobs that do nothing."""
    spec = EngineSpec(packs=(str(pack),))
    rows = [
        _cost_row("engine in the driver's process", ToyJobs(count), ToyPool([ToyEngine("toy")])),
        _cost_row("1 worker process", ToyJobs(count), LocalPool([spec], 1)),
        _cost_row("2 worker processes", ToyJobs(count), LocalPool([spec], 2)),
    ]
    head = ["no-op jobs", "ms a job", "of these in the driver", "MiB more after 90% of them"]
    print_table(f"{count:,} no-op jobs", [*head, *(f"devices at {each:g} s" for each in _JOB_SECONDS)], rows)


def speedup_table(count: int, rounds: int, pack: Path) -> None:
    """Measure one worker and two on jobs of about a second of one thread."""
    jobs = ToyJobs(count, actions={"*": "work 1.0"})
    spec = EngineSpec(packs=(str(pack),))
    rows = []
    for number in range(rounds):
        one, two = (_run(jobs, LocalPool([spec], workers))[0] for workers in (1, 2))
        rows.append([number + 1, f"{one:.1f}", f"{two:.1f}", f"{one / two:.3f}"])
    print_table(f"{count} jobs of a second", ["round", "1 worker, s", "2 workers, s", "ratio"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser("python -m bench.sweep", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="no-op jobs (%(default)s)")
    parser.add_argument("--long-jobs", type=int, default=20, help="jobs of a second; an even number (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of the second table (%(default)s)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SWEEP_NOTES"] = folder
        pack = make_pack(Path(folder))
        cost_table(chosen.jobs, pack)
        speedup_table(chosen.long_jobs, chosen.rounds, pack)


if __name__ == "__main__":
    main()
