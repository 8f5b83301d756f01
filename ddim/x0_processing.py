"""What happens to a predicted x_0 before it is used: nothing, clipping, or dynamic thresholding.

Order: thresholding replaces clipping where both are asked for, as in diffusers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .config import SchedulerConfig

__all__ = ["clip", "make_x0_processor", "threshold"]


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
    limits = _quantile(x0.abs().flatten(1), ratio).clamp(1.0, cap)
    limits = limits.reshape(-1, *[1] * (x0.ndim - 1))
    return torch.clamp(x0, -limits, limits) / limits


def _quantile(values: Tensor, ratio: float) -> Tensor:
    """Linear-interpolated quantile of each row, by selection instead of a sort, without a size limit."""
    rank = ratio * (values.shape[1] - 1)
    low = int(rank)
    below = torch.kthvalue(values, low + 1, dim=1).values
    if rank == low:
        return below
    above = torch.kthvalue(values, low + 2, dim=1).values
    return torch.lerp(below, above, rank - low)


def make_x0_processor(config: SchedulerConfig) -> Callable[[Tensor], Tensor] | None:
    """The processing that a configuration asks for, or None."""
    if config.thresholding:
        ratio, cap = config.dynamic_thresholding_ratio, config.sample_max_value
        return lambda x0: threshold(x0, ratio, cap)
    if config.clip_sample:
        limit = config.clip_sample_range
        return lambda x0: clip(x0, limit)
    return None
