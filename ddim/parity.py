"""What ``parity`` means: everything in which ``"diffusers"`` differs from ``"exact"``, in one value."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import torch

from .errors import DDIMError, check_choice

__all__ = ["PARITIES", "Parity", "diffusers_noise_and_direction", "parity_of"]


@dataclass(frozen=True)
class Parity:
    """How a scheduler relates to diffusers'.

    Attributes:
        is_diffusers: whether diffusers' rounding of a step's coefficients is reproduced, by running its operations.
        table_dtype: in which betas and alpha_bar are computed.
        steps_by_stride: whether the step from t goes to ``t - T // S`` (diffusers' rule, from any timestep), instead of
            to the next timestep of the plan.
        max_eta: diffusers does not stop at 1.
        min_threshold_cap: diffusers' thresholding takes a cap below 1, where it amplifies; at 0 it gives NaN.
        draws_in_model_dtype: whether a generator draws in the model output's dtype, instead of float32.
        draws_unused_noise: whether a generator is drawn from where eta is above 0 but the step's sigma is 0.
        batch_end: alpha_bar after the last step in ``batch_step_no_noise``; None for the schedule's own.
    """

    is_diffusers: bool
    table_dtype: torch.dtype
    steps_by_stride: bool
    max_eta: float
    min_threshold_cap: float
    draws_in_model_dtype: bool
    draws_unused_noise: bool
    batch_end: float | None


_PARITIES = {
    "exact": Parity(
        is_diffusers=False,
        table_dtype=torch.float64,
        steps_by_stride=False,
        max_eta=1.0,
        min_threshold_cap=1.0,
        draws_in_model_dtype=False,
        draws_unused_noise=False,
        batch_end=None,
    ),
    "diffusers": Parity(
        is_diffusers=True,
        table_dtype=torch.float32,
        steps_by_stride=True,
        max_eta=sys.float_info.max,
        min_threshold_cap=1e-6,
        draws_in_model_dtype=True,
        draws_unused_noise=True,
        batch_end=1.0,
    ),
}

PARITIES: tuple[str, ...] = tuple(_PARITIES)


def parity_of(name: str) -> Parity:
    """The meaning of ``"exact"`` or ``"diffusers"``.

    Raises:
        DDIMError: for any other name.
    """
    return _PARITIES[check_choice("parity", name, PARITIES)]


def diffusers_noise_and_direction(alpha_bar: float, alpha_bar_next: float, eta: float) -> tuple[float, float]:
    """sigma and sqrt(1 - b - sigma^2) as diffusers' step computes them: the same torch operations on 0-d tensors.

    Near zero its rounding decides: for some step counts zero terminal SNR with eta 1 gives the root of a negative
    number. How torch rounds a power differs between processors, so the operations are run instead of predicted.

    Args:
        alpha_bar: level of the sample, as float32 holds it.
        alpha_bar_next: level after the step, as float32 holds it.
        eta: at least 0.

    Raises:
        DDIMError: where diffusers gives NaN.
    """
    alpha_prod, alpha_prod_prev = (torch.tensor(level, dtype=torch.float32) for level in (alpha_bar, alpha_bar_next))
    beta_prod, beta_prod_prev = 1 - alpha_prod, 1 - alpha_prod_prev
    variance = (beta_prod_prev / beta_prod) * (1 - alpha_prod / alpha_prod_prev)
    std = eta * variance ** (0.5)
    direction = float((1 - alpha_prod_prev - std**2) ** (0.5))
    if not math.isfinite(direction):
        raise DDIMError(
            f"diffusers gives NaN at this step (alpha_bar {alpha_bar:g} to {alpha_bar_next:g}, eta {eta:g}), so there "
            "is nothing to reproduce; use parity='exact'"
        )
    return float(std), direction
