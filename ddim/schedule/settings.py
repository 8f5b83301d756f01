"""The settings of a scheduler: diffusers' fifteen and ``parity``, validated and immutable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import DDIMError, check_choice, check_integer, check_number, show
from ..parity import parity_of
from ..step.checks import PREDICTION_TYPES
from .betas import BETA_SCHEDULES
from .noise_levels import NoiseSchedule, make_noise_schedule
from .timesteps import TIMESTEP_SPACINGS, TimestepPlan, make_plan

__all__ = ["MAX_TRAIN_TIMESTEPS", "SETTINGS", "SchedulerConfig", "noise_schedule_of", "plan_of"]

MAX_TRAIN_TIMESTEPS = 1_000_000  # keeps an untrusted configuration from allocating all memory


@dataclass(frozen=True)
class SchedulerConfig(Mapping[str, Any]):
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
            self._set("trained_betas", _betas_as_tuple(self.trained_betas))
            self._set("num_train_timesteps", len(self.trained_betas))
        self._set(
            "num_train_timesteps",
            check_integer("num_train_timesteps", self.num_train_timesteps, 1, MAX_TRAIN_TIMESTEPS),
        )
        check_choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        check_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        min_cap = parity_of(self.parity).min_threshold_cap
        last = self.num_train_timesteps - 1
        self._set("steps_offset", check_integer("steps_offset", self.steps_offset, 0, last))
        for name, (low, high, why) in _NUMBERS.items():
            low = min_cap if name == "sample_max_value" else low
            given = getattr(self, name)
            self._set(name, _keep_number_type(check_number(name, given, low, high, why=why), given))
        for name in ("clip_sample", "set_alpha_to_one", "thresholding", "rescale_betas_zero_snr"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise DDIMError(f"{name} must be True or False, got {show(getattr(self, name))}")
            self._set(name, bool(getattr(self, name)))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __getitem__(self, key: str) -> Any:
        if key not in SETTINGS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(SETTINGS)

    def __len__(self) -> int:
        return len(SETTINGS)


SETTINGS: tuple[str, ...] = tuple(field.name for field in fields(SchedulerConfig))

# The numeric settings: minimum, maximum, and the reason for the limit.
_NUMBERS: dict[str, tuple[float, float, str]] = {
    "beta_start": (0.0, math.inf, ""),
    "beta_end": (0.0, math.inf, ""),
    "dynamic_thresholding_ratio": (0.0, 1.0, ""),
    "clip_sample_range": (0.0, math.inf, ""),
    "sample_max_value": (1.0, math.inf, " (below 1, thresholding would amplify)"),
}


def _keep_number_type(checked: float, given: Any) -> int | float:
    """Return a plain int or float as it was given, since files distinguish 1 from 1.0; anything else as a float."""
    return given if type(given) in (int, float) else checked


def _betas_as_tuple(values: Any) -> tuple[float, ...]:
    """Convert ``trained_betas``, given as a list, tuple, numpy array or tensor."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(listed, (list, tuple)) or not 1 <= len(listed) <= MAX_TRAIN_TIMESTEPS:
        raise DDIMError(
            "trained_betas must be a flat list, array or tensor of betas, one per training timestep "
            f"(1 to {MAX_TRAIN_TIMESTEPS}), got {show(values)}"
        )
    return tuple(check_number(f"trained_betas[{i}]", beta, 0.0) for i, beta in enumerate(listed))


@lru_cache(maxsize=32)
def noise_schedule_of(config: SchedulerConfig) -> NoiseSchedule:
    """Return the noise schedule of a configuration; cached, since both are immutable."""
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


def plan_of(config: SchedulerConfig, num_inference_steps: int) -> TimestepPlan:
    """Plan a number of steps as a configuration says; raises what :func:`make_plan` raises."""
    return make_plan(
        num_inference_steps, config.num_train_timesteps, config.timestep_spacing, config.steps_offset, config.parity
    )
