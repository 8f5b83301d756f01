"""DDIM, table 1 in closed form: Gaussian data, whose samples' distribution is known without drawing any."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import ddim
from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section
from bench.papers.figures import Figure, exact
from bench.papers.gaussian import Gaussian, digits, frechet_distance, sampled
from bench.papers.markdown import table

from .quality import ETAS, Eta, orders, shown

__all__ = ["SECTION", "measured"]

STEPS, QUICK_STEPS = (5, 10, 20, 50, 100, 1000), (5, 10, 20, 50, 100)

_data = cache(digits)


def measured(steps: int, eta: Eta, advance: Callable[[int], None]) -> Found:
    """Return the Frechet distance of one cell."""
    data: Gaussian = _data()
    scheduler = ddim.DDIMScheduler(
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(steps)
    return {"distance": exact(frechet_distance(sampled(data, scheduler, eta), data))}


def cells(quick: bool) -> list[Cell]:
    """List a cell for each number of steps and eta."""
    return [
        Cell(f"{eta}/{s}", {}, s // 2, partial(measured, s, eta))
        for eta in ETAS
        for s in (QUICK_STEPS if quick else STEPS)
    ]


def rows_of(results: Results) -> dict[Eta, dict[int, Figure]]:
    """Return the distances by eta and steps."""
    steps = [s for s in STEPS if f"0.0/{s}" in results]
    return {eta: {s: results[f"{eta}/{s}"]["distance"] for s in steps} for eta in ETAS}


def text(results: Results) -> str:
    """Write the section."""
    rows = rows_of(results)
    steps = list(rows[0.0])
    cells = {shown(eta): [f"{row[s].value:.3g}" for s in steps] for eta, row in rows.items()}
    return f"""\
For Gaussian data the exact prediction is known, every step is affine, and the samples are Gaussian again: their mean
and variance follow from the steps without a sample, so these figures have no interval. The data have the mean and the
covariance of the demo model's training pictures (halved to 3x16x16). Betas and timesteps are the paper's: linear from
0.0001 to 0.02, leading.

{table(["Frechet distance", *(f"S = {s}" for s in steps)], cells)}

{orders(rows)}

In the paper, with trained networks, sigma-hat is the best at 1000 steps (CIFAR-10: 3.17 against 4.04 for eta 0)."""


def draw(results: Results, path: Path) -> None:
    """Plot the distance against the number of steps."""
    (panel,) = plots.panels(["Gaussian data, exact model"])
    plots.lines(
        panel, {shown(eta): row for eta, row in rows_of(results).items()}, "steps S", "Frechet distance (no noise)"
    )
    plots.save(panel, path)


SECTION = Section(
    "quality_exact",
    "The same in closed form",
    cells,
    text,
    draw,
    "Frechet distance against steps for five etas, Gaussian data",
)
