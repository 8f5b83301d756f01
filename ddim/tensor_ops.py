"""The few tensor operations of a step.

All of them compute in float32 (float64 for float64 input), with one rounding per operation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .coefficients import Linear

__all__ = ["combine", "scaled", "working_dtype"]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of the state: float32 for half precision, else the tensor's own."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def combine(sample: Tensor, output: Tensor, weights: Linear, *, out: Tensor | None = None) -> Tensor:
    """``weights.x * sample + weights.m * output`` in the sample's working dtype; a term of weight 0 is not read.

    Args:
        sample: shape ``(B, ...)``, any float dtype.
        output: same shape, any float dtype.
        weights: the two factors.
        out: where to write, in the working dtype; may be ``sample`` itself, must not overlap ``output``.
    """
    dtype, (weight_x, weight_m) = working_dtype(sample.dtype), weights
    if weight_x == 0.0:
        return scaled(output, weight_m, dtype, out=out)
    total = scaled(sample, weight_x, dtype, out=out)
    return total.add_(output, alpha=weight_m) if weight_m != 0.0 else total


def scaled(tensor: Tensor, weight: float, dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
    """``weight * tensor``, computed in ``dtype``; a new tensor, or ``out``."""
    if tensor.dtype == dtype:
        return torch.mul(tensor, weight, out=out) if out is not None else tensor * weight
    return (tensor.to(dtype) if out is None else out.copy_(tensor)).mul_(weight)
