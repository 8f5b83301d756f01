"""Standard deviations for guidance with rescale: two small kernels for CUDA devices, imported only there."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..noise.triton_noise import LAUNCH_OPTIONS

__all__ = ["rescale_factors"]


@triton.jit
def _welford(count, mean, square, value, inside):
    """One more value per lane (Welford 1962)."""
    count = count + tl.where(inside, 1.0, 0.0)
    shift = tl.where(inside, value - mean, 0.0)
    mean = mean + shift / tl.maximum(count, 1.0)
    return count, mean, square + shift * tl.where(inside, value - mean, 0.0)


@triton.jit
def _merged(count, mean, square):
    """Sums of all lanes (Chan et al. 1979)."""
    total = tl.sum(count, 0)
    middle = tl.sum(mean * count, 0) / tl.maximum(total, 1.0)
    away = mean - middle
    return total, middle, tl.sum(square, 0) + tl.sum(count * away * away, 0)


@triton.jit
def _moments_kernel(uncond, text, partial, count, per_program, programs, scale, BLOCK: tl.constexpr):
    """Count, mean and squared deviations of the conditional and the guided output, for a part of an image."""
    row = tl.program_id(0) // programs
    part = tl.program_id(0) % programs
    lane = tl.arange(0, BLOCK)
    base = row.to(tl.int64) * count
    start = part.to(tl.int64) * per_program
    end = tl.minimum(start + per_program, count)
    number, mean_t, square_t = (
        tl.zeros([BLOCK], tl.float32),
        tl.zeros([BLOCK], tl.float32),
        tl.zeros([BLOCK], tl.float32),
    )
    mean_g, square_g = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for offset in range(0, per_program, BLOCK):
        place = start + offset + lane
        inside = place < end
        t = tl.load(text + base + place, mask=inside, other=0.0).to(tl.float32)
        u = tl.load(uncond + base + place, mask=inside, other=0.0).to(tl.float32)
        after, mean_t, square_t = _welford(number, mean_t, square_t, t, inside)
        number, mean_g, square_g = _welford(number, mean_g, square_g, t + (t - u) * (scale - 1.0), inside)
    total, middle_t, all_t = _merged(number, mean_t, square_t)
    total, middle_g, all_g = _merged(number, mean_g, square_g)
    place = partial + tl.program_id(0) * 5
    tl.store(place, total)
    tl.store(place + 1, middle_t)
    tl.store(place + 2, all_t)
    tl.store(place + 3, middle_g)
    tl.store(place + 4, all_g)


@triton.jit
def _factor_kernel(partial, factors, programs, phi, BLOCK: tl.constexpr):
    """phi * std(text) / std(guided) + 1 - phi for one image (2305.08891, equations 14 to 16)."""
    row = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    inside = lane < programs
    place = partial + (row * programs + lane) * 5
    number = tl.load(place, mask=inside, other=0.0)
    total, middle, all_t = _merged(
        number, tl.load(place + 1, mask=inside, other=0.0), tl.load(place + 2, mask=inside, other=0.0)
    )
    total, middle, all_g = _merged(
        number, tl.load(place + 3, mask=inside, other=0.0), tl.load(place + 4, mask=inside, other=0.0)
    )
    ratio = tl.where(all_g > 0.0, tl.sqrt(all_t / tl.where(all_g > 0.0, all_g, 1.0)), 1.0)
    tl.store(factors + row, phi * ratio + (1.0 - phi))


def rescale_factors(uncond: Tensor, text: Tensor, scale: float, phi: float) -> Tensor:
    """The factor of each guided image in the rescale of 2305.08891, equations (14) to (16).

    Args:
        uncond: contiguous, shape ``(B, ...)``.
        text: same shape.
        scale: guidance scale.
        phi: in [0, 1].

    Returns:
        Float32, shape ``(B,)``.
    """
    rows, block, most = text.shape[0], 1024, 256
    count = text.numel() // max(rows, 1)
    per_program = max(1, -(-count // (block * most))) * block
    programs = max(1, -(-count // per_program))
    partial = torch.empty(rows * programs * 5, dtype=torch.float32, device=text.device)
    factors = torch.empty(rows, dtype=torch.float32, device=text.device)
    if rows and count:
        _moments_kernel[(rows * programs,)](
            uncond, text, partial, count, per_program, programs, scale, BLOCK=block, **LAUNCH_OPTIONS
        )
        _factor_kernel[(rows,)](partial, factors, programs, phi, BLOCK=most, **LAUNCH_OPTIONS)
    return factors
