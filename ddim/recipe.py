"""A step as one formula, from which kernels and passes over memory are made.

``x_next = clip(weights of sample and model output, bound) + rest of sample and model output + sigma z``

Without processing of x_0 the whole step is one weighted sum. With clipping, x_0 is computed already multiplied by its
weight in the result and clipped to limits multiplied alike, so that one more sum finishes the step. Dynamic
thresholding is clipping to a limit of the image's own, by which x_0 is then divided.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .coefficients import Linear, StepCoefficients

__all__ = ["Recipe", "clipping", "split", "unprocessed"]

_NOTHING = Linear(0.0, 0.0)


class Recipe(NamedTuple):
    """The numbers of the formula above.

    Attributes:
        weights: of sample and output in what is clipped.
        bound: limit of the clipping, or None for none; then there is no ``rest``.
        rest: of sample and output in what is added after the clipping.
        sigma: weight of the noise.
    """

    weights: Linear
    bound: float | None
    rest: Linear
    sigma: float


def unprocessed(coefficients: StepCoefficients) -> Recipe:
    """A step that leaves x_0 as it is."""
    return Recipe(coefficients.step, None, _NOTHING, coefficients.noise)


@lru_cache(maxsize=2048)  # a run of many images asks for the same again and again
def clipping(coefficients: StepCoefficients, limit: float, divisor: float, rederive: bool) -> Recipe:
    """A step whose x_0 is clipped to [-limit, limit] and divided.

    Args:
        coefficients: of the step.
        limit: at least 0.
        divisor: what x_0 is divided by after the clipping: 1, or the limit itself.
        rederive: derive epsilon again from the processed x_0.
    """
    keep, rest = split(coefficients, rederive)
    keep /= divisor
    weights = Linear(keep * coefficients.x0.x, keep * coefficients.x0.m)
    return Recipe(weights, abs(keep) * limit, rest, coefficients.noise)


def split(coefficients: StepCoefficients, rederive: bool) -> tuple[float, Linear]:
    """Weight of the processed x_0 in the result, and the weights of sample and output in the rest of it."""
    direction = coefficients.direction
    if rederive:
        again = coefficients.rederived
        return coefficients.root_next + direction * again.m, Linear(direction * again.x, 0.0)
    epsilon = coefficients.epsilon
    return coefficients.root_next, Linear(direction * epsilon.x, direction * epsilon.m)
