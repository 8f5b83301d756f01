"""The standard deviation of each image, fast where torch is slow."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .pieces import can_be_cut, cut
from .tensor_ops import working_dtype

__all__ = ["Sums", "deviation", "deviations_on_host", "summable"]

_SMALL = 2048  # elements of a batch: below it torch's own is as fast


class Sums(NamedTuple):
    """What a standard deviation is made of, in float64 on the host, taken up piece by piece.

    torch's own goes through the numbers one at a time on the CPU: for large images many times slower.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, flat: Tensor) -> Sums:
        """With the numbers of a flat piece."""
        wide = flat.to(working_dtype(flat.dtype))
        return Sums(self.count + len(flat), self.total + float(wide.sum()), self.squares + float(torch.dot(wide, wide)))

    def deviation(self) -> float | None:
        """sqrt((sum of squares - sum^2 / n) / (n - 1)); None where that would cancel digits away."""
        if self.count < 2:
            return None
        spread = self.squares - self.total * self.total / self.count
        return math.sqrt(spread / (self.count - 1)) if spread > 0.25 * self.squares else None


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
            sums = sums.plus(piece)
        found.append(sums.deviation())
    return None if None in found else [one for one in found if one is not None]
