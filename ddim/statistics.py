"""The standard deviation of each image, fast where torch is slow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .pieces import can_be_cut, cut
from .tensor_ops import HALF, working_dtype

__all__ = ["Sums", "deviation", "deviations_on_host", "summable"]

_SMALL = 2048  # elements of a batch: below it torch's own is as fast


class Sums:
    """What a standard deviation is made of, in float64 on the host, taken up piece by piece.

    torch's own goes through the numbers one at a time on the CPU: for large images many times slower.
    """

    def __init__(self) -> None:
        self._count, self._total, self._squares = 0, 0.0, 0.0

    def add(self, flat: Tensor) -> None:
        """Take up the numbers of a flat piece."""
        wide = flat.float() if flat.dtype in HALF else flat
        self._count += len(wide)
        self._total += wide.sum().item()
        self._squares += torch.dot(wide, wide).item()

    def deviation(self) -> float | None:
        """sqrt((sum of squares - sum^2 / n) / (n - 1)); None where that would cancel digits away."""
        if self._count < 2:
            return None
        spread = self._squares - self._total * self._total / self._count
        return math.sqrt(spread / (self._count - 1)) if spread > 0.25 * self._squares else None


def deviation(images: Tensor) -> Tensor:
    """Standard deviation of each image, with Bessel's correction, as ``Tensor.std``.

    Args:
        images: shape ``(B, ...)``, any float dtype.

    Returns:
        Shape ``(B,)``, in the working dtype.
    """
    rows = images.flatten(1).to(working_dtype(images.dtype))
    return rows.std(dim=1)


def summable(*images: Tensor) -> bool:
    """Whether deviations can be had from sums, and faster so."""
    return images[0].numel() >= _SMALL and can_be_cut(*images)


def deviations_on_host(images: Tensor) -> list[float] | None:
    """:func:`deviation` as numbers, from sums; None where that is not possible, not faster or not accurate."""
    if not summable(images):
        return None
    found = []
    for image in images:
        sums = Sums()
        for (piece,) in cut(image):
            sums.add(piece)
        found.append(sums.deviation())
    return None if None in found else [one for one in found if one is not None]
