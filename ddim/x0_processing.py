"""What happens to a predicted x_0 before it is used: nothing, clipping, or dynamic thresholding.

Order: thresholding replaces clipping where both are asked for, as in diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .coefficients import Linear
from .config import SchedulerConfig
from .pieces import PIECE
from .selection import clamped_quantile, clamped_quantile_of_pieces
from .tensor_ops import combine, working_dtype

__all__ = ["Clip", "ProcessX0", "Threshold", "clip", "limit_of_image", "make_x0_processor", "threshold"]

ProcessX0 = Callable[[Tensor], Tensor]

_BEGINNING = 1 << 12  # elements that are enough to see that a prediction is far beyond the cap


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

    NaN does not count on the CPU: it stays where it is, and the rest of the image is as with a 0 in its place.
    """
    if cap == 1.0:
        return clip(x0, 1.0)
    limits = _limits(x0.abs(), ratio, cap)
    return torch.clamp(x0, -limits, limits).div_(limits)


def _limits(sizes: Tensor, ratio: float, cap: float) -> Tensor:
    """s of each image, shaped to broadcast, from abs(x_0)."""
    rows = sizes.flatten(1).to(working_dtype(sizes.dtype))
    return clamped_quantile(rows, ratio, 1.0, cap).reshape(-1, *[1] * (sizes.ndim - 1))


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


def limit_of_image(process: Threshold, weights: Linear, sample: Tensor, output: Tensor) -> float:
    """s of :func:`threshold` for one image, from sample and model output: most often without all of x_0.

    Args:
        process: the settings.
        weights: of sample and output in x_0.
        sample: one image, contiguous, on the CPU.
        output: the same.
    """
    dtype, count = working_dtype(sample.dtype), sample.numel()

    def sizes() -> Iterator[np.ndarray]:
        x, m, room = sample.view(-1), output.view(-1), torch.empty(min(PIECE, count), dtype=dtype)
        begin, length = 0, _BEGINNING
        while begin < count:
            end = min(begin + length, count)
            yield combine(x[begin:end], m[begin:end], weights, out=room[: end - begin]).abs_().numpy()
            begin, length = end, PIECE

    return clamped_quantile_of_pieces(sizes, count, process.ratio, 1.0, process.cap, dtype)


def make_x0_processor(config: SchedulerConfig) -> ProcessX0 | None:
    """The processing that a configuration asks for, or None."""
    if config.thresholding:
        if config.sample_max_value == 1.0:
            return Clip(1.0)
        return Threshold(config.dynamic_thresholding_ratio, config.sample_max_value)
    return Clip(config.clip_sample_range) if config.clip_sample else None
