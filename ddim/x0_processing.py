"""What happens to a predicted x_0 before it is used: nothing, clipping, or dynamic thresholding.

Order: thresholding replaces clipping where both are asked for, as in diffusers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import SchedulerConfig
from .selection import quantile
from .tensor_ops import working_dtype

__all__ = ["Clip", "ProcessX0", "Threshold", "clip", "make_x0_processor", "threshold", "threshold_in_place"]

ProcessX0 = Callable[[Tensor], Tensor]


def clip(x0: Tensor, limit: float) -> Tensor:
    """Clamp to [-limit, limit]."""
    return x0.clamp(-limit, limit)


def threshold(x0: Tensor, ratio: float, cap: float) -> Tensor:
    """Dynamic thresholding per image (Imagen, 2205.11487, section 2.3).

    s is the ``ratio`` quantile of abs(x_0) of one image, clamped to [1, cap]; the image is clamped to [-s, s] and
    divided by s.

    Args:
        x0: shape ``(B, ...)``.
        ratio: in [0, 1].
        cap: at least 1; at 1 this is plain clipping to [-1, 1].
    """
    if cap == 1.0:
        return clip(x0, 1.0)
    limits, _ = _limits(x0, ratio, cap)
    return torch.clamp(x0, -limits, limits).div_(limits)


def _limits(x0: Tensor, ratio: float, cap: float) -> tuple[Tensor, Tensor]:
    """s of each image, shaped to broadcast, and a tensor like ``x0`` (in its working dtype) free to be overwritten."""
    sizes = x0.abs().flatten(1).to(working_dtype(x0.dtype))
    limits = quantile(sizes, ratio).clamp_(1.0, cap)
    return limits.reshape(-1, *[1] * (x0.ndim - 1)), sizes.view(x0.shape)


def threshold_in_place(x0: Tensor, ratio: float, cap: float) -> Tensor:
    """:func:`threshold`, written to ``x0``, a float32 or float64 CPU tensor that autograd does not follow.

    Returns:
        A tensor like ``x0`` that is free to be overwritten: large new tensors cost more than what is done to them.
    """
    limits, free = _limits(x0, ratio, cap)
    for image, limit in zip(x0, limits.flatten().tolist(), strict=True):
        image.clamp_(-limit, limit).div_(limit)
    return free


@dataclass(frozen=True)
class Clip:
    """:func:`clip` with its limit: a value that a fused step can read."""

    limit: float

    def __call__(self, x0: Tensor) -> Tensor:
        """Clipped x_0."""
        return clip(x0, self.limit)


@dataclass(frozen=True)
class Threshold:
    """:func:`threshold` with its settings."""

    ratio: float
    cap: float

    def __call__(self, x0: Tensor) -> Tensor:
        """Thresholded x_0."""
        return threshold(x0, self.ratio, self.cap)


def make_x0_processor(config: SchedulerConfig) -> ProcessX0 | None:
    """The processing that a configuration asks for, or None."""
    if config.thresholding:
        if config.sample_max_value == 1.0:
            return Clip(1.0)
        return Threshold(config.dynamic_thresholding_ratio, config.sample_max_value)
    return Clip(config.clip_sample_range) if config.clip_sample else None
