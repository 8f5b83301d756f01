"""One DDIM step, term by term, straight from the paper: what the tests compare ``ddim.step`` with, which it never uses.

Song, Meng & Ermon 2021, "Denoising Diffusion Implicit Models" (2010.02502), whose alpha is ``alpha_bar`` here. The
coefficients have 50 decimal digits, so the formulas stand as printed, without regard to rounding; tensors are float64.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

DIGITS = 50


class Weights(NamedTuple):
    """``x * sample + m * model_output``."""

    x: Decimal
    m: Decimal


class Coefficients(NamedTuple):
    """Everything that the equations multiply by; ``rederived`` gives epsilon from sample and x_0."""

    x0: Weights
    epsilon: Weights
    rederived: Weights
    alpha_next: Decimal
    direction: Decimal
    sigma: Decimal
    step: Weights


def predictions(a: Decimal, prediction_type: str) -> tuple[Weights, Weights]:
    """x_0 and epsilon as linear functions of sample and model output: equation (9), and v of 2202.00512, appendix D."""
    alpha, sigma, zero, one = a.sqrt(), (1 - a).sqrt(), Decimal(0), Decimal(1)
    if prediction_type == "epsilon":
        return Weights(1 / alpha, -sigma / alpha), Weights(zero, one)
    if prediction_type == "sample":
        return Weights(zero, one), epsilon_from_x0(a)
    return Weights(alpha, -sigma), Weights(sigma, alpha)


def epsilon_from_x0(a: Decimal) -> Weights:
    """Equation (9), solved for epsilon; clean data hold no noise."""
    return Weights(Decimal(0), Decimal(0)) if a == 1 else Weights(1 / (1 - a).sqrt(), -a.sqrt() / (1 - a).sqrt())


def noise_and_direction(a: Decimal, a_next: Decimal, eta: float | str) -> tuple[Decimal, Decimal]:
    """sigma, equation (16) or sigma hat of section 5, and sqrt(1 - a_next - sigma^2) of equation (12)."""
    if a == 1 or a_next == 0 or eta == 0:  # from clean data or to pure noise nothing is left for fresh noise
        return Decimal(0), (1 - a_next).sqrt()
    ddpm = ((1 - a_next) / (1 - a)).sqrt() * (1 - a / a_next).sqrt()
    within = ddpm if eta == "sigma_hat" else Decimal(eta) * ddpm
    left = max(1 - a_next - within**2, Decimal(0))  # from pure noise with eta 1 it is 0, or 1e-50 below it
    return (1 - a / a_next).sqrt() if eta == "sigma_hat" else within, left.sqrt()


@cache
def coefficients(alpha_bar: float, alpha_bar_next: float, prediction_type: str, eta: float | str) -> Coefficients:
    """The coefficients of a step; levels and eta are taken as the exact numbers that the floats are."""
    with localcontext() as context:
        context.prec = DIGITS
        a, a_next = Decimal(alpha_bar), Decimal(alpha_bar_next)
        x0, epsilon = predictions(a, prediction_type)
        sigma, direction = noise_and_direction(a, a_next, eta)
        alpha_next = a_next.sqrt()
        step = Weights(alpha_next * x0.x + direction * epsilon.x, alpha_next * x0.m + direction * epsilon.m)
        return Coefficients(x0, epsilon, epsilon_from_x0(a), alpha_next, direction, sigma, step)


def step(
    c: Coefficients,
    sample: Tensor,
    model_output: Tensor,
    z: Tensor | None = None,
    *,
    clip: float | None = None,
    threshold: tuple[float, float] | None = None,
    rederive: bool = False,
) -> tuple[Tensor, Tensor]:
    """Equation (12) and the x_0 in it, float64.

    Args:
        c: coefficients of the step.
        sample: x_t, shape ``(B, ...)``.
        model_output: same shape.
        z: same shape, or None.
        clip: limit of x_0.
        threshold: ratio and cap of dynamic thresholding (2205.11487, section 2.3).
        rederive: derive epsilon again from the processed x_0.
    """
    x, m = sample.double(), model_output.double()
    x0 = _sum(c.x0, x, m)
    if clip is not None:
        x0 = x0.clamp(-clip, clip)
    if threshold is not None:
        x0 = thresholded(x0, *threshold)
    epsilon = _sum(c.rederived, x, x0) if rederive else _sum(c.epsilon, x, m)
    x_next = float(c.alpha_next) * x0 + float(c.direction) * epsilon
    return x_next if z is None else x_next + float(c.sigma) * z.double(), x0


def thresholded(x0: Tensor, ratio: float, cap: float) -> Tensor:
    """Dynamic thresholding by torch.quantile, as the Imagen paper lists it."""
    rows = x0.flatten(1)
    s = torch.quantile(rows.abs(), ratio, dim=1).clamp(1, cap)[:, None]
    return (rows.clamp(-s, s) / s).reshape(x0.shape)


def size_of_terms(c: Coefficients, sample: Tensor, model_output: Tensor, z: Tensor | None = None) -> Tensor:
    """The sum of the magnitudes of everything that a step adds up: what relative errors are relative to."""
    x, m = sample.double().abs(), model_output.double().abs()
    x0, epsilon = (_sum(Weights(abs(weights.x), abs(weights.m)), x, m) for weights in (c.x0, c.epsilon))
    again = _sum(Weights(abs(c.rederived.x), abs(c.rederived.m)), x, x0)
    noise = 0 if z is None else float(c.sigma) * z.double().abs()
    return float(c.alpha_next) * x0 + float(c.direction) * (epsilon + again) + noise


def _sum(weights: Weights, first: Tensor, second: Tensor) -> Tensor:
    return float(weights.x) * first + float(weights.m) * second
