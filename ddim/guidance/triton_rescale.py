"""The factors of guidance rescale on CUDA devices, as two kernels. Imported only on CUDA, because it imports Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..noise.triton_noise import LAUNCH_OPTIONS

__all__ = ["rescale_factors"]


@triton.jit
def _welford(count, mean, square, value, inside):
    """Add one value per lane to the running mean and sum of squared deviations (Welford 1962)."""
    count = count + tl.where(inside, 1.0, 0.0)
    shift = tl.where(inside, value - mean, 0.0)
    mean = mean + shift / tl.maximum(count, 1.0)
    return count, mean, square + shift * tl.where(inside, value - mean, 0.0)


@triton.jit
def _merge_lanes(count, mean, square):
    """Combine the moments of all lanes (Chan et al. 1979)."""
    total = tl.sum(count, 0)
    total_mean = tl.sum(mean * count, 0) / tl.maximum(total, 1.0)
    shift = mean - total_mean
    return total, total_mean, tl.sum(square, 0) + tl.sum(count * shift * shift, 0)


@triton.jit
def _moments_kernel(uncond, text, partial, count, per_program, programs, scale, BLOCK: tl.constexpr):
    """Count, means and squared deviations of the conditional and the guided output over one part of an image."""
    row = tl.program_id(0) // programs
    part = tl.program_id(0) % programs
    lane = tl.arange(0, BLOCK)
    base = row.to(tl.int64) * count
    start = part.to(tl.int64) * per_program
    end = tl.minimum(start + per_program, count)
    seen = tl.zeros([BLOCK], tl.float32)
    mean_text, square_text = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    mean_guided, square_guided = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for offset in range(0, per_program, BLOCK):
        index = start + offset + lane
        inside = index < end
        t = tl.load(text + base + index, mask=inside, other=0.0).to(tl.float32)
        u = tl.load(uncond + base + index, mask=inside, other=0.0).to(tl.float32)
        guided = t + (t - u) * (scale - 1.0)
        _, mean_text, square_text = _welford(seen, mean_text, square_text, t, inside)
        seen, mean_guided, square_guided = _welford(seen, mean_guided, square_guided, guided, inside)
    total, mean_of_text, deviation_text = _merge_lanes(seen, mean_text, square_text)
    total, mean_of_guided, deviation_guided = _merge_lanes(seen, mean_guided, square_guided)
    target = partial + tl.program_id(0) * 5
    tl.store(target, total)
    tl.store(target + 1, mean_of_text)
    tl.store(target + 2, deviation_text)
    tl.store(target + 3, mean_of_guided)
    tl.store(target + 4, deviation_guided)


@triton.jit
def _factor_kernel(partial, factors, programs, phi, BLOCK: tl.constexpr):
    """Compute phi * std(text) / std(guided) + 1 - phi for one image (2305.08891, equations 14 to 16)."""
    row = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    inside = lane < programs
    source = partial + (row * programs + lane) * 5
    count = tl.load(source, mask=inside, other=0.0)
    _, _, square_text = _merge_lanes(
        count, tl.load(source + 1, mask=inside, other=0.0), tl.load(source + 2, mask=inside, other=0.0)
    )
    _, _, square_guided = _merge_lanes(
        count, tl.load(source + 3, mask=inside, other=0.0), tl.load(source + 4, mask=inside, other=0.0)
    )
    varies = square_guided > 0.0
    ratio = tl.where(varies, tl.sqrt(square_text / tl.where(varies, square_guided, 1.0)), 1.0)
    tl.store(factors + row, phi * ratio + (1.0 - phi))


def rescale_factors(uncond: Tensor, text: Tensor, scale: float, phi: float) -> Tensor:
    """Compute the factor by which rescale multiplies each guided image (2305.08891, equations 14 to 16).

    Args:
        uncond: Unconditional model output, contiguous, shape ``(B, ...)``.
        text: Conditional model output, same shape.
        scale: Guidance scale.
        phi: Strength of the rescale, in [0, 1].

    Returns:
        Float32, shape ``(B,)``.
    """
    rows, block, max_programs = text.shape[0], 1024, 256
    count = text.numel() // max(rows, 1)
    per_program = max(1, -(-count // (block * max_programs))) * block
    programs = max(1, -(-count // per_program))
    partial = torch.empty(rows * programs * 5, dtype=torch.float32, device=text.device)
    factors = torch.empty(rows, dtype=torch.float32, device=text.device)
    if rows and count:
        _moments_kernel[(rows * programs,)](
            uncond, text, partial, count, per_program, programs, scale, BLOCK=block, **LAUNCH_OPTIONS
        )
        _factor_kernel[(rows,)](partial, factors, programs, phi, BLOCK=max_programs, **LAUNCH_OPTIONS)
    return factors
