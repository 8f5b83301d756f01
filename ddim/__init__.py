"""DDIM, all of it and exactly: a scheduler core on torch, with diffusers' API and its defects mended.

    from ddim import DDIMScheduler, sample

Everything public is here; the modules are the rooms behind it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .beta_schedules import BETA_SCHEDULES, betas_from_alpha_bar
from .coefficients import PREDICTION_TYPES, SIGMA_HAT
from .config import SchedulerConfig
from .config_import import ConfigReport, MappedKey, import_config
from .errors import DDIMError
from .guidance import Guided, guide, guided_model, rescale_noise_cfg
from .inverse_scheduler import DDIMInverseScheduler
from .noise import keyed_noise
from .noise_schedule import NoiseSchedule, make_noise_schedule, rescale_zero_terminal_snr
from .output import DDIMSchedulerOutput
from .predictions import output_from_x0, predict_epsilon, predict_x0
from .sampling import sample
from .schedule import Schedule, make_schedule
from .scheduler import DDIMScheduler
from .timestep_plan import END, TIMESTEP_SPACINGS, TimestepPlan, make_plan, plan_from_timesteps
from .variance_noise import VarianceNoise
from .version import __version__

if TYPE_CHECKING:
    from .graph import CapturedSample, capture_sample
    from .interpolation import slerp, slerp_path
    from .inversion import INVERSION_METHODS, NOISE_PATHS, Inversion, invert, model_calls, reconstruct
    from .parallel import ParallelSample, sample_parallel
    from .storage import MAX_FILE_BYTES, load_noise, save_noise

__all__ = [
    "BETA_SCHEDULES",
    "END",
    "INVERSION_METHODS",
    "MAX_FILE_BYTES",
    "NOISE_PATHS",
    "PREDICTION_TYPES",
    "SIGMA_HAT",
    "TIMESTEP_SPACINGS",
    "CapturedSample",
    "ConfigReport",
    "DDIMError",
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "DDIMSchedulerOutput",
    "Inversion",
    "Guided",
    "MappedKey",
    "NoiseSchedule",
    "ParallelSample",
    "Schedule",
    "SchedulerConfig",
    "TimestepPlan",
    "VarianceNoise",
    "__version__",
    "betas_from_alpha_bar",
    "capture_sample",
    "guide",
    "guided_model",
    "import_config",
    "invert",
    "keyed_noise",
    "load_noise",
    "make_noise_schedule",
    "make_plan",
    "make_schedule",
    "model_calls",
    "output_from_x0",
    "plan_from_timesteps",
    "predict_epsilon",
    "predict_x0",
    "reconstruct",
    "rescale_noise_cfg",
    "rescale_zero_terminal_snr",
    "sample",
    "sample_parallel",
    "save_noise",
    "slerp",
    "slerp_path",
]

_LATER = {  # a fifth of the import time, spared to those who only sample
    "graph": ("CapturedSample", "capture_sample"),
    "interpolation": ("slerp", "slerp_path"),
    "inversion": ("INVERSION_METHODS", "NOISE_PATHS", "Inversion", "invert", "model_calls", "reconstruct"),
    "parallel": ("ParallelSample", "sample_parallel"),
    "storage": ("MAX_FILE_BYTES", "load_noise", "save_noise"),
}


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for."""
    for module, names in _LATER.items():
        if name == module:
            return import_module(f".{module}", __name__)
        if name in names:
            return globals().setdefault(name, getattr(import_module(f".{module}", __name__), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
