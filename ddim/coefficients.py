"""The scalars of a DDIM step, as host floats in float64.

The paper (Song, Meng & Ermon 2021, "Denoising Diffusion Implicit Models", 2010.02502) writes alpha for what is
``alpha_bar`` here. Letters: ``a`` = alpha_bar at t, ``b`` = alpha_bar at t_next.

Every prediction type is linear in the sample and the model output, so x_0 and epsilon are
``x * (..) + m * (..)`` and so is the whole step when nothing is clipped.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from .errors import DDIMError, check_choice, check_number

__all__ = [
    "PREDICTION_TYPES",
    "SIGMA_HAT",
    "Eta",
    "Linear",
    "StepCoefficients",
    "check_eta",
    "per_step",
    "prediction",
    "variance",
]

SIGMA_HAT: Literal["sigma_hat"] = "sigma_hat"
Eta = float | Literal["sigma_hat"]


class Linear(NamedTuple):
    """``x * sample + m * model_output``."""

    x: float
    m: float


class Prediction(NamedTuple):
    """What a model output means: x_0 and epsilon as linear functions of sample and output."""

    x0: Linear
    epsilon: Linear


_ITSELF = Linear(0.0, 1.0)


def _from_epsilon(a: float) -> Prediction:
    """DDIM equation (9): x_0 = (x_t - sqrt(1 - a) epsilon) / sqrt(a)."""
    if a <= 0.0:
        raise DDIMError(
            "an epsilon prediction says nothing about x_0 where alpha_bar is 0 (zero terminal SNR); use "
            "prediction_type='v_prediction' or 'sample', or a spacing that leaves the last timestep out"
        )
    return Prediction(Linear(1 / math.sqrt(a), -math.sqrt((1 - a) / a)), _ITSELF)


def _from_sample(a: float) -> Prediction:
    """The output is x_0; equation (9) solved for epsilon. Without noise (a = 1) epsilon is taken as 0."""
    if a >= 1.0:
        return Prediction(_ITSELF, Linear(0.0, 0.0))
    return Prediction(_ITSELF, Linear(1 / math.sqrt(1 - a), -math.sqrt(a / (1 - a))))


def _from_velocity(a: float) -> Prediction:
    """Salimans & Ho 2022 (2202.00512), appendix D: v = sqrt(a) epsilon - sqrt(1 - a) x_0."""
    root, noise = math.sqrt(a), math.sqrt(1 - a)
    return Prediction(Linear(root, -noise), Linear(noise, root))


_PREDICTIONS: dict[str, Callable[[float], Prediction]] = {
    "epsilon": _from_epsilon,
    "sample": _from_sample,
    "v_prediction": _from_velocity,
}

PREDICTION_TYPES: tuple[str, ...] = tuple(_PREDICTIONS)


def prediction(prediction_type: str, alpha_bar: float) -> Prediction:
    """x_0 and epsilon in terms of sample and model output, at a noise level.

    Args:
        prediction_type: one of :data:`PREDICTION_TYPES`.
        alpha_bar: in [0, 1].

    Raises:
        DDIMError: for an unknown type, a level outside [0, 1], or epsilon at level 0.
    """
    rule = (
        _PREDICTIONS.get(prediction_type)
        or _PREDICTIONS[check_choice("prediction_type", prediction_type, PREDICTION_TYPES)]
    )
    if not 0.0 <= alpha_bar <= 1.0:
        raise DDIMError(
            f"alpha_bar must be in [0, 1], got {alpha_bar:g}; a beta above 1 makes the timesteps after it unusable"
        )
    return rule(alpha_bar)


def check_eta(eta: Eta, *, above_one: bool = False) -> Eta:
    """Return ``eta`` if it is in [0, 1] or ``"sigma_hat"``; with ``above_one``, in [0, inf).

    Above 1 it is refused, not clamped: the variance would exceed what the marginals admit at some steps and not at
    others, so a clamp would silently be another sampler.
    """
    if isinstance(eta, str):
        check_choice("eta", eta, (SIGMA_HAT,))
        return SIGMA_HAT
    high = sys.float_info.max if above_one else 1.0
    if isinstance(eta, float) and 0.0 <= eta <= high:
        return eta  # all that torch.compile can trace where eta is symbolic
    return check_number("eta", eta, 0.0, high, why=" (0 is deterministic DDIM, 1 is DDPM) or 'sigma_hat'")


def per_step(eta: Eta | Sequence[Eta], steps: int) -> tuple[Eta, ...]:
    """Eta of every step, from one for all or one for each, checked.

    Raises:
        DDIMError: for a wrong value, or a list that is not ``steps`` long.
    """
    if isinstance(eta, str | float | int):
        return (check_eta(eta),) * steps
    values = tuple(check_eta(value) for value in eta)
    if len(values) != steps:
        raise DDIMError(f"eta must be one number or one per step: {steps} expected, got {len(values)}")
    return values


def variance(alpha_bar: float, alpha_bar_next: float) -> float:
    """sigma^2 at eta = 1, DDIM equation (16), clamped to what alpha_bar_next leaves room for.

    sigma^2 = (1 - b) / (1 - a) * (1 - a / b)
    """
    a, b = alpha_bar, alpha_bar_next
    if a >= 1.0 or b <= 0.0:
        return 0.0
    return min(max((1 - b) / (1 - a) * (1 - a / b), 0.0), 1 - b)


class StepCoefficients(NamedTuple):
    """Everything a step multiplies by.

    Without clipping: ``x_next = x.x * sample + x.m * model_output + noise * z``.
    With processed x_0: ``x_next = root_next * x_0 + direction * epsilon + noise * z``, with epsilon from the model
    (``epsilon``) or derived again from the processed x_0 (``rederived``).
    """

    x0: Linear
    epsilon: Linear
    root_next: float
    direction: float
    noise: float
    step: Linear
    alpha_bar: float

    @property
    def rederived(self) -> Linear:
        """epsilon = x * sample + m * x_0."""
        return _from_sample(self.alpha_bar).epsilon

    @property
    def follows_seen(self) -> bool:
        """Whether a half-precision run should step from the rounded sample that the model saw.

        The state is kept finer than the model sees it, which is better as long as the rounding reaches the result
        through the output alone, damped. At a tiny alpha_bar an epsilon output is amplified (by about 1 / sqrt(a)) and
        cancels against the sample: then both must hold the same rounding.
        """
        return abs(self.step.m) >= 1.0

    @classmethod
    def at(cls, alpha_bar: float, alpha_bar_next: float, prediction_type: str, eta: Eta) -> StepCoefficients:
        """DDIM equation (12): x_next = sqrt(b) x_0 + sqrt(1 - b - sigma^2) epsilon + sigma z.

        Args:
            alpha_bar: level of the sample, in [0, 1].
            alpha_bar_next: level after the step, in [0, 1]. It may be below ``alpha_bar`` (inversion, at eta 0).
            prediction_type: one of :data:`PREDICTION_TYPES`.
            eta: in [0, 1], or ``"sigma_hat"`` for the paper's larger variance (section 5): the mean of eta = 1 with
                noise of variance 1 - a / b.
        """
        a, b = alpha_bar, alpha_bar_next
        x0, epsilon = prediction(prediction_type, a)
        if not 0.0 <= b <= 1.0:
            raise DDIMError(f"alpha_bar of the next timestep must be in [0, 1], got {b:g}")
        sigma2 = noise = 0.0
        if eta != 0.0:
            share = 1.0 if eta == SIGMA_HAT else float(eta)
            sigma2 = share * share * variance(a, b)
            noise = math.sqrt(max(1 - a / b, 0.0) if eta == SIGMA_HAT and b > 0 else sigma2)
        root_next, direction = math.sqrt(b), math.sqrt(max(1 - b - sigma2, 0.0))
        (x0_x, x0_m), (epsilon_x, epsilon_m) = x0, epsilon
        step = Linear(root_next * x0_x + direction * epsilon_x, root_next * x0_m + direction * epsilon_m)
        return cls(x0, epsilon, root_next, direction, noise, step, a)
