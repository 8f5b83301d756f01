"""Exact inversion with two coupled tracks: EDICT (Wallace, Gokul & Naik 2023, 2211.12446).

Each track is moved with the prediction made at the other one, so that every operation can be undone exactly. It needs
two model calls per step and no noise. BELM (2410.07273) needs one, but divides by sqrt(alpha_bar) of the first
timestep, which is 0 with zero terminal SNR; EDICT works with every schedule.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import DDIMError
from ..guidance.cfg import CFGPlusPlus
from ..step.levels import FLOW
from .trajectory import Trajectory

__all__ = ["check_invertible", "decode_edict", "default_mixing", "encode_edict"]


def default_mixing(steps: int) -> float:
    """Return p: 0.93 for 50 steps, and the same total mixing for any other number (2211.12446, section 4.2)."""
    return math.pow(0.93, 50 / steps)


def check_invertible(trajectory: Trajectory) -> None:
    """Check that no step goes from pure noise directly to clean data, which neither track could undo.

    Raises:
        DDIMError: If there is such a step.
    """
    if trajectory.schedule.noise.kind == FLOW:
        return  # whose tracks keep their scale in every step
    steps = (trajectory.levels(index) for index in range(len(trajectory)))
    if any(at.alpha == 0.0 and to.sigma == 0.0 for at, to in steps):
        raise DDIMError(
            "edict cannot invert a single step from pure noise (zero terminal SNR) to clean data, because the result "
            "does not depend on the noise; use at least 2 steps, or method='variance_noise'"
        )


def decode_edict(trajectory: Trajectory, first: Tensor, second: Tensor, mixing: float) -> tuple[Tensor, Tensor]:
    """Sample with both tracks, 2211.12446, equation (12).

    Args:
        trajectory: Model and plan, with eta 0.
        first: x of the inversion, shape ``(B, ...)``.
        second: y of the inversion, same shape.
        mixing: p, in (0, 1].

    Returns:
        Both tracks in float64. They are equal if the model is the one of the inversion.
    """
    x, y = first.double(), second.double()
    for index in range(len(trajectory)):
        # The leading track alternates, so that rounding errors do not accumulate in the one that always goes first.
        (lead, other), swapped = ((x, y), False) if index % 2 == 0 else ((y, x), True)
        slope = trajectory.slope(index)
        before, output = other, trajectory.output(index, other)
        lead = slope * lead + _change(trajectory, index, other, output)
        other = slope * other + _change(trajectory, index, lead)
        lead = mixing * lead + (1 - mixing) * other
        other = mixing * other + (1 - mixing) * lead
        x, y = (other, lead) if swapped else (lead, other)
        trajectory.report(index, index, before, output)
    return x, y


def encode_edict(trajectory: Trajectory, x0: Tensor, mixing: float) -> tuple[Tensor, Tensor]:
    """Undo :func:`decode_edict` from two equal tracks, 2211.12446, equation (13).

    In float64 whatever the dtype of ``x0``: undoing the mixing enlarges rounding errors by 1 / p^2 per step.

    Args:
        trajectory: Model and plan, with eta 0.
        x0: The image, shape ``(B, ...)``.
        mixing: p, in (0, 1].

    Returns:
        Both tracks, float64.
    """
    x = y = x0.double()
    for steps_done, index in enumerate(reversed(range(len(trajectory)))):
        (lead, other), swapped = ((x, y), False) if index % 2 == 0 else ((y, x), True)
        slope = trajectory.slope(index)
        other = (other - (1 - mixing) * lead) / mixing
        lead = (lead - (1 - mixing) * other) / mixing
        other = (other - _change(trajectory, index, lead)) / slope
        output = trajectory.output(index, other)
        lead = (lead - _change(trajectory, index, other, output)) / slope
        x, y = (other, lead) if swapped else (lead, other)
        trajectory.report(steps_done, index, other, output)
    return x, y


def _change(trajectory: Trajectory, index: int, x: Tensor, output: Tensor | CFGPlusPlus | None = None) -> Tensor:
    """Return what a step adds to the scaled sample, computed from ``x``: for an epsilon model, k_m epsilon(x)."""
    output = trajectory.output(index, x) if output is None else output
    return trajectory.mean(index, x, output).to(torch.float64) - trajectory.slope(index) * x
