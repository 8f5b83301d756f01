"""Timing that is reliable on a busy machine: alternatives take turns in one process; 20th percentiles are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["interleaved", "print_table"]


def interleaved(runs: Sequence[Callable[[], object]], seconds: float = 0.6, least: int = 7) -> list[float]:
    """Time alternatives that take turns, and return the seconds per call of each: the 20th percentile over its turns.

    Args:
        runs: The alternatives.
        seconds: Total time to spend on all alternatives together.
        least: Minimum number of turns, even if they take longer.
    """
    repeats = []
    for run in runs:
        run()
        began = time.perf_counter()
        run()
        repeats.append(max(1, int(2e-4 / max(time.perf_counter() - began, 1e-7))))  # a turn takes at least 0.2 ms
    times: list[list[float]] = [[] for _ in runs]
    deadline = time.perf_counter() + seconds
    while len(times[0]) < least or time.perf_counter() < deadline:
        for run, repeat, measured in zip(runs, repeats, times, strict=True):
            began = time.perf_counter()
            for _ in range(repeat):
                run()
            measured.append((time.perf_counter() - began) / repeat)
    return [sorted(measured)[len(measured) // 5] for measured in times]


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table with columns as wide as their content."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print(f"\n{title}\n" + "-" * len(title))
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), flush=True)
