"""A whole schedule as one immutable value: settings, noise levels and the planned steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from .schedule.noise_levels import NoiseSchedule
from .schedule.settings import SchedulerConfig, Settings, check_config, noise_schedule_of, plan_of
from .schedule.timesteps import TimestepPlan, plan_from_timesteps
from .scheduler.ddim import DDIMScheduler
from .scheduler.forward import ForwardScheduler
from .scheduler.inverse import DDIMInverseScheduler
from .step.levels import Level

__all__ = ["Schedule", "make_schedule"]


@dataclass(frozen=True)
class Schedule:
    """What a sampling run does, step by step: the value that travels between graph nodes.

    Attributes:
        config: the settings of a model of any kind.
        plan: the pairs ``(t, t_next)``.
    """

    config: Settings
    plan: TimestepPlan

    @classmethod
    def of(cls, scheduler: ForwardScheduler) -> Schedule:
        """The settings and the plan of a scheduler."""
        return cls(scheduler.settings, scheduler.plan)

    @cached_property
    def noise(self) -> NoiseSchedule:
        """The noise levels of all training timesteps."""
        return noise_schedule_of(self.config)

    @property
    def alpha_bars(self) -> tuple[float, ...]:
        """``alpha_bar`` at each timestep of the plan and, last, after it: ``len(plan) + 1`` values."""
        visited = [self.noise.levels[t] for t in self.plan.timesteps]
        return (*visited, self.noise.alpha_bar_at(self.plan.pairs[-1][1]))

    @property
    def levels(self) -> tuple[Level, ...]:
        """The level at each timestep of the plan and, last, after it: ``len(plan) + 1`` of them."""
        return (*map(self.noise.level_at, self.plan.timesteps), self.noise.level_at(self.plan.pairs[-1][1]))

    def part(self, start: int = 0, stop: int | None = None) -> Schedule:
        """The same schedule, steps ``start`` to ``stop`` only."""
        return replace(self, plan=self.plan.part(start, stop))

    def last_fraction(self, strength: float) -> Schedule:
        """The last part of the schedule, for image-to-image; see :meth:`TimestepPlan.last_fraction`."""
        return replace(self, plan=self.plan.last_fraction(strength))

    def check(self) -> None:
        """Check that every step can be taken, before a model is called.

        Raises:
            DDIMError: for a step outside the noise schedule, a level outside [0, 1], or an epsilon prediction of pure
                noise.
        """
        scheduler = self.scheduler()
        for index in range(len(self.plan)):
            scheduler.coefficients(index)

    def scheduler(self, device: torch.device | str | None = None) -> DDIMScheduler:
        """A scheduler set to this plan, ready to step."""
        scheduler = DDIMScheduler.from_settings(self.config)
        scheduler.set_plan(self.plan, device=device)
        return scheduler

    def inverse_scheduler(self, device: torch.device | str | None = None) -> DDIMInverseScheduler:
        """A scheduler that follows this plan upwards, from data to noise."""
        scheduler = DDIMInverseScheduler.from_settings(self.config)
        scheduler.set_plan(self.plan, device=device)
        return scheduler


def make_schedule(
    num_inference_steps: int,
    config: Settings | None = None,
    *,
    timesteps: Iterable[int] | None = None,
) -> Schedule:
    """Plan a run.

    Args:
        num_inference_steps: S, in 1..T; ignored when ``timesteps`` is given.
        config: the settings; by default those of :class:`SchedulerConfig`. For flow and variance exploding models a
            :class:`SigmaConfig`.
        timesteps: a custom list, strictly decreasing.

    Raises:
        DDIMError: as :func:`make_plan` does.
    """
    config = SchedulerConfig() if config is None else check_config(config)
    if timesteps is not None:
        return Schedule(config, plan_from_timesteps(timesteps, config.num_train_timesteps))
    return Schedule(config, plan_of(config, num_inference_steps))
