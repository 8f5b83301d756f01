"""Stand-in for two functions that the core is about to get: NoiseSchedule.add_noise and Schedule.check."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ddim import NoiseSchedule, Schedule


def add_noise(noise: NoiseSchedule, x0: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
    """Return x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) z in the dtype of x_0."""
    dtype = torch.float64 if x0.dtype == torch.float64 else torch.float32
    level = noise.alpha_bar[int(t)]
    return (x0.to(dtype) * float(level.sqrt()) + z.to(dtype) * float((1 - level).sqrt())).to(x0.dtype)


def check(schedule: Schedule) -> None:
    """Raise DDIMError for a schedule that cannot be run."""
    scheduler = schedule.scheduler()
    for index in range(len(schedule.plan)):
        scheduler.coefficients(index)
