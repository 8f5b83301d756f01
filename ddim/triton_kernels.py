"""The step as one kernel, for CUDA devices: imported only there, since it imports Triton.

``fused.py`` decides when these are used and turns a step into their scalars. The keyed noise is that of
``normal_counter.py`` to the last bit: it needs ``enable_fp_fusion=False``, so that no multiplication and addition is
contracted, and the correctly rounded square root.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .normal_counter import COS, LANES, LN4, LOG, SIN

__all__ = ["LAUNCHES", "step_kernel", "write_noise"]

LAUNCHES: dict[str, Any] = {"enable_fp_fusion": False, "num_warps": 4}

_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (tl.constexpr(value) for value in LOG)
_S0, _S1, _S2, _S3, _S4 = (tl.constexpr(value) for value in SIN)
_C0, _C1, _C2, _C3, _C4 = (tl.constexpr(value) for value in COS)
_MINUS_LN4 = tl.constexpr(-LN4)
_TURN = tl.constexpr(2.0**-31)
_ROOT_HALF = tl.constexpr(0x3F3504F3)
_MANTISSA = tl.constexpr(0x7FFFFF)


@triton.jit
def _box_muller(a, b):
    """Two words to two normals: ``normal_counter._box_muller``, operation by operation."""
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
def _tile_normals(tile, lane, image, step, key0, key1, LANES: tl.constexpr):
    """The four rows of normals of a tile."""
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
    n0, n1 = _box_muller(words[0], words[1])
    n2, n3 = _box_muller(words[2], words[3])
    return n0, n1, n2, n3


@triton.jit(do_not_specialize=["step", "key0", "key1"])
def _step_kernel(
    sample,
    output,
    text,
    noise,
    factors,
    images,
    result,
    count,
    tiles,
    whole,
    w_x,
    w_m,
    bound,
    r_x,
    r_m,
    sigma,
    scale,
    step,
    key0,
    key1,
    GUIDED: tl.constexpr,
    RESCALED: tl.constexpr,
    CLIPPED: tl.constexpr,
    NOISE: tl.constexpr,
    NUMBERED: tl.constexpr,
    LANES: tl.constexpr,
):
    row = tl.program_id(0) // tiles
    tile = (tl.program_id(0) % tiles).to(tl.int64)
    lane = tl.arange(0, LANES)
    base = row.to(tl.int64) * count
    if NOISE == "keyed":
        image = tl.load(images + row) if NUMBERED else row
        n0, n1, n2, n3 = _tile_normals(tile, lane, image, step, key0, key1, LANES)
    for k in tl.static_range(4):
        place = (tile * 4 + k) * LANES + lane
        inside = place < count
        x = tl.load(sample + base + place, mask=inside).to(tl.float32)
        m = tl.load(output + base + place, mask=inside).to(tl.float32)
        if GUIDED:
            t = tl.load(text + base + place, mask=inside).to(tl.float32)
            m = t + (t - m) * (scale - 1.0)
        if RESCALED:
            m = m * tl.load(factors + row)
        y = x * whole + ((x - m) * w_x + m * w_m)
        if CLIPPED:
            y = tl.where(y > bound, bound, tl.where(y < -bound, -bound, y))  # lets NaN through
            y = y + x * r_x + m * r_m
        if NOISE == "given":
            y = y + tl.load(noise + base + place, mask=inside).to(tl.float32) * sigma
        if NOISE == "keyed":
            if k == 0:
                y = y + n0 * sigma
            elif k == 1:
                y = y + n1 * sigma
            elif k == 2:
                y = y + n2 * sigma
            else:
                y = y + n3 * sigma
        tl.store(result + base + place, y.to(result.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["step", "key0", "key1"])
def _noise_kernel(result, images, count, tiles, step, key0, key1, NUMBERED: tl.constexpr, LANES: tl.constexpr):
    row = tl.program_id(0) // tiles
    tile = (tl.program_id(0) % tiles).to(tl.int64)
    lane = tl.arange(0, LANES)
    image = tl.load(images + row) if NUMBERED else row
    n0, n1, n2, n3 = _tile_normals(tile, lane, image, step, key0, key1, LANES)
    place = result + row.to(tl.int64) * count + tile * 4 * LANES + lane
    left = count - tile * 4 * LANES - lane
    tl.store(place, n0, mask=left > 0)
    tl.store(place + LANES, n1, mask=left > LANES)
    tl.store(place + 2 * LANES, n2, mask=left > 2 * LANES)
    tl.store(place + 3 * LANES, n3, mask=left > 3 * LANES)


def _signed(word: int) -> int:
    """A 32-bit word as the int32 of the same bits: one argument type for all words."""
    return word - (1 << 32) if word >> 31 else word


def _accurate(w_x: float, w_m: float) -> tuple[float, float, float]:
    """Factors of x, x - m and m in ``w_x x + w_m m`` that lose nothing where w_x is near 1 or both are large."""
    whole = 1.0 if w_x > 0.5 else 0.0
    return whole, w_x - whole, w_x + w_m - whole


def _tiles(count: int) -> int:
    return -(-count // (4 * LANES))


def step_kernel(
    sample: Tensor,
    output: Tensor,
    result: Tensor,
    weights: tuple[float, float],
    *,
    rest: tuple[float, float] = (0.0, 0.0),
    bound: float | None = None,
    text: Tensor | None = None,
    scale: float = 1.0,
    factors: Tensor | None = None,
    noise: Tensor | None = None,
    sigma: float = 0.0,
    key: tuple[int, int] | None = None,
    step: int = 0,
    images: Tensor | None = None,
) -> None:
    """``clip(w_x x + w_m m, bound) + r_x x + r_m m + sigma z`` in one launch, in float32.

    Args:
        sample: x, contiguous, shape ``(B, ...)``, float32 or half precision.
        output: m, or the unconditional output where ``text`` is given; as ``sample``.
        result: contiguous, where to write; may be ``sample``.
        weights: w_x and w_m.
        rest: r_x and r_m; used with ``bound`` only.
        bound: limit of the clipping, or None.
        text: conditional output: m becomes ``text + (text - output) * (scale - 1)``.
        scale: guidance scale.
        factors: float32, shape ``(B,)``: what m of each image is multiplied by.
        noise: z.
        sigma: its weight.
        key: draws z instead: the key words of keyed noise.
        step: of keyed noise.
        images: int32, shape ``(B,)``: image numbers of keyed noise; by default the rows'.
    """
    rows = sample.shape[0]
    count = sample.numel() // max(rows, 1)
    if not sample.numel():
        return
    source = "keyed" if key is not None else "given" if noise is not None else "none"
    key0, key1 = key or (0, 0)
    _step_kernel[(rows * _tiles(count),)](
        sample,
        output,
        sample if text is None else text,
        sample if noise is None else noise,
        sample if factors is None else factors,
        sample if images is None else images,
        result,
        count,
        _tiles(count),
        *_accurate(*weights),
        0.0 if bound is None else bound,
        *rest,
        sigma,
        scale,
        _signed(step),
        _signed(key0),
        _signed(key1),
        GUIDED=text is not None,
        RESCALED=factors is not None,
        CLIPPED=bound is not None,
        NOISE=source,
        NUMBERED=images is not None,
        LANES=LANES,
        **LAUNCHES,
    )


def write_noise(result: Tensor, key: tuple[int, int], step: int, images: Tensor | None = None) -> None:
    """Fill a contiguous float32 tensor of shape ``(B, ...)`` with keyed noise; arguments as :func:`step_kernel`."""
    if not result.numel():
        return
    count = result.numel() // result.shape[0]
    _noise_kernel[(result.shape[0] * _tiles(count),)](
        result,
        result if images is None else images,
        count,
        _tiles(count),
        _signed(step),
        _signed(key[0]),
        _signed(key[1]),
        NUMBERED=images is not None,
        LANES=LANES,
        **LAUNCHES,
    )
