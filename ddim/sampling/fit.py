"""Fitted steps: which S timesteps of a model end nearest to the exact solution; the search is in ``fit_search.py``."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_function
from ..errors import DDIMError, check_choice, check_integer
from ..schedule.betas import check_usable
from ..schedule.timesteps import END, TimestepPlan, make_plan
from ..scheduler.forward import ForwardScheduler
from .fit_search import Model, ProgressCallback, Trials, best_sums, greedy, polished, solve
from .loop import check_run

__all__ = ["FIT_METHODS", "fit_timesteps"]

FIT_METHODS: tuple[str, ...] = ("accurate", "fast")

# The share of the grid's levels that are spaced evenly in the logarithm of the timestep instead of the timestep: near
# clean data the noise of narrow data changes by its own size within a few timesteps.
_LOGARITHMIC = 0.15

_KNOWN = ("trailing", "linspace", "ays", "ays_sdxl")  # the spacings that begin at the first timestep

_POLISHING = (1 / 4, 1 / 8)  # how far each pass moves a timestep, as a part of the gap to its neighbour


@torch.no_grad()
def fit_timesteps(
    model: Model,
    x: Tensor,
    scheduler: ForwardScheduler,
    steps: int,
    *,
    grid: int = 60,
    method: str = "accurate",
    callback: ProgressCallback | None = None,
) -> TimestepPlan:
    """Choose the timesteps with which DDIM (eta 0) ends nearest to where an exact run from the same start would end.

    The teacher is a second-order run over a grid of N levels: with N = 60 nearer to the exact solution than 250 steps
    of DDIM. ``"accurate"`` (Pei et al. 2025, 2503.21774) keeps, for s = 1..S, the run of s steps that comes nearest to
    the teacher at each level; then it moves each timestep of the best run, or of the best known spacing, while the end
    comes nearer. ``"fast"`` (GITS, Chen et al. 2024, 2405.11326) takes the path of S steps between the teacher's states
    whose errors add up to the least.

    Args:
        model: as for :func:`ddim.sample`; guidance belongs inside, since the plan depends on it.
        x: noisy starts at the first level of the plan, shape ``(B, ...)``; not modified. Ten images are enough for
            a plan that holds for others (measured on the demo model).
        scheduler: with its plan set, of which the first timestep and the end count: the fitted plan has the same. Not
            modified. A :class:`~ddim.DDIMFlowScheduler` offers the levels of its run, so plan many; before
            ``set_timesteps`` it offers those of training.
        steps: S, in 1..N.
        grid: N, number of levels of the teacher.
        method: ``"accurate"``: N + (S - 1)(N + S + 6) model calls; ``"fast"``: N.
        callback: ``callback(done, total)`` after each model call, and where a call is not needed after all, so that
            ``done`` reaches ``total``. An exception in it stops the search.

    Returns:
        The plan, for ``set_plan``; the same arguments give the same plan. With ``"accurate"``, no known spacing ends
        nearer to the teacher from this ``x``.

    Raises:
        DDIMError: before the first model call, for arguments that do not fit together; during the search, where the
            model's output is not finite.

    Kept in memory: 2 N batches like ``x`` in float32, the teacher's states and model outputs; with ``"accurate"`` up to
    5 N, those of two values of s as well.
    """
    check_run(model, x, scheduler)
    check_choice("method", method, FIT_METHODS)
    if callback is not None:
        check_function("callback", callback)
    if not x.numel():
        raise DDIMError(f"x must hold at least one image to fit to, got the shape {tuple(x.shape)}")
    levels = _grid(scheduler, grid)
    count = len(levels) - 1
    steps = check_integer("steps", steps, 1, count, why=" (the grid)")
    starts = 1 + len(_KNOWN)
    more = (steps - 1) * (count - steps + 1 + starts + len(_POLISHING) * steps)
    trials = Trials(model, x, scheduler, count + (more if method == "accurate" else 0), callback)
    trials.coefficients(levels[0], levels[1])  # of an epsilon model there are none at zero terminal SNR
    teacher = solve(trials, levels)
    if method == "fast":
        path = best_sums(trials, teacher, levels, steps)
    else:
        path = polished(
            trials, teacher, [greedy(trials, teacher, levels, steps), *_known_paths(levels, steps)], _POLISHING
        )
    return TimestepPlan(tuple(pairwise(path)))


def _grid(scheduler: ForwardScheduler, count: int) -> list[int]:
    """N timesteps from the plan's first and, last, its end; denser towards the end."""
    first, end = scheduler.plan.timesteps[0], max(scheduler.plan.pairs[-1][1], END)
    count = check_integer("grid", count, 1, first - end, why=f" (the levels from timestep {first} to the plan's end)")
    distance = np.arange(first - end + 1)  # in timesteps from the end
    even, logarithmic = distance / distance[-1], np.log1p(distance) / np.log1p(distance[-1])
    position = (1 - _LOGARITHMIC) * even + _LOGARITHMIC * logarithmic
    rising = [end]
    for i, nearest in enumerate(np.interp(np.linspace(0, 1, count + 1)[1:], position, distance).round().tolist(), 1):
        rising.append(min(max(end + int(nearest), rising[-1] + 1), first - (count - i)))
    check_usable(scheduler.noise_schedule.levels, torch.tensor(rising[1:]))
    return rising[::-1]


def _known_paths(levels: list[int], steps: int) -> list[list[int]]:
    """The paths of the known spacings over the same timesteps."""
    end = levels[-1]
    plans = [make_plan(steps, levels[0] - end, spacing) for spacing in _KNOWN]
    return [[*(t + end + 1 for t in plan.timesteps), end] for plan in plans]
