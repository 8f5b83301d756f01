"""A whole schedule as one immutable value: settings, noise levels and the planned steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch

from .config import SchedulerConfig
from .noise_schedule import NoiseSchedule, make_noise_schedule
from .timestep_plan import TimestepPlan, make_plan, plan_from_timesteps

if TYPE_CHECKING:
    from .inverse_scheduler import DDIMInverseScheduler
    from .scheduler import DDIMScheduler

__all__ = ["Schedule", "make_schedule", "noise_schedule_of"]


@lru_cache(maxsize=32)
def noise_schedule_of(config: SchedulerConfig) -> NoiseSchedule:
    """The noise schedule that a configuration describes (cached: it is immutable)."""
    return make_noise_schedule(
        config.num_train_timesteps,
        config.beta_start,
        config.beta_end,
        config.beta_schedule,
        config.trained_betas,
        config.rescale_betas_zero_snr,
        config.set_alpha_to_one,
        parity=config.parity,
    )


@dataclass(frozen=True)
class Schedule:
    """What a sampling run does, step by step: this value travels between graph nodes.

    Attributes:
        config: the settings.
        plan: the pairs ``(t, t_next)``.
    """

    config: SchedulerConfig
    plan: TimestepPlan

    @cached_property
    def noise(self) -> NoiseSchedule:
        """The noise levels of all training timesteps."""
        return noise_schedule_of(self.config)

    @property
    def alpha_bars(self) -> tuple[float, ...]:
        """``alpha_bar`` at each timestep of the plan and, last, after it: ``len(plan) + 1`` values."""
        visited = [self.noise.levels[t] for t in self.plan.timesteps]
        return (*visited, self.noise.alpha_bar_at(self.plan.pairs[-1][1]))

    def part(self, start: int = 0, stop: int | None = None) -> Schedule:
        """The same schedule, steps ``start`` to ``stop`` only."""
        return Schedule(self.config, self.plan.part(start, stop))

    def last_fraction(self, strength: float) -> Schedule:
        """The last part of the schedule, for image-to-image; see :meth:`TimestepPlan.last_fraction`."""
        return Schedule(self.config, self.plan.last_fraction(strength))

    def scheduler(self, device: torch.device | str | None = None) -> DDIMScheduler:
        """A scheduler set to this plan, ready to step."""
        from .scheduler import DDIMScheduler

        scheduler = DDIMScheduler.from_settings(self.config)
        scheduler.set_plan(self.plan, device=device)
        return scheduler

    def inverse_scheduler(self, device: torch.device | str | None = None) -> DDIMInverseScheduler:
        """A scheduler that walks this plan upwards, from data to noise."""
        from .inverse_scheduler import DDIMInverseScheduler

        scheduler = DDIMInverseScheduler.from_settings(self.config)
        scheduler.set_plan(self.plan, device=device)
        return scheduler


def make_schedule(
    num_inference_steps: int,
    config: SchedulerConfig | None = None,
    *,
    timesteps: Iterable[int] | None = None,
) -> Schedule:
    """Plan a run.

    Args:
        num_inference_steps: S, in 1..T; ignored when ``timesteps`` is given.
        config: the settings; by default those of :class:`SchedulerConfig`.
        timesteps: a list of one's own, strictly decreasing.

    Raises:
        DDIMError: as :func:`make_plan` does.
    """
    config = config or SchedulerConfig()
    if timesteps is not None:
        return Schedule(config, plan_from_timesteps(timesteps, config.num_train_timesteps))
    plan = make_plan(
        num_inference_steps, config.num_train_timesteps, config.timestep_spacing, config.steps_offset, config.parity
    )
    return Schedule(config, plan)
