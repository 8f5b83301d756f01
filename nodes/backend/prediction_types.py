"""Who decides what a network's output is: the schedule of a run, or its MODEL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from ...ddim import VARIANCE_PRESERVING, DDIMError, Schedule

__all__ = [
    "EPSILON_AT_ZERO_SNR",
    "ScheduleOfModel",
    "check_levels",
    "check_output",
    "decided_output",
    "left_to_model",
    "output_type",
    "planned_output",
    "predicting_x0",
    "visits_zero_snr",
    "with_output_of",
    "with_prediction_type",
]

Declared = TypeVar("Declared", bound="str | None")

EPSILON_AT_ZERO_SNR = (
    "At zero SNR the input is pure noise, from which epsilon says nothing about the picture. Set prediction_type to "
    "v_prediction, or connect a MODEL that predicts v."
)


@dataclass(frozen=True)
class ScheduleOfModel(Schedule):
    """A schedule that leaves to the MODEL of each run what its output is: prediction_type "from model".

    A part of it, or the same with another plan, is one too.

    Attributes:
        known: What the MODEL predicts that the schedule was planned with, as ``config`` says too; None if there was
            none, and then ``config.prediction_type`` says nothing.
    """

    known: str | None = None


def left_to_model(schedule: Schedule, known: str | None) -> Schedule:
    """Return a schedule that leaves the prediction type to the MODEL of a run.

    Args:
        schedule: Of a flow or variance exploding model it is returned as it is: such a MODEL always decides.
        known: What a MODEL predicts that it was planned with, or None.
    """
    if schedule.noise.kind != VARIANCE_PRESERVING:
        return schedule
    if known is not None:
        schedule = with_prediction_type(schedule, known)
    return ScheduleOfModel(schedule.config, schedule.plan, known)


def planned_output(schedule: Schedule) -> str | None:
    """Return what a network's output will be as far as is known before a run; None if a MODEL has to say it."""
    return schedule.known if isinstance(schedule, ScheduleOfModel) else schedule.config.prediction_type


def output_type(declared: Declared, schedule: Schedule) -> Declared | str:
    """Decide what a network's raw output is: as the schedule says, or if it leaves that, as its MODEL declares.

    A schedule of a flow or variance exploding model says nothing about it.

    Args:
        declared: The MODEL's prediction type, or None if it has another one than the core knows.
        schedule: The schedule of the run.

    Returns:
        A prediction type, or None for such a MODEL: it can only be used at its own noise levels.

    Raises:
        DDIMError: For epsilon and a schedule that visits zero SNR, or a level outside [0, 1].
    """
    if schedule.noise.kind != VARIANCE_PRESERVING:
        return declared
    prediction_type = decided_output(declared, schedule)
    check_levels(schedule)
    check_output(schedule, prediction_type)
    return prediction_type


def decided_output(declared: Declared, schedule: Schedule) -> Declared | str:
    """Decide as :func:`output_type` does, for a variance preserving MODEL, whatever levels the schedule visits."""
    return declared if isinstance(schedule, ScheduleOfModel) else schedule.config.prediction_type


def with_output_of(schedule: Schedule, declared: str | None) -> Schedule:
    """Return the schedule that says itself what the output is, to be kept for other runs; see :func:`output_type`."""
    if declared is None or not isinstance(schedule, ScheduleOfModel):
        return schedule
    return with_prediction_type(schedule, declared)


def check_output(schedule: Schedule, prediction_type: str | None) -> None:
    """Check that an output of this type says something at every level that a schedule visits.

    Raises:
        DDIMError: For epsilon at zero SNR.
    """
    if prediction_type == "epsilon" and visits_zero_snr(schedule):
        raise DDIMError(EPSILON_AT_ZERO_SNR)


def visits_zero_snr(schedule: Schedule) -> bool:
    """Tell whether a step starts from pure noise."""
    return 0.0 in schedule.alpha_bars[:-1]


def check_levels(schedule: Schedule) -> None:
    """Check once that every step of a schedule can be taken, whatever the output is; see :meth:`Schedule.check`.

    Raises:
        DDIMError: For a level outside [0, 1].
    """
    _check_levels(predicting_x0(schedule))


@lru_cache(maxsize=8)
def _check_levels(schedule: Schedule) -> None:
    schedule.check()


def predicting_x0(schedule: Schedule) -> Schedule:
    """Return the schedule for a model that returns x_0, as :attr:`Run.denoise` does."""
    return with_prediction_type(schedule, "sample")


@lru_cache(maxsize=8)
def with_prediction_type(schedule: Schedule, prediction_type: str) -> Schedule:
    """Return the schedule with a prediction type of its own; the same object where nothing changes.

    Kept, because validating a config with a list of betas takes longer than a step: a node that runs again with
    another seed gets the schedule of its last run.
    """
    if type(schedule) is Schedule and schedule.config.prediction_type == prediction_type:
        return schedule
    return Schedule(replace(schedule.config, prediction_type=prediction_type), schedule.plan)
