"""The few tensor operations of a step, as plain as they come: the readable reference of every faster twin.

All of them compute in float32 (float64 for float64 input) and never write to their inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .coefficients import Linear

__all__ = ["combine", "working_dtype"]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of the state: float32 for half precision, else the tensor's own."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def combine(sample: Tensor, output: Tensor, weights: Linear, *, out: Tensor | None = None) -> Tensor:
    """``weights.x * sample + weights.m * output`` in the sample's working dtype.

    Args:
        sample: shape ``(B, ...)``, any float dtype.
        output: same shape, any float dtype.
        weights: the two factors.
        out: where to write; may be ``sample`` itself.
    """
    dtype = working_dtype(sample.dtype)
    if sample.dtype == dtype and output.dtype == dtype:
        return torch.add(torch.mul(sample, weights.x, out=out), output, alpha=weights.m, out=out)
    result = torch.mul(sample.to(dtype), weights.x, out=out)
    return torch.add(result, output.to(dtype), alpha=weights.m, out=out)
