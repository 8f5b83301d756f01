"""One DDIM step on tensors, equation (12)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DDIMError
from ..guidance.cfg import CFGPlusPlus, Guided, ModelOutput
from ..noise.keyed import KeyedStep
from ..noise.recorded import VarianceNoise, weight_of_noise
from ..precision import Linear, as_dtype, weighted_sum
from ..triton_support import INTERPRETED, kernels_accept
from .equations import StepCoefficients
from .x0 import Clip, ProcessX0, split_around_x0

__all__ = ["apply_step", "predicted_x0", "step_mean"]

Noise = Tensor | KeyedStep


def predicted_x0(
    c: StepCoefficients, sample: Tensor, model_output: Tensor | CFGPlusPlus, process_x0: ProcessX0 | None = None
) -> Tensor:
    """x_0 of equation (9), or its counterpart for another prediction type, processed; in the working dtype."""
    output = model_output.guided if isinstance(model_output, CFGPlusPlus) else model_output
    x0 = weighted_sum(sample, output, c.x0)
    return x0 if process_x0 is None else process_x0(x0)


def step_mean(
    c: StepCoefficients, sample: Tensor, model_output: Tensor | CFGPlusPlus, *, out: Tensor | None = None
) -> Tensor:
    """Equation (12) without noise or processing of x_0; in the working dtype.

    With CFG++ (2406.08070, algorithm 2) x_0 comes from the guided output and epsilon from the unconditional one. That
    is the step with the unconditional output, plus what the other output changes in x_0.
    """
    if not isinstance(model_output, CFGPlusPlus):
        return weighted_sum(sample, model_output, c.step, out=out)
    guided, uncond = model_output
    x_next = weighted_sum(sample, uncond, c.step, out=out)
    change = as_dtype(guided, x_next.dtype) - as_dtype(uncond, x_next.dtype)
    weight = c.alpha_next * c.x0.m
    return x_next.add_(change * weight.to(change)) if isinstance(weight, Tensor) else x_next.add_(change, alpha=weight)


def apply_step(
    c: StepCoefficients,
    sample: Tensor,
    model_output: ModelOutput,
    *,
    process_x0: ProcessX0 | None = None,
    use_clipped_model_output: bool = False,
    noise: Noise | None = None,
    need_x0: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """x_next = alpha_next x_0 + direction epsilon + sigma z.

    Args:
        c: coefficients of the step, or of a step of each image.
        sample: x_t, shape ``(B, ...)``, any float dtype.
        model_output: same shape; a guided one is combined here, with one of CFG++ two outputs are used.
        process_x0: clipping or thresholding of x_0, or None.
        use_clipped_model_output: derive epsilon again from the processed x_0 (as in GLIDE).
        noise: z, or the key to draw it from, or None for a step without noise; recorded noise brings the residual of a
            step whose sigma is 0.
        need_x0: return a processed x_0 too, unless a kernel takes the step.
        out: where to write x_next, in the working dtype; may be ``sample``, must not overlap the other tensors.

    Returns:
        x_next in the sample's working dtype, and the processed x_0 or None.

    Raises:
        DDIMError: for CFG++ with epsilon derived from x_0, which is the guided one.
    """
    # The kernel reads no two outputs with a weight of its own for each: CFG++ runs as a few operators of torch.
    if not isinstance(model_output, CFGPlusPlus) and _one_kernel_is_enough(c, sample, model_output, process_x0, noise):
        from .triton_step import fused_step  # imports Triton

        clip = process_x0.limit if isinstance(process_x0, Clip) else None
        return fused_step(c, sample, model_output, clip, use_clipped_model_output, noise, out), None
    output = model_output.tensor() if isinstance(model_output, Guided) else model_output
    x0 = None
    if process_x0 is None:
        x_next = step_mean(c, sample, output, out=out)
    elif isinstance(output, CFGPlusPlus):
        _check_direction(use_clipped_model_output)
        x0 = predicted_x0(c, sample, output, process_x0)
        x_next = _around_x0(c, x0, sample, output.uncond, rederive=False, out=out)
    elif isinstance(process_x0, Clip) and not need_x0:
        x_next = _clipped(c, process_x0.limit, sample, output, use_clipped_model_output, out)
    else:
        x0 = predicted_x0(c, sample, output, process_x0)
        x_next = _around_x0(c, x0, sample, output, use_clipped_model_output, out)
    if noise is not None:
        x_next = _add_noise(c, x_next, noise.draw() if isinstance(noise, KeyedStep) else noise)
    return x_next if out is None or out is x_next else out.copy_(x_next), x0


def _one_kernel_is_enough(
    c: StepCoefficients,
    sample: Tensor,
    output: Tensor | Guided,
    process_x0: ProcessX0 | None,
    noise: Noise | None,
) -> bool:
    if not (sample.is_cuda or INTERPRETED) or isinstance(c.sigma, Tensor):
        return False
    if not (process_x0 is None or isinstance(process_x0, Clip)):
        return False
    outputs = (output.uncond, output.text) if isinstance(output, Guided) else (output,)
    return kernels_accept(sample, *outputs, *((noise,) if isinstance(noise, Tensor) else ()))


def _check_direction(use_clipped_model_output: bool) -> None:
    if use_clipped_model_output:
        raise DDIMError(
            "use_clipped_model_output takes epsilon from the guided x_0 and guidance mode 'cfg++' from the "
            "unconditional output, so use one of them, got both"
        )


def _clipped(
    c: StepCoefficients, limit: float, sample: Tensor, output: Tensor, rederive: bool, out: Tensor | None
) -> Tensor:
    """x_next with x_0 clipped after it was multiplied by its weight, which takes one pass over memory less."""
    keep, rest = split_around_x0(c, rederive)
    if isinstance(keep, Tensor):
        return _around_x0(c, predicted_x0(c, sample, output, Clip(limit)), sample, output, rederive, out)
    bound, weights = abs(keep) * limit, Linear(keep * c.x0.x, keep * c.x0.m)
    term = weighted_sum(sample, output, weights, out=None if out is sample else out).clamp_(-bound, bound)
    return _add_terms(term, sample, output, rest)


def _around_x0(
    c: StepCoefficients, x0: Tensor, sample: Tensor, output: Tensor, rederive: bool, out: Tensor | None
) -> Tensor:
    """x_next from a processed x_0."""
    keep, rest = split_around_x0(c, rederive)
    if isinstance(keep, Tensor):
        return keep.to(x0) * x0 + weighted_sum(sample, output, rest)
    term = torch.mul(x0, keep, out=None if out is sample else out)
    return _add_terms(term, sample, output, rest)


def _add_terms(x_next: Tensor, sample: Tensor, output: Tensor, weights: Linear) -> Tensor:
    """The terms of sample and model output, added in place to that of x_0; a term of weight 0 is not read."""
    for tensor, weight in ((sample, float(weights.x)), (output, float(weights.m))):
        if weight != 0.0:
            x_next = x_next.add_(tensor, alpha=weight)
    return x_next


def _add_noise(c: StepCoefficients, x_next: Tensor, z: Tensor) -> Tensor:
    weight = weight_of_noise(c.sigma, z)
    z = z.as_subclass(Tensor) if isinstance(z, VarianceNoise) else z
    if isinstance(weight, Tensor):
        return torch.addcmul(x_next, weight.to(x_next), z.to(x_next.dtype))
    return x_next.add_(z, alpha=weight)
