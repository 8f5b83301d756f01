"""The few tensor operations of a step.

All of them compute in float32 (float64 for float64 input), with one rounding per operation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .coefficients import Linear
from .pieces import can_be_cut

__all__ = ["HALF", "combine", "working_dtype"]

_LONG = (1 << 16) + 1  # elements from which on one pass over memory is worth three views
HALF = frozenset((torch.float16, torch.bfloat16))
_NEAR_ONE, _LARGE = 1e-5, 8.0  # where a weighted sum is not accurate in its plain form


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
    weight_x, weight_m = weights
    if weight_x == 0.0:
        return _scaled(output, weight_m, working_dtype(sample.dtype), out)
    if weight_m == 0.0:
        return _scaled(sample, weight_x, working_dtype(sample.dtype), out)
    if weight_m < -_LARGE:
        return _difference(sample, output, weights, out)
    if -_NEAR_ONE < weight_x - 1.0 < _NEAR_ONE and weight_x != 1.0:
        return _increment(sample, output, weights, out)
    if half := sample.dtype in HALF:
        sample = sample.float() if out is None else out.copy_(sample)
    target = sample if half else out
    if sample.numel() >= _LONG and sample.dtype == output.dtype and can_be_cut(sample, output, target):
        return _in_one_pass(sample, output, weights, target)
    if half:
        return sample.mul_(weight_x).add_(output, alpha=weight_m)
    total = sample * weight_x if out is None else torch.mul(sample, weight_x, out=out)
    return total.add_(output, alpha=weight_m)


def _in_one_pass(sample: Tensor, output: Tensor, weights: Linear, out: Tensor | None) -> Tensor:
    """The plain form by the one operator of torch that takes two factors: ``beta * A + alpha * (u v^T)``, with u = 1.

    It goes through memory three times where two operators go five times, but needs three views, whose making counts
    where the tensors are small.
    """
    unit = torch.ones(1, dtype=sample.dtype)
    row, column = sample.view(1, -1), output.view(-1)
    if out is None:
        return torch.addr(row, unit, column, beta=weights.x, alpha=weights.m).view(sample.shape)
    torch.addr(row, unit, column, beta=weights.x, alpha=weights.m, out=out.view(1, -1))
    return out


def _increment(sample: Tensor, output: Tensor, weights: Linear, out: Tensor | None) -> Tensor:
    """``x + w_m (m + (w_x - 1) / w_m x)``: a factor so near 1 would lose its last digits in float32.

    In a run of 1000 steps of v-prediction it is 1 - 1e-6 at each; its rounding is the same for all numbers of the
    sample and nearly the same at all steps, so that it adds up.
    """
    dtype, apart = working_dtype(sample.dtype), None if out is sample else out
    change = _written(torch.add, output.to(dtype), sample.to(dtype), apart, alpha=(weights.x - 1.0) / weights.m)
    tracked = change.requires_grad and torch.is_grad_enabled()
    target = out if out is not None else None if tracked else change
    return _written(torch.add, sample.to(dtype), change, target, alpha=weights.m)


def _written(operator: Any, a: Tensor, b: Tensor, out: Tensor | None, *, alpha: float) -> Tensor:
    """``operator(a, b, alpha=alpha)``; autograd takes no ``out``, not even None."""
    result: Tensor = operator(a, b, alpha=alpha) if out is None else operator(a, b, alpha=alpha, out=out)
    return result


def _difference(sample: Tensor, output: Tensor, weights: Linear, out: Tensor | None) -> Tensor:
    """``w_x (x - m) + (w_x + w_m) m``: large factors of opposite sign, whose rounding would not cancel.

    At the tiny alpha_bar of a cosine schedule's first step an epsilon prediction is nearly the sample itself.
    """
    dtype = working_dtype(sample.dtype)
    total = _written(torch.sub, sample.to(dtype), output.to(dtype), out, alpha=1.0)
    return total.mul_(weights.x).add_(output, alpha=weights.x + weights.m)


def _scaled(tensor: Tensor, weight: float, dtype: torch.dtype, out: Tensor | None) -> Tensor:
    """``weight * tensor``, computed in ``dtype``; a new tensor, or ``out``."""
    if tensor.dtype == dtype:
        return torch.mul(tensor, weight, out=out) if out is not None else tensor * weight
    return (tensor.to(dtype) if out is None else out.copy_(tensor)).mul_(weight)
