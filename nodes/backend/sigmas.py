"""Conversion between schedules and SIGMAS, the same in both hosts.

Of a variance preserving model sigma^2 = (1 - alpha_bar) / alpha_bar; of others sigma is that of the level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...ddim import (
    FLOW,
    VARIANCE_PRESERVING,
    DDIMError,
    Schedule,
    SchedulerConfig,
    SigmaConfig,
    betas_from_alpha_bar,
    plan_from_timesteps,
)

__all__ = ["check_finite", "schedule_from_sigmas", "schedule_sigmas", "sigmas_of_levels"]

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

    Raises:
        DDIMError: If a sigma of the table is infinite at a step.
    """
    if table is None and schedule.noise.kind == VARIANCE_PRESERVING:
        return sigmas_of_levels(torch.tensor(schedule.alpha_bars, dtype=torch.float64))
    if table is None:
        return torch.tensor([level.sigma for level in schedule.levels], dtype=torch.float32)
    visited = table[torch.tensor(schedule.plan.timesteps)]
    check_finite(visited)
    last = schedule.plan.pairs[-1][1]
    end = table[last] if last >= 0 else _final_sigma(schedule)
    return torch.cat([visited, end.reshape(1)])


def check_finite(sigmas: Tensor) -> None:
    """Check that a MODEL can be called at these sigmas of its host.

    Raises:
        DDIMError: If one is infinite: pure noise, for a MODEL that counts sigma / (1 - sigma).
    """
    if not bool(torch.isfinite(sigmas).all()):
        raise DDIMError(
            "the schedule starts at pure noise, a sigma that is infinite for this MODEL (Cosmos); connect the MODEL to "
            "DDIM Schedule, which starts at the MODEL's own largest sigma"
        )


def _final_sigma(schedule: Schedule) -> Tensor:
    if schedule.noise.kind == VARIANCE_PRESERVING:
        return sigmas_of_levels(torch.tensor(schedule.noise.final_alpha_bar))
    return torch.tensor(schedule.levels[-1].sigma, dtype=torch.float32)


def schedule_from_sigmas(sigmas: Tensor, kind: str = VARIANCE_PRESERVING) -> Schedule:
    """Build a schedule with one timestep per sigma, for runs that are given SIGMAS alone.

    The smallest sigma above 0 is timestep 0.

    Args:
        sigmas: Descending, at least two; the last may be 0. Of a variance preserving model alpha_bar is
            1 / (1 + sigma^2).
        kind: Of the MODEL's levels.

    Raises:
        DDIMError: If they rise, or are negative or not finite; for a flow model also if they are above 1.
    """
    values = sigmas.detach().to("cpu", torch.float64)
    if not torch.isfinite(values).all() or (values < 0).any() or (values.diff() > 0).any() or values[0] == 0:
        raise DDIMError(
            f"the DDIM sampler needs SIGMAS that fall from noise to clean, got {_abbreviated(values)}; "
            "to go from clean to noise use DDIM Invert"
        )
    ends_clean = values[-1] == 0
    config = _config_of(values[values > 0].flip(0), kind)
    steps = config.num_train_timesteps
    plan = plan_from_timesteps(range(steps - 1, -1, -1), steps)
    return Schedule(config, plan if ends_clean else plan.part(0, steps - 1))


def _config_of(rising: Tensor, kind: str) -> SchedulerConfig | SigmaConfig:
    """Return the settings of a model whose output is x_0 and whose levels are these, float64, shape ``(T,)``."""
    if kind == VARIANCE_PRESERVING:
        betas = betas_from_alpha_bar(1 / (1 + rising**2))
        return SchedulerConfig(trained_betas=tuple(betas.tolist()), prediction_type="sample", clip_sample=False)
    if kind == FLOW and rising[-1] > 1:
        raise DDIMError(
            f"the SIGMAS of a flow MODEL lie between 0 and 1, got {_abbreviated(rising.flip(0))}; make them with DDIM "
            "Schedule or a stock scheduler node that this MODEL is connected to"
        )
    if (rising.diff() == 0).any():
        raise DDIMError(f"two SIGMAS are equal: {_abbreviated(rising.flip(0))}; use fewer steps or another scheduler")
    return SigmaConfig(kind, tuple(rising.tolist()), time_scale=1.0, prediction_type="sample")


def _abbreviated(values: Tensor) -> str:
    shown = [f"{value:.4g}" for value in values.tolist()]
    return ", ".join(shown if len(shown) <= MAX_SHOWN else [*shown[:4], "...", *shown[-3:]])
