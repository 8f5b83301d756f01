"""Inversion of the deterministic process (eta 0): DDIM's own, and its refinement to the exact solution.

A step is a map F from level a to level b. Inverting it means to find x with F(x) = y, for the y that is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..precision import per_image, weighted_sum, working_dtype
from .run import Run, mean_square

__all__ = ["SEARCHES", "Search", "encode_ddim", "encode_fixed_point"]


@dataclass(frozen=True)
class Search:
    """How the solution of a step is looked for.

    Attributes:
        memory: how many differences of earlier iterates the extrapolation combines.
        bold: whether a plain update adds as much of the gap as the step's angle allows, or as much as is right where
            epsilon stays as it is.
    """

    memory: int
    bold: bool


# Tried in this order. The first is the fastest by far; where steps are long it may, for one picture in a hundred, take
# a turn to another solution than the one that sampling comes from, and the others then seldom take the same turn.
SEARCHES = (Search(2, bold=True), Search(1, bold=False), Search(2, bold=False))


def encode_ddim(run: Run, x0: Tensor) -> Tensor:
    """DDIM inversion (2010.02502, section 4.3): each step upwards with the epsilon predicted at its lower end.

    One model call per step; the error per step is of first order in its size.

    Args:
        run: with eta 0.
        x0: shape ``(B, ...)``.

    Returns:
        The latent, in the working dtype.
    """
    x = x0.to(working_dtype(x0.dtype))
    for done, index in enumerate(reversed(range(len(run)))):
        x, output = _first_guess(run, index, x)
        run.report(done, index, x, output)
    return x


def encode_fixed_point(
    run: Run, x0: Tensor, refinements: int, tolerance: float, search: Search = SEARCHES[0]
) -> Tensor:
    """DDIM inversion with each step refined until stepping back gives the sample that it came from.

    At most ``refinements + 2`` model calls per step.

    Args:
        run: with eta 0.
        x0: shape ``(B, ...)``.
        refinements: how often a step's first guess may be improved, at least 0.
        tolerance: an image is done when the root mean square of what is missing falls below this share of its own.
        search: how each step is refined.

    Returns:
        The latent, in the working dtype.
    """
    x = x0.to(working_dtype(x0.dtype))
    for done, index in enumerate(reversed(range(len(run)))):
        guess, output = _first_guess(run, index, x)
        x = _refine(run, index, guess, x, refinements, tolerance, search) if refinements else guess
        run.report(done, index, x, output)
    return x


def _first_guess(run: Run, index: int, y: Tensor) -> tuple[Tensor, Tensor]:
    """One step upwards, with the epsilon that the model sees in ``y``; and the model's output.

    The linear step without clipping: a clipped x_0 is not what the sample is made of.
    """
    output = run.output(index, y)
    gap = y - weighted_sum(y, output, run.coefficients(index).step)
    return y + gap / run.slope(index), output


def _refine(
    run: Run, index: int, guess: Tensor, y: Tensor, refinements: int, tolerance: float, search: Search
) -> Tensor:
    """The best iterate, per image, towards ``F(x) = y``.

    Plain iteration diverges where steps are long, so each new iterate extrapolates the last few (Anderson 1965;
    Walker & Ni 2011, "Anderson acceleration for fixed-point iterations", section 2), and of all iterates the one with
    the smallest gap is kept.
    """
    goal = tolerance**2 * mean_square(y)
    best, missing = guess, torch.full_like(goal, math.inf)
    xs: list[Tensor] = []
    gaps: list[Tensor] = []
    x = guess
    for _ in range(refinements + 1):
        gap = y - run.step(index, x)
        error = mean_square(gap)
        # An image that is done stays as it is, so that its result does not depend on the others of the batch.
        better = (error < missing) & (missing > goal)
        best = torch.where(per_image(better, x), x, best)
        missing = torch.where(better, error, missing)
        if bool((missing <= goal).all()):
            break
        xs, gaps = [*xs, x][-search.memory - 1 :], [*gaps, gap][-search.memory - 1 :]
        x = _extrapolate(xs, gaps, _damping(run, index) if search.bold else 1 / run.slope(index))
    return best


def _damping(run: Run, index: int) -> float:
    """Share of the gap that a plain update adds: cos of the step's angle, 1 for a short step and less for a long one.

    cos(phi_a - phi_b) = sqrt(a b) + sqrt((1 - a)(1 - b)), with sqrt(a) = cos(phi_a) (2202.00512, appendix D).
    """
    a, b = run.levels(index)
    return math.sqrt(a * b) + math.sqrt((1 - a) * (1 - b)) or 1.0


def _extrapolate(xs: list[Tensor], gaps: list[Tensor], damping: float) -> Tensor:
    """The next iterate from the last ones: the combination with the smallest linearised gap, plus a share of it."""
    x, gap = xs[-1], gaps[-1]
    if len(xs) == 1:
        return x + damping * gap
    dx = torch.stack([after - before for before, after in zip(xs, xs[1:], strict=False)], dim=1)  # (B, m, ...)
    dgap = torch.stack([after - before for before, after in zip(gaps, gaps[1:], strict=False)], dim=1)
    weights = _least_squares(dgap.flatten(2), gap.flatten(1)).to(x.dtype)
    weights = weights.reshape(*weights.shape, *[1] * (x.ndim - 1))
    return x - (weights * dx).sum(1) + damping * (gap - (weights * dgap).sum(1))


def _least_squares(columns: Tensor, target: Tensor) -> Tensor:
    """Weights ``(B, m)`` that minimise ``|target - sum_j weights_j columns_j|`` for each image; 0 where undefined.

    Args:
        columns: shape ``(B, m, N)``, m small.
        target: shape ``(B, N)``.
    """
    columns, target = columns.to(torch.float64), target.to(torch.float64)
    gram = torch.nan_to_num(columns @ columns.mT)
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None]
    right = torch.nan_to_num(columns @ target[..., None])
    return (torch.linalg.pinv(gram / scale, rtol=1e-12, hermitian=True) @ (right / scale))[..., 0]
