"""DDIM, figure 4: the time of a run against its number of steps."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section, Setting
from bench.papers.drawing import Drawing, drawn
from bench.papers.figures import Figure
from bench.papers.markdown import table, verdict

__all__ = ["SECTION"]

STEPS, QUICK_STEPS = (10, 20, 50, 100, 200, 500, 1000), (10, 20, 50, 100)
COUNT, REPEATS = 10, 3


def measured(steps: int, advance: Callable[[int], None]) -> Found:
    """Time a whole run: planning, the network, the steps. The fastest of three; the interval is their range."""
    drawn(Drawing(2, COUNT), lambda passed: None)  # the first run sets things up
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        drawn(Drawing(steps, COUNT), advance)
        times.append(time.perf_counter() - start)
    return {"seconds": Figure(min(times), min(times), max(times), REPEATS)}


def cells(quick: bool) -> list[Cell]:
    """List a cell for each number of steps."""
    settings: dict[str, Setting] = {"count": COUNT, "threads": torch.get_num_threads(), "machine": platform.machine()}
    return [
        Cell(str(s), settings, REPEATS * COUNT * s, partial(measured, s)) for s in (QUICK_STEPS if quick else STEPS)
    ]


def row_of(results: Results) -> dict[int, Figure]:
    """Return the times by number of steps."""
    return {s: results[str(s)]["seconds"] for s in STEPS if str(s) in results}


def text(results: Results) -> str:
    """Write the section."""
    row = row_of(results)
    longest = max(row)
    seconds = [f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})" for figure in row.values()]
    faster = [f"{row[longest].value / figure.value:.1f}" for figure in row.values()]
    fewer = [f"{longest / s:g}" for s in row]
    rows = {"seconds": seconds, f"times faster than {longest}": faster, "times fewer steps": fewer}
    near = [s for s in row if 0.8 <= row[longest].value / row[s].value / (longest / s) <= 1.25]
    far = [s for s in row if s not in near]
    return f"""\
{COUNT} pictures of the demo model on the processor ({torch.get_num_threads()} threads): the fastest of {REPEATS} runs,
with their range. A time depends on the machine; the ratios hardly do.

{table(["", *(f"S = {s}" for s in row)], rows)}

- {verdict("the time is proportional to the steps (within 25 %)", near, far)}

The paper's "10x to 50x faster" is this ratio for 100 and for 20 steps in place of 1000; what those steps cost in
quality is the first table."""


def draw(results: Results, path: Path) -> None:
    """Plot the time against the number of steps."""
    (panel,) = plots.panels([f"{COUNT} pictures"])
    plots.lines(panel, {"seconds": row_of(results)}, "steps S", "seconds")
    plots.save(panel, path, legend=False)


SECTION = Section("wall_clock", "Time: DDIM, figure 4", cells, text, draw, "Seconds against steps")
