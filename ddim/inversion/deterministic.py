"""Inversion of the deterministic process (eta 0): DDIM inversion, and its refinement to the exact solution.

A step is a map F from one noise level to the next. To invert it is to find x with F(x) = y for a known y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..guidance.cfg import CFGPlusPlus
from ..precision import per_image, working_dtype
from ..step.apply import step_mean
from .trajectory import Trajectory, mean_square

__all__ = ["SEARCHES", "Search", "encode_ddim", "encode_fixed_point", "first_guess"]


@dataclass(frozen=True)
class Search:
    """How the solution of a step is searched for.

    Attributes:
        memory: How many differences between earlier iterates the extrapolation combines.
        large_updates: Whether an update adds the gap times the cosine of the step's angle. Otherwise it adds the gap
            divided by the step's slope, which is less, and right where epsilon does not change.
    """

    memory: int
    large_updates: bool


# Tried in this order. The first is by far the fastest. With long steps it converges, for about one image in a hundred,
# to a solution other than the sample that F was applied to; the others seldom fail for the same image.
SEARCHES = (Search(2, large_updates=True), Search(1, large_updates=False), Search(2, large_updates=False))


def encode_ddim(trajectory: Trajectory, x0: Tensor) -> Tensor:
    """Invert each step with the epsilon predicted at its less noisy end (2010.02502, section 4.3).

    One model call per step; the error per step is of first order in its size.

    Args:
        trajectory: Model and plan, with eta 0.
        x0: The image, shape ``(B, ...)``.

    Returns:
        The latent, in the working dtype.
    """
    x = x0.to(working_dtype(x0.dtype))
    for steps_done, index in enumerate(reversed(range(len(trajectory)))):
        x, output = first_guess(trajectory, index, x)
        trajectory.report(steps_done, index, x, output)
    return x


def encode_fixed_point(
    trajectory: Trajectory, x0: Tensor, refinements: int, tolerance: float, search: Search = SEARCHES[0]
) -> Tensor:
    """Invert each step by refining the result of DDIM inversion until the step leads back to where it started.

    At most ``refinements + 2`` model calls per step.

    Args:
        trajectory: Model and plan, with eta 0.
        x0: The image, shape ``(B, ...)``.
        refinements: How often a step's first guess may be improved, at least 0.
        tolerance: An image is finished when the root mean square of its gap falls below this fraction of its own.
        search: How each step is refined.

    Returns:
        The latent, in the working dtype.
    """
    x = x0.to(working_dtype(x0.dtype))
    for steps_done, index in enumerate(reversed(range(len(trajectory)))):
        guess, output = first_guess(trajectory, index, x)
        x = _refine(trajectory, index, guess, x, refinements, tolerance, search) if refinements else guess
        trajectory.report(steps_done, index, x, output)
    return x


def first_guess(trajectory: Trajectory, index: int, y: Tensor) -> tuple[Tensor, Tensor | CFGPlusPlus]:
    """Undo one step with the prediction that the model makes for ``y``; also return the model's output.

    ``y`` is scaled to the length of the level that the model is told. This is the linear step, without clipping: y was
    not made from a clipped x_0.
    """
    at, to = trajectory.levels(index)
    x = y * (at.length / to.length)
    output = trajectory.output(index, x)
    gap = y - step_mean(trajectory.coefficients(index), x, output)
    return x + gap / trajectory.slope(index), output


def _refine(
    trajectory: Trajectory,
    index: int,
    guess: Tensor,
    y: Tensor,
    refinements: int,
    tolerance: float,
    search: Search,
) -> Tensor:
    """Search for ``F(x) = y`` and return, for each image, the iterate with the smallest gap.

    Plain iteration diverges where steps are long, so each new iterate extrapolates the last few (Anderson 1965;
    Walker & Ni 2011, "Anderson acceleration for fixed-point iterations", section 2).
    """
    goal = tolerance * tolerance * mean_square(y)
    best, best_error = guess, torch.full_like(goal, math.inf)
    xs: list[Tensor] = []
    gaps: list[Tensor] = []
    x = guess
    for _ in range(refinements + 1):
        gap = y - trajectory.step(index, x)
        error = mean_square(gap)
        # A finished image does not change any more, so that its result does not depend on the others of the batch.
        better = (error < best_error) & (best_error > goal)
        best = torch.where(per_image(better, x), x, best)
        best_error = torch.where(better, error, best_error)
        if bool((best_error <= goal).all()):
            break
        xs, gaps = [*xs, x][-search.memory - 1 :], [*gaps, gap][-search.memory - 1 :]
        gap_weight = _angle_cosine(trajectory, index) if search.large_updates else 1 / trajectory.slope(index)
        x = _extrapolate(xs, gaps, gap_weight)
    return best


def _angle_cosine(trajectory: Trajectory, index: int) -> float:
    """Return the cosine of the step's angle: near 1 for a short step, and less for a long one.

    cos(phi_t - phi_u), with alpha = r cos(phi) and sigma = r sin(phi) (2202.00512, appendix D, where r is 1). Levels of
    other kinds than variance preserving have another length r at each level, by which samples and gaps are scaled.
    """
    at, to = trajectory.levels(index)
    return (at.alpha * to.alpha + at.sigma * to.sigma) / to.length**2 or 1.0


def _extrapolate(xs: list[Tensor], gaps: list[Tensor], gap_weight: float) -> Tensor:
    """Return the combination of the iterates with the smallest linearised gap, plus ``gap_weight`` times that gap."""
    x, gap = xs[-1], gaps[-1]
    if len(xs) == 1:
        return x + gap_weight * gap
    dx = torch.stack([after - before for before, after in zip(xs, xs[1:], strict=False)], dim=1)  # (B, m, ...)
    dgap = torch.stack([after - before for before, after in zip(gaps, gaps[1:], strict=False)], dim=1)
    weights = _least_squares(dgap.flatten(2), gap.flatten(1)).to(x.dtype)
    weights = weights.reshape(*weights.shape, *[1] * (x.ndim - 1))
    return x - (weights * dx).sum(1) + gap_weight * (gap - (weights * dgap).sum(1))


def _least_squares(columns: Tensor, target: Tensor) -> Tensor:
    """Return the weights that minimise ``|target - sum_j weights_j columns_j|`` for each image; 0 where undefined.

    Args:
        columns: Shape ``(B, m, N)``, with a small m.
        target: Shape ``(B, N)``.

    Returns:
        Shape ``(B, m)``, float64.
    """
    columns, target = columns.to(torch.float64), target.to(torch.float64)
    gram = torch.nan_to_num(columns @ columns.mT)
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None]
    right_side = torch.nan_to_num(columns @ target[..., None])
    inverse: Tensor = torch.linalg.pinv(gram / scale, rtol=1e-12, hermitian=True)
    return (inverse @ (right_side / scale))[..., 0]
