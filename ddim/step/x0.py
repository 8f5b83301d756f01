"""What is done to a predicted x_0 before it is used: nothing, clipping, or dynamic thresholding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DDIMError
from ..precision import Linear, Number, as_dtype, per_image, quantile, working_dtype
from .equations import StepCoefficients

__all__ = ["Clip", "ProcessX0", "Threshold", "split_around_x0", "x0_processor"]

ProcessX0 = Callable[[Tensor], Tensor]


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
