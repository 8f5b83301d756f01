"""The settings of a scheduler: diffusers' fifteen and ``parity``, validated and immutable."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from ..errors import DDIMError, check_choice, check_integer, check_number, show
from ..parity import parity_of
from ..step.checks import PREDICTION_TYPES
from .betas import BETA_SCHEDULES
from .common_settings import (
    MAX_TRAIN_TIMESTEPS,
    FrozenSettings,
    check_numbers,
    check_switches,
    check_x0_settings,
    keep_number_type,
)
from .noise_levels import NoiseSchedule, make_noise_schedule
from .sigma_settings import SigmaConfig
from .timesteps import TIMESTEP_SPACINGS, TimestepPlan, make_plan

__all__ = ["SETTINGS", "SchedulerConfig", "Settings", "check_config", "noise_schedule_of", "plan_of"]

_LONGEST_KEPT = 10_000  # training timesteps; the cache then holds at most about 30 MB, whatever files are read


@dataclass(frozen=True)
class SchedulerConfig(FrozenSettings):
    """Settings of a :class:`~ddim.DDIMScheduler`, with diffusers' names and defaults; also readable as a mapping.

    Raises:
        DDIMError: at construction, for a value of the wrong type or outside its range.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    clip_sample: bool = True
    set_alpha_to_one: bool = True
    steps_offset: int = 0
    prediction_type: str = "epsilon"
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    clip_sample_range: float = 1.0
    sample_max_value: float = 1.0
    timestep_spacing: str = "leading"
    rescale_betas_zero_snr: bool = False
    parity: str = "exact"

    def __post_init__(self) -> None:
        if self.trained_betas is not None:
            self._set("trained_betas", check_numbers("trained_betas", self.trained_betas))
            self._set("num_train_timesteps", len(self.trained_betas))
        self._set(
            "num_train_timesteps",
            check_integer("num_train_timesteps", self.num_train_timesteps, 1, MAX_TRAIN_TIMESTEPS),
        )
        check_choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        check_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        last = self.num_train_timesteps - 1
        self._set("steps_offset", check_integer("steps_offset", self.steps_offset, 0, last))
        for name in ("beta_start", "beta_end"):
            given = getattr(self, name)
            self._set(name, keep_number_type(check_number(name, given, 0.0), given))
        switches = {name: getattr(self, name) for name in ("set_alpha_to_one", "rescale_betas_zero_snr")}
        x0_settings = check_x0_settings(self, lowest_cap=parity_of(self.parity).min_threshold_cap)
        for name, value in {**x0_settings, **check_switches(switches)}.items():
            self._set(name, value)


SETTINGS: tuple[str, ...] = SchedulerConfig.names()

Settings: TypeAlias = SchedulerConfig | SigmaConfig  # of a scheduler: a model of any kind


def check_config(value: object) -> Settings:
    """Return ``value`` if it holds settings.

    Raises:
        DDIMError: otherwise.
    """
    if not isinstance(value, SchedulerConfig | SigmaConfig):
        raise DDIMError(f"config must be a SchedulerConfig or a SigmaConfig, got {show(value)}")
    return value


def noise_schedule_of(config: Settings) -> NoiseSchedule:
    """Return the noise schedule of a configuration; kept unless it is very long, since both are immutable."""
    if isinstance(config, SigmaConfig):
        return config.noise_schedule
    return _kept_schedule(config) if config.num_train_timesteps <= _LONGEST_KEPT else _new_schedule(config)


@lru_cache(maxsize=32)
def _kept_schedule(config: SchedulerConfig) -> NoiseSchedule:
    return _new_schedule(config)


def _new_schedule(config: SchedulerConfig) -> NoiseSchedule:
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


def plan_of(config: Settings, num_inference_steps: int) -> TimestepPlan:
    """Plan a number of steps as a configuration says; raises what :func:`make_plan` raises."""
    return make_plan(
        num_inference_steps, config.num_train_timesteps, config.timestep_spacing, config.steps_offset, config.parity
    )
