"""The configuration: the fifteen settings of diffusers and ``parity``, checked, frozen, attributes or mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .beta_schedules import BETA_SCHEDULES
from .coefficients import PREDICTION_TYPES
from .errors import DDIMError, check_choice, check_integer, check_number
from .timestep_plan import PARITIES, TIMESTEP_SPACINGS

__all__ = ["SchedulerConfig"]


@dataclass(frozen=True)
class SchedulerConfig(Mapping[str, Any]):
    """Settings of a :class:`~ddim.DDIMScheduler`; the names and defaults are diffusers'.

    Raises:
        DDIMError: at construction, for a value of the wrong type, out of range, or unknown.
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
            object.__setattr__(self, "trained_betas", _as_tuple(self.trained_betas))
            object.__setattr__(self, "num_train_timesteps", len(self.trained_betas))
        check_integer("num_train_timesteps", self.num_train_timesteps, 1)
        check_choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        check_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        check_choice("parity", self.parity, PARITIES)
        check_number("beta_start", self.beta_start, 0.0)
        check_number("beta_end", self.beta_end, 0.0)
        check_integer("steps_offset", self.steps_offset, 0, self.num_train_timesteps - 1)
        check_number("dynamic_thresholding_ratio", self.dynamic_thresholding_ratio, 0.0, 1.0)
        check_number("clip_sample_range", self.clip_sample_range, 0.0)
        check_number("sample_max_value", self.sample_max_value, 1.0, why=" (below 1, thresholding would amplify)")
        for name in ("clip_sample", "set_alpha_to_one", "thresholding", "rescale_betas_zero_snr"):
            if not isinstance(getattr(self, name), bool):
                raise DDIMError(f"{name} must be True or False, got {getattr(self, name)!r}")

    def __getitem__(self, key: str) -> Any:
        if key not in _NAMES:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


_NAMES: tuple[str, ...] = tuple(field.name for field in fields(SchedulerConfig))


def _as_tuple(values: Any) -> tuple[float, ...]:
    """trained_betas given as list, tuple, numpy array or tensor."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    try:
        return tuple(float(value) for value in listed)
    except (TypeError, ValueError) as error:
        raise DDIMError(f"trained_betas must be a flat list, array or tensor of numbers, got {values!r:.80}") from error
