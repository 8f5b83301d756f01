"""The nodes that make a schedule, and the planning that other nodes share with them."""

from .fit import DDIMFitSteps
from .planning import plan_of_model, with_model_levels
from .presets import presets_answer
from .schedule import DDIMSchedule
from .schedule_from_config import DDIMScheduleFromConfig

__all__ = [
    "DDIMFitSteps",
    "DDIMSchedule",
    "DDIMScheduleFromConfig",
    "plan_of_model",
    "presets_answer",
    "with_model_levels",
]
