"""Times that mean something on a busy machine: alternatives take turns in one process, ratios of 20th percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["interleaved", "print_table"]


def interleaved(runs: Sequence[Callable[[], object]], seconds: float = 0.6, least: int = 7) -> list[float]:
    """Seconds per call of each alternative: the 20th percentile over turns taken one after the other.

    Args:
        runs: the alternatives.
        seconds: how long to go on, all alternatives together.
        least: turns at least, however long they take.
    """
    repeats = []
    for run in runs:
        run()
        began = time.perf_counter()
        run()
        repeats.append(max(1, int(2e-4 / max(time.perf_counter() - began, 1e-7))))  # a turn is 0.2 ms at least
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
    """Print a table in columns as wide as they need to be."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print(f"\n{title}\n" + "-" * len(title))
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), flush=True)
