"""DDIM, table 2: error of plain inversion and reconstruction against steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import ddim
from bench.inversion import PAPER_ERROR, PAPER_STEPS, demo_case, mixture_case
from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section
from bench.papers.figures import Figure, mean
from bench.papers.markdown import table, verdict

__all__ = ["SECTION", "measured"]

QUICK_STEPS = (10, 20, 50)
SCANS, QUICK_SCANS = 3, 1  # of each digit
CASES = {"demo": "demo model, scans it has not seen", "mixture": "Gaussian mixture, exact prediction"}
SEED = 0


def measured(case: str, steps: int, scans: int, advance: Callable[[int], None]) -> Found:
    """Return the mean squared error of one cell, of pictures in [0, 1]."""
    config, model, data = demo_case(scans) if case == "demo" else mixture_case(SEED)

    def counted(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if case == "demo":
            advance(len(x))
        return model(x, t)

    found = ddim.invert(counted, data, ddim.make_schedule(steps, config).scheduler(), method="ddim", seed=SEED)
    scale = 4 if case == "demo" else 1  # the demo model's range is [-1, 1], the paper's [0, 1]
    return {"error": mean(found.residual / scale)}


def cells(quick: bool) -> list[Cell]:
    """List a cell for each model and number of steps."""
    steps, scans = (QUICK_STEPS, QUICK_SCANS) if quick else (PAPER_STEPS, SCANS)
    return [
        Cell(
            f"{case}/{s}",
            {"scans": scans, "seed": SEED},
            20 * scans * s if case == "demo" else s // 5,
            partial(measured, case, s, scans),
        )
        for case in CASES
        for s in steps
    ]


def rows_of(results: Results) -> dict[str, dict[int, Figure]]:
    """Return the errors by model and steps."""
    steps = [s for s in PAPER_STEPS if f"demo/{s}" in results]
    return {name: {s: results[f"{case}/{s}"]["error"] for s in steps} for case, name in CASES.items()}


def text(results: Results) -> str:
    """Write the section."""
    rows = rows_of(results)
    steps = list(next(iter(rows.values())))
    cells = {
        name: [f"{figure.value:.2g} ({max(0, figure.low):.2g} to {figure.high:.2g})" for figure in row.values()]
        for name, row in rows.items()
    }
    cells["the paper, CIFAR-10"] = [f"{PAPER_ERROR[PAPER_STEPS.index(s)]:g}" for s in steps]
    ours = list(rows[CASES["demo"]].values())
    falls = [s for s, a, b in zip(steps[1:], ours, ours[1:], strict=False) if b.value < a.value]
    rises = [s for s in steps[1:] if s not in falls]
    counts = " and ".join(f"{row[steps[0]].count} ({name})" for name, row in rows.items())
    return f"""\
Mean squared error of a picture after plain DDIM inversion and sampling with the same steps, without a prompt; pictures
in [0, 1]. Pictures: {counts}. In brackets: 95 % bootstrap interval.

{table(["error", *(f"S = {s}" for s in steps)], cells)}

- {verdict("the demo model's error falls with every longer run", falls, rises)}

The exact methods beside it are measured in [Inversion and edits](inversion.md)."""


def draw(results: Results, path: Path) -> None:
    """Plot the errors against the number of steps."""
    rows: dict[str, dict[int, Figure]] = rows_of(results)
    steps = list(next(iter(rows.values())))
    errors = {s: PAPER_ERROR[PAPER_STEPS.index(s)] for s in steps}
    rows["the paper, CIFAR-10"] = {s: Figure(v, v, v, 0) for s, v in errors.items()}
    (panel,) = plots.panels(["plain inversion and reconstruction"])
    plots.lines(panel, rows, "steps S", "mean squared error")
    plots.save(panel, path)


SECTION = Section(
    "reconstruction",
    "Reconstruction: DDIM, table 2",
    cells,
    text,
    draw,
    "Mean squared error of plain inversion against steps, beside the paper's",
)
