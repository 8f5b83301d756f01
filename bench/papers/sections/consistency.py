"""DDIM, figures 5 and 6: the same initial noise gives the same picture, whatever the number of steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section
from bench.papers.drawing import Drawing, drawn, judge
from bench.papers.features import features
from bench.papers.figures import mean, share
from bench.papers.markdown import table
from demo.judge import read_digits

__all__ = ["SECTION", "distances"]

STEPS, QUICK_STEPS = (5, 10, 20, 50, 100), (5, 10, 20)
MANY, QUICK_MANY = 1000, 100
COUNT, QUICK_COUNT = 50, 20


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distance of each pair of pictures in the classifier's features, (N,)."""
    return (features(a) - features(b)).norm(dim=1)


def measured(steps: tuple[int, ...], many: int, count: int, advance: Callable[[int], None]) -> Found:
    """Draw every row; the long run is drawn once for all."""
    found: Found = {}
    for eta in (0.0, 1.0):
        longest = drawn(Drawing(many, count, eta=eta), advance)
        if eta == 0.0:
            other = distances(longest, torch.roll(longest, 10, dims=0))  # the digits repeat every ten pictures
            found["other"] = mean(other)
        read = read_digits(judge(), longest)
        for s in steps:
            pictures = drawn(Drawing(s, count, eta=eta), advance)
            found[f"{eta}/{s}"] = mean(distances(pictures, longest))
            found[f"{eta}/{s}/same digit"] = share(read_digits(judge(), pictures) == read)
    return found


def cells(quick: bool) -> list[Cell]:
    """List the one cell: all of its rows need the long run."""
    steps, many, count = (QUICK_STEPS, QUICK_MANY, QUICK_COUNT) if quick else (STEPS, MANY, COUNT)
    cost = 2 * count * (many + sum(steps))
    measure = partial(measured, steps, many, count)
    return [Cell("all", {"steps": str(steps), "many": many, "count": count}, cost, measure)]


def steps_of(found: Found) -> list[int]:
    """Return the numbers of steps that were measured."""
    return [s for s in STEPS if f"0.0/{s}" in found]


def text(results: Results) -> str:
    """Write the section."""
    found = results["all"]
    steps, other = steps_of(found), found["other"]
    many = MANY if len(steps) == len(STEPS) else QUICK_MANY
    rows = {f"eta {eta:g}": [found[f"{eta}/{s}"].plus_minus(2) for s in steps] for eta in (0.0, 1.0)}
    read = {f"eta {eta:g}": [found[f"{eta}/{s}/same digit"].percent() for s in steps] for eta in (0.0, 1.0)}
    nearer = other.value / found[f"0.0/{steps[-1]}"].value
    return f"""\
{other.count} pictures drawn with S steps and with {many} steps from the same initial noise. The mean distance of
the two in the classifier's features; ± is 1.96 bootstrap standard deviations.

{table([f"distance from {many} steps", *(f"S = {s}" for s in steps)], rows)}

Two pictures of the same digit from different initial noise are {other.plus_minus(2)} apart: with {steps[-1]} steps and
eta 0, a picture is {nearer:.0f} times nearer to its own long run than to another picture of the same digit. With eta 1
the step noise decides too, and each number of steps has its own.

{table([f"read as the same digit as with {many} steps", *(f"S = {s}" for s in steps)], read)}

The paper shows this in pictures (figures 5 and 6) and gives no figure to compare with."""


def draw(results: Results, path: Path) -> None:
    """Plot the distance against the number of steps."""
    found = results["all"]
    (panel,) = plots.panels(["distance from the long run, same initial noise"])
    rows = {f"eta {eta:g}": {s: found[f"{eta}/{s}"] for s in steps_of(found)} for eta in (0.0, 1.0)}
    plots.lines(panel, rows, "steps S", "distance in features")
    panel.axhline(found["other"].value, color="black", lw=0.8, ls=":", label="other initial noise, same digit")
    plots.save(panel, path)


SECTION = Section(
    "consistency",
    "The same noise, other steps: DDIM, figures 5 and 6",
    cells,
    text,
    draw,
    "Distance in features from the pictures of 1000 steps, against steps",
)
