"""The step again, with as few passes over memory as its terms allow; ``stepping.apply_step`` is its reference."""

from __future__ import annotations

import torch
from torch import Tensor

from .coefficients import Linear, StepCoefficients
from .fused import INTERPRETED, fusable, fused_noise, fused_step
from .guidance import Guided
from .noise import KeyedStep
from .pieces import can_be_cut, cut, in_pieces
from .recipe import Recipe, clipping, split, unprocessed
from .stepping import predicted_x0
from .tensor_ops import HALF, combine, working_dtype
from .x0_processing import Clip, ProcessX0, Threshold, limit_of_image

__all__ = ["fast_step"]


def fast_step(
    coefficients: StepCoefficients,
    sample: Tensor,
    model_output: Tensor | Guided,
    process_x0: ProcessX0 | None = None,
    use_clipped_model_output: bool = False,
    noise: Tensor | KeyedStep | None = None,
    out: Tensor | None = None,
    rounded: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """DDIM equation (12); arguments as for :func:`ddim.stepping.apply_step`.

    Args:
        model_output: may be guided and yet to be combined.
        noise: may be yet to be drawn.
        out: where to write x_next, in the working dtype; may be ``sample``, must not overlap ``model_output`` or
            ``noise``.
        rounded: where to write x_next once more, in half precision; may be ``sample``. Only with ``out``.

    Returns:
        x_next in the sample's working dtype, and the processed x_0 where the step made one on the way.
    """
    if not coefficients.noise:
        noise = None
    if (sample.is_cuda or INTERPRETED) and _one_kernel_will_do(sample, model_output, process_x0, noise):
        recipe = _recipe(coefficients, process_x0, use_clipped_model_output)
        return _rounded(fused_step(sample, model_output, recipe, noise=noise, out=out), rounded), None
    output = model_output if isinstance(model_output, Tensor) else model_output.tensor()
    z = noise if noise is None or isinstance(noise, Tensor) else drawn(noise, sample)
    if process_x0 is None and not _worth_cutting(sample, output, z, out, rounded):
        result = combine(sample, output, coefficients.step, out=out)
        if z is not None:
            result.add_(z, alpha=coefficients.noise)
        return result if rounded is None else _rounded(result, rounded), None
    if process_x0 is None or isinstance(process_x0, Clip):
        recipe = _recipe(coefficients, process_x0, use_clipped_model_output)
        return _by_recipe(recipe, sample, output, z, out, rounded), None
    if isinstance(process_x0, Threshold) and sample.ndim > 1 and can_be_cut(sample, output, z, out, rounded):
        rederive = use_clipped_model_output
        return _by_image(coefficients, process_x0, rederive, sample, output, z, out, rounded), None
    keep, rest = split(coefficients, use_clipped_model_output)
    x0 = predicted_x0(coefficients, sample, output, process_x0)
    kept = torch.mul(x0, keep, out=None if out is sample else out)
    return _rounded(_finished(kept, sample, output, rest, z, coefficients.noise, out), rounded), x0


def _recipe(coefficients: StepCoefficients, process_x0: ProcessX0 | None, rederive: bool) -> Recipe:
    if isinstance(process_x0, Clip):
        return clipping(coefficients, process_x0.limit, 1.0, rederive)
    return unprocessed(coefficients)


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


def _by_image(
    coefficients: StepCoefficients,
    process_x0: Threshold,
    rederive: bool,
    sample: Tensor,
    output: Tensor,
    noise: Tensor | None,
    out: Tensor | None,
    rounded: Tensor | None,
) -> Tensor:
    """Dynamic thresholding: each image is clipped to a limit of its own, which is looked for first."""
    limits = [limit_of_image(process_x0, coefficients.x0, *pair) for pair in zip(sample, output, strict=True)]
    result = torch.empty_like(sample, dtype=working_dtype(sample.dtype)) if out is None else out
    if len(set(limits)) == 1:
        recipe = clipping(coefficients, limits[0], limits[0], rederive)
        return _by_recipe(recipe, sample, output, noise, result, rounded)
    rows = [[None] * len(limits) if tensor is None else tensor for tensor in (noise, rounded)]
    for limit, x, m, row, z, short in zip(limits, sample, output, result, *rows, strict=True):
        recipe = clipping(coefficients, limit, limit, rederive)
        _by_recipe(recipe, row if result is sample else x, m, z, row, short)
    return result


def _by_recipe(
    recipe: Recipe,
    sample: Tensor,
    output: Tensor,
    noise: Tensor | None,
    out: Tensor | None,
    rounded: Tensor | None,
) -> Tensor:
    """A recipe on tensors of any size, in the working dtype."""
    if not _worth_cutting(sample, output, noise, out, rounded):
        return _rounded(_passes(recipe, sample, output, noise, out), rounded)
    result = torch.empty_like(sample, dtype=working_dtype(sample.dtype)) if out is None else out
    wide = None
    for part, x, m, z, short in cut(result, sample, output, noise, rounded):
        if m.dtype != part.dtype:
            wide = torch.empty_like(part) if wide is None else wide[: len(m)]
            m = wide.copy_(m)
        # where the sample itself is written to, its pieces are other tensors than those of the result
        _rounded(_passes(recipe, part if result is sample else x, m, z, part), short)
    return result


def _worth_cutting(
    sample: Tensor, output: Tensor, noise: Tensor | None, out: Tensor | None, rounded: Tensor | None
) -> bool:
    """Whether pieces gain anything: where numbers are widened and rounded on their way."""
    alike = rounded is None and sample.dtype == output.dtype and sample.dtype not in HALF
    return not alike and in_pieces(sample, output, noise, out, rounded)


def _passes(recipe: Recipe, sample: Tensor, output: Tensor, noise: Tensor | None, out: Tensor | None) -> Tensor:
    """A recipe on tensors in one go."""
    if recipe.bound is None:
        result = combine(sample, output, recipe.weights, out=out)
        return result if noise is None else result.add_(noise, alpha=recipe.sigma)
    needed = out is sample and recipe.rest.x != 0.0
    clipped = combine(sample, output, recipe.weights, out=None if needed else out)
    clipped.clamp_(-recipe.bound, recipe.bound)
    return _finished(clipped, sample, output, recipe.rest, noise, recipe.sigma, out)


def _finished(
    x0_part: Tensor,
    sample: Tensor,
    output: Tensor,
    rest: Linear,
    noise: Tensor | None,
    sigma: float,
    out: Tensor | None,
) -> Tensor:
    """The term of x_0, to which the others are added in place: the sample is needed until then."""
    for tensor, weight in ((sample, rest.x), (output, rest.m)):
        if weight != 0.0:
            x0_part.add_(tensor, alpha=weight)
    if noise is not None:
        x0_part.add_(noise, alpha=sigma)
    return x0_part if out is None or out is x0_part else out.copy_(x0_part)


def _rounded(result: Tensor, rounded: Tensor | None) -> Tensor:
    if rounded is not None:
        rounded.copy_(result)
    return result
