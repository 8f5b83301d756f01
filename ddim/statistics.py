"""The standard deviation of each image, fast where torch is slow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .tensor_ops import is_plain, working_dtype

__all__ = ["deviation", "deviations_on_host"]

_CHUNK = 16384  # elements summed in one go: longer sums of squares lose digits in float32
_SMALL = 2048  # elements of a batch: below it torch's own is as fast


def deviation(images: Tensor) -> Tensor:
    """Standard deviation of each image, with Bessel's correction, as ``Tensor.std``.

    Args:
        images: shape ``(B, ...)``, any float dtype.

    Returns:
        Shape ``(B,)``, in the working dtype.
    """
    rows = images.flatten(1).to(working_dtype(images.dtype))
    return rows.std(dim=1)


def deviations_on_host(images: Tensor) -> list[float] | None:
    """:func:`deviation` as numbers, from sums; None where that is not possible, not faster or not accurate.

    torch's own goes through the rows one element at a time on the CPU: for large ones many times slower.
    """
    tracked = images.requires_grad and torch.is_grad_enabled()
    if tracked or images.numel() < _SMALL or images.numel() < 2 * len(images) or not is_plain(images):
        return None
    rows = images.flatten(1).to(working_dtype(images.dtype))
    count = rows.shape[1]
    whole = count - count % _CHUNK
    parts = [rows[:, :whole].reshape(len(rows), -1, _CHUNK)] if whole else []
    if whole < count:
        parts.append(rows[:, None, whole:])
    norms = [torch.linalg.vector_norm(part, dim=2).tolist() for part in parts]
    squares = [sum(norm * norm for found in image for norm in found) for image in zip(*norms, strict=True)]
    variances = [_variance(one, total, count) for one, total in zip(squares, rows.sum(1).tolist(), strict=True)]
    return None if None in variances else [math.sqrt(variance) for variance in variances if variance is not None]


def _variance(squares: float, total: float, count: int) -> float | None:
    """(sum of squares - sum^2 / n) / (n - 1) in float64; None where that would cancel digits away."""
    spread = squares - total * total / count
    return spread / (count - 1) if spread > 0.25 * squares else None
