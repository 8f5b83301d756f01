"""The step again, with as few passes over memory as its terms allow; ``stepping.apply_step`` is its reference.

Without processing of x_0 the whole step is one weighted sum. With clipping, x_0 is computed already multiplied by its
weight in the result and clipped to limits multiplied alike, so that one more sum finishes the step.
"""

from __future__ import annotations

from torch import Tensor

from .coefficients import Linear, StepCoefficients
from .stepping import predicted_x0
from .tensor_ops import combine
from .x0_processing import Clip, ProcessX0

__all__ = ["fast_step"]


def fast_step(
    coefficients: StepCoefficients,
    sample: Tensor,
    model_output: Tensor,
    *,
    process_x0: ProcessX0 | None = None,
    use_clipped_model_output: bool = False,
    noise: Tensor | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """DDIM equation (12); arguments as for :func:`ddim.stepping.apply_step`.

    Args:
        out: where to write x_next, in the working dtype; may be ``sample``, must not overlap ``model_output`` or
            ``noise``.

    Returns:
        x_next in the sample's working dtype, and the processed x_0 where the step made one on the way.
    """
    x0 = None
    if process_x0 is None:
        result = combine(sample, model_output, coefficients.step, out=out)
    elif isinstance(process_x0, Clip):
        result = _clipped(coefficients, sample, model_output, process_x0.limit, use_clipped_model_output, out)
    else:
        x0 = predicted_x0(coefficients, sample, model_output, process_x0)
        keep, rest = _split(coefficients, model_output, x0, use_clipped_model_output)
        result = _finished(x0 * keep, sample, *rest, out=out)
    if noise is not None and coefficients.noise:
        result.add_(noise, alpha=coefficients.noise)
    return result, x0


def _split(
    coefficients: StepCoefficients, model_output: Tensor, x0: Tensor, rederive: bool
) -> tuple[float, tuple[Tensor, Linear]]:
    """Weight of x_0 in the result, and what else goes into it."""
    direction = coefficients.direction
    if rederive:
        again = coefficients.rederived
        return coefficients.root_next + direction * again.m, (x0, Linear(direction * again.x, 0.0))
    epsilon = coefficients.epsilon
    return coefficients.root_next, (model_output, Linear(direction * epsilon.x, direction * epsilon.m))


def _clipped(
    coefficients: StepCoefficients, sample: Tensor, output: Tensor, limit: float, rederive: bool, out: Tensor | None
) -> Tensor:
    keep, rest = _split(coefficients, output, output, rederive)
    weights, bound = Linear(keep * coefficients.x0.x, keep * coefficients.x0.m), abs(keep) * limit
    scaled = combine(sample, output, weights, out=None if out is sample else out).clamp_(-bound, bound)
    return _finished(scaled, sample, *rest, out=out)


def _finished(x0_part: Tensor, sample: Tensor, output: Tensor, weights: Linear, *, out: Tensor | None) -> Tensor:
    """``x0_part`` plus the terms of epsilon, in place where that does not lose the sample too early."""
    for tensor, weight in ((sample, weights.x), (output, weights.m)):
        if weight != 0.0:
            x0_part.add_(tensor, alpha=weight)
    return x0_part if out is None or out is x0_part else out.copy_(x0_part)
