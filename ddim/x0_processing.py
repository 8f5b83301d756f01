"""What happens to a predicted x_0 before it is used: nothing, clipping, or dynamic thresholding.

Order: thresholding replaces clipping where both are asked for, as in diffusers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import SchedulerConfig
from .selection import clamped_quantile
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
    limits = _limits(x0.abs(), ratio, cap)
    return torch.clamp(x0, -limits, limits).div_(limits)


def _limits(sizes: Tensor, ratio: float, cap: float) -> Tensor:
    """s of each image, shaped to broadcast, from abs(x_0), whose elements change places."""
    rows = sizes.flatten(1).to(working_dtype(sizes.dtype))
    return clamped_quantile(rows, ratio, 1.0, cap).reshape(-1, *[1] * (sizes.ndim - 1))


def threshold_in_place(x0: Tensor, ratio: float, cap: float, free: Tensor) -> None:
    """:func:`threshold`, written to ``x0``, a float32 or float64 CPU tensor that autograd does not follow.

    Args:
        x0: shape ``(B, ...)``.
        ratio: as there.
        cap: as there.
        free: a tensor like ``x0`` to be overwritten: large new tensors cost more than what is done to them.
    """
    limits = _limits(torch.abs(x0, out=free), ratio, cap).flatten().tolist()
    for image, limit in zip(x0 if len(limits) > 1 else [x0], limits, strict=True):
        image.clamp_(-limit, limit).div_(limit)


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
