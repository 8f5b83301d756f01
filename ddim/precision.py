"""The dtype that a step computes in, weighted sums that keep their digits there, and the quantile of an image."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["HALF", "Linear", "Number", "as_dtype", "per_image", "quantile", "weighted_sum", "working_dtype"]

HALF = frozenset((torch.float16, torch.bfloat16))

# Where the plain form of a weighted sum loses digits: a factor this near to 1, or one this large.
_NEAR_ONE, _LARGE, _VERY_LARGE = 1e-5, 2.0, 256.0

_LONGEST_FLOAT32_RANK = 1 << 24  # torch.quantile refuses longer rows, so there is no rounding of its to follow

# A coefficient: a float64 of the host for one step, or a float64 tensor of shape (B, 1, ...) for a step of each image.
Number = float | Tensor


class Linear(NamedTuple):
    """``x * sample + m * model_output``."""

    x: Number
    m: Number


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the state between steps: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor.to(dtype)`` without the operator that torch runs for nothing in inference mode where it fits already."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Values of shape ``(B,)``, reshaped to broadcast over ``like`` of shape ``(B, ...)``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def weighted_sum(sample: Tensor, output: Tensor, weights: Linear, *, out: Tensor | None = None) -> Tensor:
    """``weights.x * sample + weights.m * output`` in the working dtype of ``sample``.

    A term whose weight is the number 0 is not read, so that NaN and infinity in it have no effect.

    Args:
        sample: shape ``(B, ...)``, any float dtype.
        output: same shape, any float dtype.
        weights: the two factors.
        out: where to write, in the working dtype; may be ``sample`` itself, must not overlap ``output``.

    Returns:
        ``out``, or a new tensor.
    """
    x, m = weights
    dtype = working_dtype(sample.dtype)
    sample = as_dtype(sample, dtype)
    if output.dtype not in HALF:  # which is widened by the operators themselves, without a copy
        output = as_dtype(output, dtype)
    if isinstance(x, Tensor) or isinstance(m, Tensor):
        total = torch.as_tensor(x).to(sample) * sample + torch.as_tensor(m).to(sample) * output
        return total if out is None else out.copy_(total)
    if x == 0.0:
        return torch.mul(as_dtype(output, dtype), m, out=out)
    if m == 0.0:
        return torch.mul(sample, x, out=out)
    if m < -_VERY_LARGE:
        # w_x (x - m) + (w_x + w_m) m: at the tiny alpha_bar of a cosine schedule's first step an epsilon output is
        # nearly the sample itself, and the rounding of two large factors of opposite sign would not cancel.
        return torch.sub(sample, output, out=out).mul_(x).add_(output, alpha=x + m)
    if x != 1.0 and abs(x - 1.0) < _NEAR_ONE:
        # x + w_m (m + (w_x - 1) / w_m x): in a run of 1000 steps of v-prediction w_x is 1 - 1e-6 at each of them. Its
        # rounding to float32 would be the same for all elements and nearly the same at all steps, so it would add up.
        return torch.add(sample, torch.add(output, sample, alpha=(x - 1.0) / m), alpha=m, out=out)
    if m < -_LARGE and x > 1.0:
        # w_x (x + w_m / w_x m): the difference first, as in equation (9), so that only the result is rounded enlarged.
        return torch.add(sample, output, alpha=m / x, out=out).mul_(x)
    return torch.mul(sample, x, out=out).add_(output, alpha=m)


def quantile(values: Tensor, ratio: float) -> Tensor:
    """The linearly interpolated quantile of each row, as ``torch.quantile`` gives it, by selection instead of a sort.

    Rows may be longer than the 2^24 elements at which ``torch.quantile`` stops. A row that holds NaN gives NaN.

    Args:
        values: float32 or float64, shape ``(B, n)``, n at least 1.
        ratio: in [0, 1].

    Returns:
        Shape ``(B,)``.
    """
    low, weight = _rank(values.shape[1], ratio, values.dtype)
    top = values.topk(values.shape[1] - low, dim=1, sorted=False).values  # NaN counts as the largest
    below = top.amin(1)  # NaN, if there is one
    above = top.kthvalue(2, dim=1).values if weight else below
    return torch.where(below == above, below, torch.lerp(below, above, weight))  # inf and inf would give NaN


def _rank(count: int, ratio: float, dtype: torch.dtype) -> tuple[int, float]:
    """Index of the value below the quantile, and the weight of the value above it.

    torch.quantile multiplies in the dtype of the values, which rounds the rank of a long float32 row; so does this.
    """
    in_float32 = dtype == torch.float32 and count <= _LONGEST_FLOAT32_RANK
    rank = _float32(_float32(ratio) * (count - 1)) if in_float32 else ratio * (count - 1)
    low = int(rank)
    return low, rank - low


def _float32(value: float) -> float:
    """The float32 that is nearest to a number; in plain Python, which ``torch.compile`` can trace in every release."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(float(round(mantissa * 2.0**24)), exponent - 24)
