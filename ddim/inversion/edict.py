"""Exact inversion with two coupled tracks: EDICT (Wallace, Gokul & Naik 2023, 2211.12446).

Each track is moved with the prediction made at the other one, so that every operation can be undone exactly. It needs
two model calls per step and no noise. BELM (2410.07273) needs one, but divides by sqrt(alpha_bar) of the first
timestep, which is 0 with zero terminal SNR, so EDICT is the one that holds for every schedule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DDIMError
from .run import Run

__all__ = ["check_invertible", "decode_edict", "default_mixing", "encode_edict"]


def default_mixing(steps: int) -> float:
    """p = 0.93 for 50 steps, and the same total mixing for any other number (2211.12446, section 4.2)."""
    return 0.93 ** (50 / steps)


def check_invertible(run: Run) -> None:
    """Refuse the one step that no track survives: from pure noise straight to clean data."""
    if any(run.levels(i) == (0.0, 1.0) for i in range(len(run))):
        raise DDIMError(
            "edict cannot invert a single step from pure noise (zero terminal SNR) to clean data: nothing of the noise "
            "is left; use at least 2 steps, or method='variance_noise'"
        )


def decode_edict(run: Run, first: Tensor, second: Tensor, mixing: float) -> tuple[Tensor, Tensor]:
    """Sample with both tracks, 2211.12446, equation (12).

    Args:
        run: with eta 0.
        first: x of the inversion, shape ``(B, ...)``.
        second: y of the inversion, same shape.
        mixing: p, in (0, 1].

    Returns:
        Both tracks in float64; they are equal where the picture is that of the inversion.
    """
    x, y = first.double(), second.double()
    for index in range(len(run)):
        # The leading track alternates, so that neither collects the error of always going first.
        (lead, other), swapped = ((x, y), False) if index % 2 == 0 else ((y, x), True)
        slope = run.slope(index)
        output = run.output(index, other)
        lead = slope * lead + _rest(run, index, other, output)
        other = slope * other + _rest(run, index, lead)
        lead = mixing * lead + (1 - mixing) * other
        other = mixing * other + (1 - mixing) * lead
        x, y = (other, lead) if swapped else (lead, other)
        run.report(index, index, second if index == 0 else x, output)
    return x, y


def encode_edict(run: Run, x0: Tensor, mixing: float) -> tuple[Tensor, Tensor]:
    """Undo :func:`decode_edict` from two equal tracks, 2211.12446, equation (13).

    In float64 whatever the dtype of ``x0``: undoing the mixing enlarges rounding errors by 1 / p^2 per step.

    Args:
        run: with eta 0.
        x0: shape ``(B, ...)``.
        mixing: p, in (0, 1].

    Returns:
        Both tracks, float64.
    """
    x = y = x0.double()
    for done, index in enumerate(reversed(range(len(run)))):
        (lead, other), swapped = ((x, y), False) if index % 2 == 0 else ((y, x), True)
        slope = run.slope(index)
        other = (other - (1 - mixing) * lead) / mixing
        lead = (lead - (1 - mixing) * other) / mixing
        other = (other - _rest(run, index, lead)) / slope
        output = run.output(index, other)
        lead = (lead - _rest(run, index, other, output)) / slope
        x, y = (other, lead) if swapped else (lead, other)
        run.report(done, index, other, output)
    return x, y


def _rest(run: Run, index: int, x: Tensor, output: Tensor | None = None) -> Tensor:
    """What a step adds to the scaled sample, computed from ``x``: for a plain epsilon model, k_m epsilon(x)."""
    output = run.output(index, x) if output is None else output
    return run.mean(index, x, output).to(torch.float64) - run.slope(index) * x
