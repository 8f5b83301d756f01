"""The equations of DDIM, each in one place, on arrays of noise levels.

Song, Meng & Ermon 2021, "Denoising Diffusion Implicit Models" (2010.02502), written with levels (alpha, sigma)::

    x_t = alpha_t x_0 + sigma_t epsilon                                                    (4)

For a variance preserving model alpha^2 + sigma^2 = 1 and alpha_bar = alpha^2, which the paper calls alpha: then these
are its own equations. For a flow model alpha + sigma = 1, for a variance exploding one alpha = 1. Index t is the level
of the sample, u the level after the step; e is the predicted epsilon.

All arrays are float64 tensors of one shape: ``(S,)`` for the steps of a plan, ``(B, 1, ...)`` for a step of each image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..precision import Linear, Number
from .levels import Levels

__all__ = ["PREDICTIONS", "SIGMA_HAT", "Eta", "StepCoefficients", "mean_weights", "step_coefficients"]

SIGMA_HAT: Literal["sigma_hat"] = "sigma_hat"
Eta = float | Literal["sigma_hat"]


class StepCoefficients(NamedTuple):
    """Everything that a step multiplies by.

    Without processing of x_0: ``x_u = step.x * sample + step.m * model_output + sigma * z``. With a processed x_0:
    ``x_u = alpha_next * x_0 + direction * epsilon + sigma * z``, epsilon from the model output (``epsilon``) or derived
    again from the processed x_0 (``rederived``, where ``m`` is the weight of x_0).
    """

    x0: Linear
    epsilon: Linear
    rederived: Linear
    alpha_next: Number
    direction: Number
    sigma: Number
    step: Linear


def _from_epsilon(at: Levels) -> tuple[Linear, Linear]:
    """Equation (9): x_0 = (x_t - sigma epsilon) / alpha. It has no value where alpha is 0."""
    zero, one = torch.zeros_like(at.alpha), torch.ones_like(at.alpha)
    return Linear(1 / at.alpha, -at.sigma / at.alpha), Linear(zero, one)


def _from_sample(at: Levels) -> tuple[Linear, Linear]:
    """The model output is x_0 itself."""
    zero, one = torch.zeros_like(at.alpha), torch.ones_like(at.alpha)
    return Linear(zero, one), _epsilon_from_x0(at)


def _from_velocity(at: Levels) -> tuple[Linear, Linear]:
    """Salimans & Ho 2022 (2202.00512), appendix D: v = alpha epsilon - sigma x_0."""
    length = at.alpha.square() + at.sigma.square()
    alpha, sigma = at.alpha / length, at.sigma / length
    return Linear(alpha, -sigma), Linear(sigma, alpha)


def _from_flow(at: Levels) -> tuple[Linear, Linear]:
    """Flow matching (2210.02747; rectified flow, 2209.03003): the output is epsilon - x_0."""
    total = at.alpha + at.sigma
    return Linear(1 / total, -at.sigma / total), Linear(1 / total, at.alpha / total)


def _from_inverted_flow(at: Levels) -> tuple[Linear, Linear]:
    """The output is x_0 - epsilon: of flow models whose time runs from noise to data (Mochi)."""
    x0, epsilon = _from_flow(at)
    return Linear(x0.x, -x0.m), Linear(epsilon.x, -epsilon.m)


# What a model output means: x_0 and epsilon as linear functions of sample and output.
PREDICTIONS: dict[str, Callable[[Levels], tuple[Linear, Linear]]] = {
    "epsilon": _from_epsilon,
    "sample": _from_sample,
    "v_prediction": _from_velocity,
    "flow_prediction": _from_flow,
    "inverted_flow_prediction": _from_inverted_flow,
}


def _epsilon_from_x0(at: Levels) -> Linear:
    """Equation (9) solved for epsilon: (x_t - alpha x_0) / sigma; 0 where there is no noise. ``m`` weighs x_0."""
    noisy = at.sigma > 0
    sigma = torch.where(noisy, at.sigma, 1.0)
    return Linear(torch.where(noisy, 1 / sigma, 0.0), torch.where(noisy, -at.alpha / sigma, 0.0))


def _kept_noise(at: Levels, to: Levels) -> Tensor:
    """How much of the noise at u comes from that at t for eta = 1: alpha_t sigma_u / (alpha_u sigma_t).

    In [0, 1]; the rest of the variance is fresh noise. 1 for a step from clean data, to pure noise, or upwards.
    """
    possible = (at.sigma > 0) & (to.alpha > 0)
    kept = torch.where(possible, at.alpha * to.sigma, 1.0) / torch.where(possible, to.alpha * at.sigma, 1.0)
    return kept.clamp(max=1.0)


def _noise_and_direction(at: Levels, to: Levels, eta: Eta) -> tuple[Tensor, Tensor]:
    """Weight of z, equation (16), and weight of epsilon, sqrt(sigma_u^2 - sigma^2), in equation (12).

    With ``"sigma_hat"`` (section 5) epsilon has its weight of eta = 1, and z the larger variance
    sigma_t^2 - (alpha_t / alpha_u)^2 sigma_u^2, which for a variance preserving model is 1 - alpha_bar_t / alpha_bar_u.
    """
    kept = _kept_noise(at, to)
    within = 1.0 if eta == SIGMA_HAT else eta
    widest = at.sigma if eta == SIGMA_HAT else eta * to.sigma
    # Neither 1 - kept^2 nor 1 - eta^2 (1 - kept^2) as it stands, which lose digits where kept is near 1 or near 0.
    fresh, direction = (1 - kept) * (1 + kept), (1 - within * within) + (within * kept).square()
    return widest * fresh.sqrt(), to.sigma * direction.sqrt()


def step_coefficients(at: Levels, to: Levels, prediction_type: str, eta: Eta) -> StepCoefficients:
    """Equation (12): x_u = alpha_u x_0 + sqrt(sigma_u^2 - sigma^2) epsilon + sigma z; at eta 0 also equation (13).

    Args:
        at: levels of the sample.
        to: levels after the step; they may be noisier (inversion, with eta 0).
        prediction_type: a key of :data:`PREDICTIONS`.
        eta: in [0, 1], or ``"sigma_hat"``.

    Returns:
        Tensors shaped like the levels; not finite where a level does not admit the prediction.
    """
    x0, epsilon = PREDICTIONS[prediction_type](at)
    sigma, direction = _noise_and_direction(at, to, eta)
    step = mean_weights(x0, epsilon, to.alpha, direction)
    return StepCoefficients(x0, epsilon, _epsilon_from_x0(at), to.alpha, direction, sigma, step)


def mean_weights(x0: Linear, epsilon: Linear, alpha_next: Number, direction: Number) -> Linear:
    """Equation (12) without its noise, as one weighted sum of sample and model output."""
    return Linear(alpha_next * x0.x + direction * epsilon.x, alpha_next * x0.m + direction * epsilon.m)
