"""The scalars of a step with diffusers' rounding, and a sentence where diffusers itself gives NaN."""

from __future__ import annotations

import math

import numpy as np

from .coefficients import SIGMA_HAT, Eta, Linear, StepCoefficients
from .errors import DDIMError

__all__ = ["parity_coefficients"]


def parity_coefficients(alpha_bar: float, alpha_bar_next: float, prediction_type: str, eta: Eta) -> StepCoefficients:
    """As :meth:`StepCoefficients.at`, with the direction's length as diffusers rounds it.

    diffusers takes sqrt(1 - b - sigma^2) of float32 numbers, where sigma is a square root that is squared again. Near
    zero the rounding decides: for some step counts zero SNR with eta = 1 gives it the root of a negative number.

    Args:
        alpha_bar: level of the sample, as float32 holds it.
        alpha_bar_next: level after the step, as float32 holds it.
        prediction_type: one of ``PREDICTION_TYPES``.
        eta: at least 0; diffusers does not stop at 1. ``"sigma_hat"`` is not diffusers' and as in ``exact``.

    Raises:
        DDIMError: where diffusers raises or gives NaN.
    """
    within = SIGMA_HAT if eta == SIGMA_HAT else min(float(eta), 1.0)
    exact = StepCoefficients.at(alpha_bar, alpha_bar_next, prediction_type, within)
    if eta == SIGMA_HAT:
        return exact
    sigma, direction = _rounded(alpha_bar, alpha_bar_next, float(eta))
    if not math.isfinite(direction) or (prediction_type == "sample" and alpha_bar >= 1.0):
        raise DDIMError(
            f"diffusers gives NaN at this step (alpha_bar {alpha_bar:g} to {alpha_bar_next:g}, eta {eta:g}, "
            f"{prediction_type}), so there is nothing to reproduce; use parity='exact'"
        )
    root_next, x0, epsilon = exact.root_next, exact.x0, exact.epsilon
    step = Linear(root_next * x0.x + direction * epsilon.x, root_next * x0.m + direction * epsilon.m)
    return exact._replace(direction=direction, noise=sigma, step=step)


def _rounded(alpha_bar: float, alpha_bar_next: float, eta: float) -> tuple[float, float]:
    """sigma and sqrt(1 - b - sigma^2), each operation rounded to float32."""
    one, a, b = np.float32(1), np.float32(alpha_bar), np.float32(alpha_bar_next)
    with np.errstate(all="ignore"):
        sigma = np.float32(eta) * np.sqrt((one - b) / (one - a) * (one - a / b))
        return float(sigma), float(np.sqrt(one - b - sigma * sigma))
