"""The step again, with as few passes over memory as its terms allow; ``stepping.apply_step`` is its reference.

Without processing of x_0 the whole step is one weighted sum. With clipping, x_0 is computed already multiplied by its
weight in the result and clipped to limits multiplied alike, so that one more sum finishes the step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .coefficients import Linear, StepCoefficients
from .fused import INTERPRETED, fusable, fused_noise, fused_step
from .guidance import Guided
from .noise import KeyedStep
from .stepping import predicted_x0
from .tensor_ops import combine, is_plain
from .x0_processing import Clip, ProcessX0, Threshold, threshold_in_place

__all__ = ["fast_step"]


def fast_step(
    coefficients: StepCoefficients,
    sample: Tensor,
    model_output: Tensor | Guided,
    *,
    process_x0: ProcessX0 | None = None,
    use_clipped_model_output: bool = False,
    noise: Tensor | KeyedStep | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """DDIM equation (12); arguments as for :func:`ddim.stepping.apply_step`.

    Args:
        model_output: may be guided and yet to be combined.
        noise: may be yet to be drawn.
        out: where to write x_next, in the working dtype; may be ``sample``, must not overlap ``model_output`` or
            ``noise``.

    Returns:
        x_next in the sample's working dtype, and the processed x_0 where the step made one on the way.
    """
    if not coefficients.noise:
        noise = None
    if (sample.is_cuda or INTERPRETED) and _one_kernel_will_do(sample, model_output, process_x0, noise):
        rederive = use_clipped_model_output
        return _in_one_kernel(coefficients, sample, model_output, process_x0, rederive, noise, out), None
    output = model_output.tensor() if isinstance(model_output, Guided) else model_output
    x0 = None
    if process_x0 is None:
        result = combine(sample, output, coefficients.step, out=out)
    elif isinstance(process_x0, Clip):
        result = _clipped(coefficients, sample, output, process_x0.limit, use_clipped_model_output, out)
    else:
        keep, rest = _split(coefficients, use_clipped_model_output)
        x0, free = _processed(coefficients, sample, output, process_x0, None if out is sample else out)
        result = _finished(torch.mul(x0, keep, out=free), sample, output, rest, out=out)
    if noise is not None:
        result.add_(drawn(noise, sample), alpha=coefficients.noise)
    return result, x0


def _one_kernel_will_do(
    sample: Tensor, output: Tensor | Guided, process_x0: ProcessX0 | None, noise: Tensor | KeyedStep | None
) -> bool:
    outputs = [output.uncond, output.text] if isinstance(output, Guided) else [output]
    given = [noise] if isinstance(noise, Tensor) else []
    return (process_x0 is None or isinstance(process_x0, Clip)) and fusable(sample, *outputs, *given)


def drawn(noise: Tensor | KeyedStep, like: Tensor) -> Tensor:
    """Noise as a tensor on the device of ``like``."""
    if isinstance(noise, Tensor):
        return noise
    return fused_noise(noise, torch.empty(like.shape, dtype=torch.float32, device=like.device))


def _in_one_kernel(
    coefficients: StepCoefficients,
    sample: Tensor,
    output: Tensor | Guided,
    process_x0: ProcessX0 | None,
    rederive: bool,
    noise: Tensor | KeyedStep | None,
    out: Tensor | None,
) -> Tensor:
    if not isinstance(process_x0, Clip):
        return fused_step(sample, output, coefficients.step, noise=noise, sigma=coefficients.noise, out=out)
    keep, rest = _split(coefficients, rederive)
    weights, bound = Linear(keep * coefficients.x0.x, keep * coefficients.x0.m), abs(keep) * process_x0.limit
    return fused_step(sample, output, weights, rest=rest, bound=bound, noise=noise, sigma=coefficients.noise, out=out)


def _split(coefficients: StepCoefficients, rederive: bool) -> tuple[float, Linear]:
    """Weight of x_0 in the result, and the weights of sample and output in the rest of it."""
    direction = coefficients.direction
    if rederive:
        again = coefficients.rederived
        return coefficients.root_next + direction * again.m, Linear(direction * again.x, 0.0)
    epsilon = coefficients.epsilon
    return coefficients.root_next, Linear(direction * epsilon.x, direction * epsilon.m)


def _clipped(
    coefficients: StepCoefficients, sample: Tensor, output: Tensor, limit: float, rederive: bool, out: Tensor | None
) -> Tensor:
    keep, rest = _split(coefficients, rederive)
    weights, bound = Linear(keep * coefficients.x0.x, keep * coefficients.x0.m), abs(keep) * limit
    scaled = combine(sample, output, weights, out=None if out is sample else out).clamp_(-bound, bound)
    return _finished(scaled, sample, output, rest, out=out)


def _processed(
    coefficients: StepCoefficients, sample: Tensor, output: Tensor, process_x0: ProcessX0, free: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Processed x_0, and a tensor like it that may be overwritten (``free``, where given) if there is one."""
    tracked = torch.is_grad_enabled() and (sample.requires_grad or output.requires_grad)
    if (
        not isinstance(process_x0, Threshold)
        or tracked
        or sample.ndim < 2
        or not (is_plain(sample) and is_plain(output))
    ):
        return predicted_x0(coefficients, sample, output, process_x0), None
    x0 = combine(sample, output, coefficients.x0)
    free = torch.empty_like(x0) if free is None else free
    threshold_in_place(x0, process_x0.ratio, process_x0.cap, free)
    return x0, free


def _finished(x0_part: Tensor, sample: Tensor, output: Tensor, weights: Linear, *, out: Tensor | None) -> Tensor:
    """``x0_part`` plus the terms of epsilon, in place where that does not lose the sample too early."""
    for tensor, weight in ((sample, weights.x), (output, weights.m)):
        if weight != 0.0:
            x0_part.add_(tensor, alpha=weight)
    return x0_part if out is None or out is x0_part else out.copy_(x0_part)
