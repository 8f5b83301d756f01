"""The few tensor operations of a step.

All of them compute in float32 (float64 for float64 input), with one rounding per operation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .coefficients import Linear

__all__ = ["combine", "weighted_sum", "working_dtype"]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of the state: float32 for half precision, else the tensor's own."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def combine(sample: Tensor, output: Tensor, weights: Linear, *, out: Tensor | None = None) -> Tensor:
    """``weights.x * sample + weights.m * output`` in the sample's working dtype.

    Args:
        sample: shape ``(B, ...)``, any float dtype.
        output: same shape, any float dtype.
        weights: the two factors.
        out: where to write, in the working dtype; may be ``sample`` itself, must not overlap ``output``.
    """
    return weighted_sum(((sample, weights.x), (output, weights.m)), working_dtype(sample.dtype), out=out)


def weighted_sum(terms: tuple[tuple[Tensor, float], ...], dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
    """Sum of tensors with host scalars, one operation per term; a term of weight 0 is not read.

    Args:
        terms: tensors of one shape and any float dtype, with their weights.
        dtype: in which to compute, and of the result.
        out: where to write; may be the first tensor, must not overlap the others.
    """
    used = [term for term in terms if term[1] != 0.0] or [terms[0]]
    (first, weight), *rest = used
    if first.dtype == dtype:
        total = torch.mul(first, weight, out=out)
    else:
        total = (first.to(dtype) if out is None else out.copy_(first)).mul_(weight)
    for tensor, weight in rest:
        total.add_(tensor, alpha=weight)
    return total
