"""The step as one kernel, for CUDA devices. Imported only there, since it imports Triton; ``apply.py`` decides when."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..guidance.cfg import Guided
from ..guidance.triton_rescale import rescale_factors
from ..noise.keyed import KeyedStep
from ..noise.philox import LANES
from ..noise.recorded import weight_of_noise
from ..noise.triton_noise import LAUNCH_OPTIONS, signed_word, tile_normals, tiles_of
from ..precision import Linear
from .equations import StepCoefficients
from .x0 import split_around_x0

__all__ = ["fused_step"]


@triton.jit
def _clipped(y, bound):
    """Clamped to [-bound, bound]; NaN stays NaN."""
    return tl.where(y > bound, bound, tl.where(y < -bound, -bound, y))


@triton.jit
def _pick(k: tl.constexpr, n0, n1, n2, n3):
    """The normals of row k of a tile."""
    return n0 if k == 0 else n1 if k == 1 else n2 if k == 2 else n3


@triton.jit
def _guided(uncond, text, scale, factor):
    """Classifier-free guidance and its rescale: ``cfg.guide``."""
    text = text.to(tl.float32)
    return (text + (text - uncond) * (scale - 1.0)) * factor


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
    keep,
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
    row, tile = tl.program_id(0) // tiles, (tl.program_id(0) % tiles).to(tl.int64)
    lane = tl.arange(0, LANES)
    base = row.to(tl.int64) * count
    if NOISE == "keyed":
        n0, n1, n2, n3 = tile_normals(tile, lane, tl.load(images + row) if NUMBERED else row, step, key0, key1, LANES)
    for k in tl.static_range(4):
        place = (tile * 4 + k) * LANES + lane
        inside = place < count
        x = tl.load(sample + base + place, mask=inside).to(tl.float32)
        m = tl.load(output + base + place, mask=inside).to(tl.float32)
        if GUIDED:
            t = tl.load(text + base + place, mask=inside)
            m = _guided(m, t, scale, tl.load(factors + row) if RESCALED else 1.0)
        y = x * whole + ((x - m) * w_x + m * w_m)
        if CLIPPED:
            y = _clipped(y, bound) * keep + x * r_x + m * r_m
        if NOISE == "given":
            y = y + tl.load(noise + base + place, mask=inside).to(tl.float32) * sigma
        if NOISE == "keyed":
            y = y + _pick(k, n0, n1, n2, n3) * sigma
        tl.store(result + base + place, y.to(result.dtype.element_ty), mask=inside)


def _accurate(weights: Linear) -> tuple[float, float, float]:
    """Factors of x, x - m and m in ``w_x x + w_m m`` that lose nothing where w_x is near 1 or both are large."""
    w_x, w_m = float(weights.x), float(weights.m)
    whole = 1.0 if w_x > 0.5 else 0.0
    return whole, w_x - whole, w_x + w_m - whole


def fused_step(
    c: StepCoefficients,
    sample: Tensor,
    output: Tensor | Guided,
    clip: float | None,
    rederive: bool,
    noise: Tensor | KeyedStep | None,
    out: Tensor | None,
) -> Tensor:
    """Equation (12) in one launch, computed in float32: ``keep clip(x_0) + rest of x and m + sigma z``.

    Guidance with rescale needs two small launches before it, for the standard deviations.

    Args:
        c: coefficients of the step, as floats.
        sample: x, contiguous, shape ``(B, ...)``, float32 or half precision.
        output: m, like ``sample``, or guided and not combined yet.
        clip: limit of x_0, or None for no processing.
        rederive: derive epsilon again from the clipped x_0.
        noise: z, or the key to draw it with inside the kernel.
        out: float32, where to write; may be ``sample``.
    """
    result = torch.empty_like(sample, dtype=torch.float32) if out is None else out
    if not sample.numel():
        return result
    uncond, text, scale, factors = _outputs(output)
    keyed = noise if isinstance(noise, KeyedStep) else None
    given = noise if isinstance(noise, Tensor) else None
    images = keyed.key.images_on_device if keyed else None
    keep, rest = (1.0, Linear(0.0, 0.0)) if clip is None else split_around_x0(c, rederive)
    tiles = tiles_of(sample.numel() // sample.shape[0])
    _step_kernel[(sample.shape[0] * tiles,)](
        sample,
        uncond,
        _or(text, sample),
        _or(given, sample).as_subclass(Tensor),
        _or(factors, sample),
        _or(images, sample),
        result,
        sample.numel() // sample.shape[0],
        tiles,
        *_accurate(c.step if clip is None else c.x0),
        clip or 0.0,
        float(keep),
        float(rest.x),
        float(rest.m),
        float(c.sigma if given is None else weight_of_noise(c.sigma, given)),
        scale,
        signed_word(keyed.step if keyed else 0),
        *(signed_word(word) for word in (keyed.key.words if keyed else (0, 0))),
        GUIDED=text is not None,
        RESCALED=factors is not None,
        CLIPPED=clip is not None,
        NOISE="keyed" if keyed else "none" if noise is None else "given",
        NUMBERED=images is not None,
        LANES=LANES,
        **LAUNCH_OPTIONS,
    )
    return result


def _outputs(output: Tensor | Guided) -> tuple[Tensor, Tensor | None, float, Tensor | None]:
    """The model output, or the unconditional one with the conditional one, guidance scale and rescale factors."""
    if isinstance(output, Tensor):
        return output, None, 1.0, None
    uncond, text = output.uncond.contiguous(), output.text.contiguous()
    factors = rescale_factors(uncond, text, output.scale, output.rescale) if output.rescale else None
    return uncond, text, output.scale, factors


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """A kernel argument that is not read where the tensor is None."""
    return stand_in if tensor is None else tensor
