"""Fitted steps: `ddim.fit_timesteps` against even steps, on starts that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.fitted_steps.__main__ import FIT_PICTURES, REFERENCE_STEPS, SCALES, measure
from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section, Setting
from bench.papers.drawing import demo, judge
from bench.papers.figures import Figure, bootstrapped, share
from bench.papers.markdown import table, verdict
from demo.judge import read_digits

__all__ = ["SECTION"]

STEPS, QUICK_STEPS = (5, 8, 10), (5,)
COUNT, QUICK_COUNT = 50, 10
CALLS_OF_A_FIT = 1500  # with ten pictures, about; a smaller number would make the time left look too short
NAMES = {
    "trailing": "trailing",
    "ays": "Align Your Steps (2404.14507)",
    "fast": "fitted, fast",
    "accurate": "fitted, accurate",
}
TWICE = "trailing, twice the steps"


def root_mean(squared: Tensor) -> Figure:
    """Return the root of the mean of squares, ``(N,)``."""
    return bootstrapped(lambda chosen: float(squared[chosen].mean().sqrt()), len(squared))


def measured(scale: float, steps: tuple[int, ...], count: int, advance: Callable[[int], None]) -> Found:
    """Return the distances and shares of all plans at one guidance scale."""
    with torch.inference_mode():
        results = measure(demo(), scale, steps, count, lambda pictures: read_digits(judge(), pictures))
    found: Found = {}
    for (name, s), result in results.items():
        found |= {f"{name}/{s}": root_mean(result.squared), f"{name}/{s}/read": share(result.right)}
    return found


def cells(quick: bool) -> list[Cell]:
    """List a cell for each guidance scale."""
    steps, count = (QUICK_STEPS, QUICK_COUNT) if quick else (STEPS, COUNT)
    cost = count * (REFERENCE_STEPS + 5 * sum(steps)) + FIT_PICTURES * CALLS_OF_A_FIT * len(steps)
    settings: dict[str, Setting] = {"steps": str(steps), "count": count}
    return [Cell(f"{scale:g}", settings, int(cost * scale), partial(measured, scale, steps, count)) for scale in SCALES]


def steps_of(found: Found) -> list[int]:
    """Return the numbers of steps that were fitted."""
    return [s for s in STEPS if f"accurate/{s}" in found]


def text(results: Results) -> str:
    """Write the section."""
    tables, lines = [], []
    for scale, found in results.items():
        steps = steps_of(found)
        rows = {name: [found[f"{plan}/{s}"].plus_minus(3) for s in steps] for plan, name in NAMES.items()}
        rows[TWICE] = [found[f"trailing/{2 * s}"].plus_minus(3) for s in steps]
        read = {name: [found[f"{plan}/{s}/read"].percent() for s in steps] for plan, name in NAMES.items()}
        tables += [
            table([f"distance, guidance {scale}", *(f"S = {s}" for s in steps)], rows),
            table([f"read as asked, guidance {scale}", *(f"S = {s}" for s in steps)], read),
        ]
        held = [s for s in steps if found[f"accurate/{s}"].value <= found[f"trailing/{2 * s}"].value]
        claim = f"fitted steps (accurate) are as near as twice as many trailing ones at guidance {scale}"
        lines.append("- " + verdict(claim, held, [s for s in steps if s not in held]))
    count = next(iter(results.values()))["trailing/10"].count
    body = "\n\n".join(tables)
    return f"""\
Each plan is fitted to {FIT_PICTURES} starts and measured on {count} others: root mean square distance of its pictures
from those of {REFERENCE_STEPS} steps, pictures in [-1, 1], network in bfloat16. Align Your Steps: its list for SD 1.5.
± is 1.96 bootstrap standard deviations.

{body}

{chr(10).join(lines)}"""


def draw(results: Results, path: Path) -> None:
    """Plot the distance against the number of steps."""
    both = plots.panels([f"guidance {scale}" for scale in results])
    for panel, found in zip(both, results.values(), strict=True):
        rows = {name: {s: found[f"{plan}/{s}"] for s in steps_of(found)} for plan, name in NAMES.items()}
        rows[TWICE] = {s: found[f"trailing/{2 * s}"] for s in steps_of(found)}
        plots.lines(panel, rows, "steps S", "distance from 250 steps (RMS)")
    both[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    plots.save(both[1], path, legend=False)


SECTION = Section(
    "fitted", "Fitted steps", cells, text, draw, "Distance from the pictures of 250 steps against steps, for each plan"
)
