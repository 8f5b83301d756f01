"""Plots for the documentation: cost against size and against number of steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib
import torch

import ddim
from bench.peer import CASES, both_schedulers, step_runs, tensors
from bench.timing import interleaved

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZES = (1, 4, 8, 16, 32, 64, 128, 256, 512)
STEP_COUNTS = (10, 20, 50, 100, 200, 500, 1000)


def cost_against_size(folder: Path) -> Path:
    """Plot the time of a step against the number of elements; both libraries allocate their result."""
    figure, axes = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    for case, colour in zip((CASES[0], CASES[2], CASES[4]), ("#1f77b4", "#d62728", "#2ca02c"), strict=True):
        times = [interleaved(step_runs(case, (1, 4, size, size)), 0.15) for size in SIZES]
        elements = [4 * size * size for size in SIZES]
        axes.loglog(elements, [a * 1e6 for a, _ in times], color=colour, label=f"ddim: {case.name}")
        axes.loglog(elements, [b * 1e6 for _, b in times], color=colour, ls="--", label=f"diffusers: {case.name}")
    axes.set(xlabel="elements of the sample", ylabel="microseconds per step", title="One step, one thread, float32")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _saved(figure, folder / "cost_against_size.png")


def cost_against_steps(folder: Path) -> Path:
    """Plot the time of planning and of a whole run without a model against the number of steps."""
    x, m, *_ = tensors((1, 4, 64, 64))

    def plan_and_run(scheduler: Any, steps: int) -> None:
        scheduler.set_timesteps(steps)
        state = x
        for t in scheduler.timesteps:
            state = scheduler.step(m, t, state)[0]

    def loop(steps: int) -> None:
        ours.set_timesteps(steps)
        ddim.sample(lambda x, t: m, x, ours)

    ours, theirs = both_schedulers({"clip_sample": False})
    rows = []
    for steps in STEP_COUNTS:
        runs = (lambda s=steps: loop(s), lambda s=steps: plan_and_run(ours, s), lambda s=steps: plan_and_run(theirs, s))
        rows.append(interleaved(runs, 0.4, least=5))
    figure, axes = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    for i, (label, style) in enumerate((("ddim: sample()", "-"), ("ddim: step()", "-."), ("diffusers: step()", "--"))):
        axes.loglog(STEP_COUNTS, [row[i] * 1e3 for row in rows], style, label=label)
    axes.set(xlabel="steps", ylabel="milliseconds", title="Planning and stepping 1x4x64x64, without the model")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _saved(figure, folder / "cost_against_steps.png")


def _saved(figure: plt.Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    figure.savefig(unfinished, dpi=90, format="png")
    plt.close(figure)
    os.replace(unfinished, path)
    return path


def main(folder: Path) -> None:
    """Draw both plots."""
    torch.set_num_threads(1)
    for draw in (cost_against_size, cost_against_steps):
        print(f"plot: {draw(folder)}", flush=True)
