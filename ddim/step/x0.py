"""What is done to a predicted x_0 before it is used: nothing, clipping, or dynamic thresholding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import DDIMError
from ..precision import Linear, Number, as_dtype, per_image, working_dtype
from .equations import StepCoefficients

__all__ = ["Clip", "ProcessX0", "Threshold", "quantile", "split_around_x0", "x0_processor"]

ProcessX0 = Callable[[Tensor], Tensor]

_LONGEST_FLOAT32_RANK = 1 << 24  # torch.quantile refuses longer rows, so there is no rounding of its to follow


@dataclass(frozen=True)
class Clip:
    """Clamp x_0 to [-limit, limit]."""

    limit: float

    def __call__(self, x0: Tensor) -> Tensor:
        """Clipped x_0, a new tensor."""
        return x0.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class Threshold:
    """Dynamic thresholding (Imagen, 2205.11487, section 2.3).

    s is the ``ratio`` quantile of abs(x_0) of one image, clamped to [1, cap]; the image is clamped to [-s, s] and
    divided by s. An image that holds NaN becomes NaN as a whole, as in diffusers: its quantile has no value.

    Attributes:
        ratio: in [0, 1].
        cap: at least 1; at 1 this is clipping to [-1, 1].
    """

    ratio: float
    cap: float

    def __call__(self, x0: Tensor) -> Tensor:
        """Thresholded x_0, shape ``(B, ...)``, a new tensor.

        Raises:
            DDIMError: for an image without elements.
        """
        if x0.ndim < 2 or not x0.numel():
            raise DDIMError(
                f"thresholding needs a sample of shape (B, ...) with at least one element, got {tuple(x0.shape)}: it "
                "takes a quantile of each image"
            )
        sizes = as_dtype(x0.abs().flatten(1), working_dtype(x0.dtype))
        s = per_image(quantile(sizes, self.ratio).clamp(1.0, self.cap), x0)
        return torch.clamp(x0, -s, s).div_(s)


def x0_processor(
    *, thresholding: bool, ratio: float, cap: float, clip_sample: bool, clip_range: float
) -> ProcessX0 | None:
    """The processing that a configuration asks for, or None; thresholding replaces clipping, as in diffusers."""
    if thresholding:
        return Clip(1.0) if cap == 1.0 else Threshold(ratio, cap)
    return Clip(clip_range) if clip_sample else None


def split_around_x0(c: StepCoefficients, rederive: bool) -> tuple[Number, Linear]:
    """The weight of a processed x_0 in x_next, and the weights of sample and model output beside it."""
    if rederive:
        return c.alpha_next + c.direction * c.rederived.m, Linear(c.direction * c.rederived.x, 0.0)
    return c.alpha_next, Linear(c.direction * c.epsilon.x, c.direction * c.epsilon.m)


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
    as_torch = np.float32 if dtype == torch.float32 and count <= _LONGEST_FLOAT32_RANK else np.float64
    rank = as_torch(ratio) * as_torch(count - 1)
    low = int(rank)
    return low, float(rank - as_torch(low))
