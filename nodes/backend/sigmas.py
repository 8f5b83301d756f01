"""Conversion between schedules and SIGMAS, the same in both hosts: sigma^2 = (1 - alpha_bar) / alpha_bar."""

from __future__ import annotations

import torch
from torch import Tensor

from ...ddim import DDIMError, Schedule, SchedulerConfig, betas_from_alpha_bar, plan_from_timesteps

__all__ = ["schedule_from_sigmas", "schedule_sigmas", "sigmas_of_levels"]

# ComfyUI's substitute for alpha_bar = 0, whose sigma would be infinite: sigma 4518.76. With it our SIGMAS equal
# ComfyUI's; the runs themselves use the schedule's exact 0.
SMALLEST_ALPHA_BAR = 4.8973451890853435e-08

MAX_SHOWN = 8  # sigmas in an error message


def sigmas_of_levels(alpha_bar: Tensor) -> Tensor:
    """Return sigma = sqrt((1 - alpha_bar) / alpha_bar), float32; for alpha_bar 0 ComfyUI's largest, 4518.76."""
    levels = alpha_bar.to(torch.float64).clamp_min(SMALLEST_ALPHA_BAR)
    return ((1 - levels) / levels).sqrt().float()


def schedule_sigmas(schedule: Schedule, table: Tensor | None = None) -> Tensor:
    """Return the SIGMAS of a schedule: one per step and the last, float32 CPU, shape ``(S + 1,)``.

    Args:
        schedule: The schedule.
        table: A MODEL's own sigmas, shape ``(T,)``, so that each maps back to its timestep without loss; by default
            they are computed from the schedule's levels.
    """
    if table is None:
        return sigmas_of_levels(torch.tensor(schedule.alpha_bars, dtype=torch.float64))
    last = schedule.plan.pairs[-1][1]
    end = table[last] if last >= 0 else sigmas_of_levels(torch.tensor(schedule.noise.final_alpha_bar))
    return torch.cat([table[list(schedule.plan.timesteps)], end.reshape(1)])


def schedule_from_sigmas(sigmas: Tensor) -> Schedule:
    """Build a schedule with one timestep per sigma, for runs that are given SIGMAS alone.

    alpha_bar = 1 / (1 + sigma^2); the smallest sigma above 0 is timestep 0.

    Args:
        sigmas: Descending, at least two; the last may be 0.

    Raises:
        DDIMError: If they rise, or are negative or not finite.
    """
    values = sigmas.detach().to("cpu", torch.float64)
    if not torch.isfinite(values).all() or (values < 0).any() or (values.diff() > 0).any() or values[0] == 0:
        raise DDIMError(
            f"the DDIM sampler needs SIGMAS that fall from noise to clean, got {_abbreviated(values)}; "
            "to go from clean to noise use DDIM Invert"
        )
    ends_clean = values[-1] == 0
    levels = (1 / (1 + values[values > 0] ** 2)).flip(0)
    config = SchedulerConfig(
        trained_betas=tuple(betas_from_alpha_bar(levels).tolist()), prediction_type="sample", clip_sample=False
    )
    plan = plan_from_timesteps(range(len(levels) - 1, -1, -1), len(levels))
    return Schedule(config, plan if ends_clean else plan.part(0, len(plan) - 1))


def _abbreviated(values: Tensor) -> str:
    shown = [f"{value:.4g}" for value in values.tolist()]
    return ", ".join(shown if len(shown) <= MAX_SHOWN else [*shown[:4], "...", *shown[-3:]])
