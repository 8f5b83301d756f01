"""The standard deviation of each image, fast where torch is slow."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .tensor_ops import is_plain, working_dtype

__all__ = ["deviation"]

_CHUNK = 16384  # elements summed in one go: longer sums of squares lose digits in float32


def deviation(images: Tensor) -> Tensor:
    """Standard deviation of each image, with Bessel's correction, as ``Tensor.std``.

    Args:
        images: shape ``(B, ...)``, any float dtype.

    Returns:
        Shape ``(B,)``, in the working dtype.
    """
    rows = images.flatten(1).to(working_dtype(images.dtype))
    # torch's own goes through the rows one element at a time on the CPU: for large ones many times slower
    large = rows.numel() > 2 * _CHUNK and rows.shape[1] > 1
    if large and is_plain(rows) and not (rows.requires_grad and torch.is_grad_enabled()):
        variance = _variance_from_sums(rows)
        if variance is not None:
            return torch.from_numpy(np.sqrt(variance)).to(rows.dtype)
    return rows.std(dim=1)


def _variance_from_sums(rows: Tensor) -> np.ndarray | None:
    """(sum of squares - sum^2 / n) / (n - 1) in float64; None where that would cancel digits away."""
    count = rows.shape[1]
    whole = count - count % _CHUNK
    squares = np.zeros(len(rows))
    if whole:
        norms = torch.linalg.vector_norm(rows[:, :whole].unflatten(1, (-1, _CHUNK)), dim=2)
        squares += np.square(norms.numpy(), dtype=np.float64).sum(axis=1)
    if whole < count:
        squares += np.square(torch.linalg.vector_norm(rows[:, whole:], dim=1).numpy(), dtype=np.float64)
    spread = squares - np.square(rows.sum(1).numpy(), dtype=np.float64) / count
    return spread / (count - 1) if bool((spread > 0.25 * squares).all()) else None
