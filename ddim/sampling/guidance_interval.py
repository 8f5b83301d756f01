"""Guidance between two noise levels only (Kynkaanniemi et al. 2024, 2404.07724)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import DDIMError, check_choice, check_number, show
from ..plan import Schedule
from ..scheduler.forward import ForwardScheduler
from .loop import check_scheduler

__all__ = ["INTERVAL_UNITS", "GuidanceInterval"]


def _shares(schedule: Schedule) -> list[float]:
    """The share of the run that is done before each step."""
    return [index / len(schedule.plan) for index in range(len(schedule.plan))]


def _log_snrs(schedule: Schedule) -> list[float]:
    """ln(alpha^2 / sigma^2) of the sample before each step."""
    return [schedule.noise.log_snr_at(t) for t in schedule.plan.timesteps]


# What an interval is measured in: its value before each step, which rises.
_UNITS: dict[str, Callable[[Schedule], list[float]]] = {"share": _shares, "log_snr": _log_snrs}

INTERVAL_UNITS: tuple[str, ...] = tuple(_UNITS)


@dataclass(frozen=True)
class GuidanceInterval:
    """In which steps there is guidance: those with ``start <= value < end`` before the step.

    The paper gives its interval in sigma of a variance exploding model, (sigma_low, sigma_high]: that is log-SNR from
    -2 ln sigma_high to -2 ln sigma_low. Outside it the conditional output is used alone.

    Attributes:
        start: the value at which guidance begins, on the noisy side.
        end: the value at which it ends, above ``start``.
        unit: ``"share"``, of the run that is done, in [0, 1]; or ``"log_snr"``, ln(alpha^2 / sigma^2), which does not
            depend on the number of steps.

    Raises:
        DDIMError: for an interval that is upside down, or a share outside [0, 1].
    """

    start: float
    end: float
    unit: str = "share"

    def __post_init__(self) -> None:
        check_choice("unit", self.unit, INTERVAL_UNITS)
        start, end = _number("start", self.start), _number("end", self.end)
        if not start < end:
            raise DDIMError(
                f"the guidance interval must start below its end, got {start:g} to {end:g}; exchange them (shares and "
                "log-SNR rise while a run removes noise)"
            )
        if self.unit == "share" and not (0.0 <= start and end <= 1.0):
            raise DDIMError(
                f"the guidance interval must lie in [0, 1], a share of the run, got {start:g} to {end:g}; for noise "
                "levels set its unit to log_snr"
            )
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)

    def timesteps(self, schedule: Schedule) -> frozenset[int]:
        """The timesteps of a plan at which there is guidance."""
        if not isinstance(schedule, Schedule):
            raise DDIMError(f"schedule must be a Schedule, got {show(schedule)}")
        values = _UNITS[self.unit](schedule)
        return frozenset(
            t for t, value in zip(schedule.plan.timesteps, values, strict=True) if self.start <= value < self.end
        )

    def on(self, scheduler: ForwardScheduler) -> Callable[[Tensor], bool]:
        """``active(t)`` for :func:`ddim.guided_model`, where a model is called with the scheduler's timesteps.

        Args:
            scheduler: with its plan set; another plan needs another ``active``.
        """
        check_scheduler(scheduler)
        schedule = Schedule.of(scheduler)
        chosen = self.timesteps(schedule)
        guided = [t in chosen for t in schedule.plan.timesteps]
        return lambda t: guided[scheduler.index_of(t)]


def _number(name: str, value: float) -> float:
    """A number, of which log-SNR may be infinite."""
    return value if isinstance(value, float) and math.isinf(value) else check_number(name, value)
