"""Keyed noise on CUDA devices, bit for bit equal to ``philox.py``. Imported only on CUDA, because it imports Triton.

Bit equality requires ``enable_fp_fusion=False``, so that no multiply-add is fused, and the correctly rounded square
root.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .philox import COS, LANES, LN4, LOG, SIN

__all__ = ["LAUNCH_OPTIONS", "signed_word", "tile_normals", "tiles_of", "write_noise"]

LAUNCH_OPTIONS: dict[str, Any] = {"enable_fp_fusion": False, "num_warps": 4}

_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (tl.constexpr(value) for value in LOG)
_S0, _S1, _S2, _S3, _S4 = (tl.constexpr(value) for value in SIN)
_C0, _C1, _C2, _C3, _C4 = (tl.constexpr(value) for value in COS)
_MINUS_LN4 = tl.constexpr(-LN4)
_TURN = tl.constexpr(2.0**-31)
_ROOT_HALF = tl.constexpr(0x3F3504F3)
_MANTISSA = tl.constexpr(0x7FFFFF)


@triton.jit
def box_muller_words(a, b):
    """Two normals from two words: the same operations in the same order as ``philox._box_muller``."""
    bits = (a | 1).to(tl.float32).to(tl.int32, bitcast=True) - _ROOT_HALF
    exponent = bits >> 23
    fraction = ((bits & _MANTISSA) + _ROOT_HALF).to(tl.float32, bitcast=True) - 1.0
    power = fraction * _L8 + _L7
    power = power * fraction + _L6
    power = power * fraction + _L5
    power = power * fraction + _L4
    power = power * fraction + _L3
    power = power * fraction + _L2
    power = power * fraction + _L1
    power = power * fraction + _L0
    power = power * fraction + (exponent - 32).to(tl.float32) * _MINUS_LN4
    radius = (tl.sqrt_rn(power).to(tl.uint32, bitcast=True) ^ (a << 31)).to(tl.float32, bitcast=True)
    turn = b.to(tl.int32, bitcast=True).to(tl.float32) * _TURN
    square = turn * turn
    cosine = (((square * _C4 + _C3) * square + _C2) * square + _C1) * square + _C0
    sine = (((square * _S4 + _S3) * square + _S2) * square + _S1) * square + _S0
    return cosine * radius, sine * (radius * turn)


@triton.jit
def tile_normals(tile, lane, image, step, key0, key1, LANES: tl.constexpr):
    """Compute the four rows of normals of a tile."""
    block = (tile * LANES + lane).to(tl.uint32)
    zero = tl.zeros_like(block)
    words = tl.philox_impl(
        block,
        zero + image.to(tl.uint32, bitcast=True),
        zero + step.to(tl.uint32, bitcast=True),
        zero,
        zero + key0.to(tl.uint32, bitcast=True),
        zero + key1.to(tl.uint32, bitcast=True),
        10,
    )
    n0, n1 = box_muller_words(words[0], words[1])
    n2, n3 = box_muller_words(words[2], words[3])
    return n0, n1, n2, n3


@triton.jit(do_not_specialize=["step", "key0", "key1"])
def _noise_kernel(result, images, count, tiles, step, key0, key1, NUMBERED: tl.constexpr, LANES: tl.constexpr):
    """Write one tile of one image; image numbers are read from ``images`` if NUMBERED, else they are the rows."""
    row = tl.program_id(0) // tiles
    tile = (tl.program_id(0) % tiles).to(tl.int64)
    lane = tl.arange(0, LANES)
    image = tl.load(images + row) if NUMBERED else row
    n0, n1, n2, n3 = tile_normals(tile, lane, image, step, key0, key1, LANES)
    target = result + row.to(tl.int64) * count + tile * 4 * LANES + lane
    remaining = count - tile * 4 * LANES - lane
    tl.store(target, n0, mask=remaining > 0)
    tl.store(target + LANES, n1, mask=remaining > LANES)
    tl.store(target + 2 * LANES, n2, mask=remaining > 2 * LANES)
    tl.store(target + 3 * LANES, n3, mask=remaining > 3 * LANES)


def signed_word(word: int) -> int:
    """Reinterpret a 32-bit word as int32, so that a kernel argument has the same type for every word."""
    return word - (1 << 32) if word >> 31 else word


def tiles_of(count: int) -> int:
    """Number of tiles (4 rows of ``LANES`` elements) that an image of ``count`` elements needs."""
    return -(-count // (4 * LANES))


def write_noise(result: Tensor, key: tuple[int, int], step: int, images: Tensor | None = None) -> None:
    """Fill a contiguous float32 tensor with keyed noise.

    Args:
        result: Shape ``(B, ...)``, on a CUDA device.
        key: The two key words.
        step: Index of the step.
        images: Image numbers, int32, shape ``(B,)``; by default 0..B-1.
    """
    if not result.numel():
        return
    count = result.numel() // result.shape[0]
    _noise_kernel[(result.shape[0] * tiles_of(count),)](
        result,
        result if images is None else images,
        count,
        tiles_of(count),
        signed_word(step),
        signed_word(key[0]),
        signed_word(key[1]),
        NUMBERED=images is not None,
        LANES=LANES,
        **LAUNCH_OPTIONS,
    )
