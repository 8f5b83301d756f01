"""A complete, exact DDIM scheduler for torch, with diffusers' API and its bugs fixed.

    from ddim import DDIMScheduler, sample

The public names are all here; everything else is private.
"""

from .errors import DDIMError
from .guidance.cfg import (
    GUIDANCE_MODES,
    CFGPlusPlus,
    Guided,
    check_lambda,
    guide,
    guide_plus_plus,
    guided_model,
    rescale_noise_cfg,
)
from .guidance.edit import edit_guide, edit_mask
from .guidance.proximal import PROXIMAL_OPERATORS, proximal_guide, proximal_guided_model
from .interpolation import slerp, slerp_path
from .inversion.api import INVERSION_METHODS, invert, model_calls, reconstruct
from .inversion.noise_files import MAX_FILE_BYTES, load_noise, save_noise
from .inversion.result import Inversion
from .inversion.stochastic import NOISE_PATHS
from .noise.keyed import keyed_noise
from .noise.recorded import VarianceNoise
from .plan import Schedule, make_schedule
from .sampling.cuda_graph import CapturedSample, capture_sample
from .sampling.fit import FIT_METHODS, fit_timesteps
from .sampling.guidance_interval import INTERVAL_UNITS, GuidanceInterval
from .sampling.loop import sample
from .sampling.parallel import ParallelSample, sample_parallel
from .sampling.prediction_check import PredictionCheck, find_prediction_type
from .schedule.betas import BETA_SCHEDULES, betas_from_alpha_bar
from .schedule.flow_settings import FlowConfig
from .schedule.flow_sigmas import FLOW_SPACINGS
from .schedule.noise_levels import NoiseSchedule, make_noise_schedule, rescale_zero_terminal_snr
from .schedule.settings import SchedulerConfig
from .schedule.sigma_settings import SIGMA_PREDICTION_TYPES, SigmaConfig
from .schedule.timesteps import END, TIMESTEP_SPACINGS, TimestepPlan, make_plan, plan_from_timesteps
from .scheduler.config.importing import ConfigReport, MappedKey, import_config
from .scheduler.ddim import DDIMScheduler
from .scheduler.flow import DDIMFlowScheduler
from .scheduler.inverse import DDIMInverseScheduler
from .scheduler.output import DDIMSchedulerOutput
from .step.checks import PREDICTION_TYPES
from .step.equations import SIGMA_HAT
from .step.levels import FLOW, VARIANCE_EXPLODING, VARIANCE_PRESERVING, Level
from .step.predictions import output_from_x0, predict_epsilon, predict_x0
from .version import __version__

__all__ = [
    "BETA_SCHEDULES",
    "END",
    "FIT_METHODS",
    "FLOW",
    "FLOW_SPACINGS",
    "GUIDANCE_MODES",
    "INTERVAL_UNITS",
    "INVERSION_METHODS",
    "MAX_FILE_BYTES",
    "NOISE_PATHS",
    "PREDICTION_TYPES",
    "PROXIMAL_OPERATORS",
    "SIGMA_HAT",
    "SIGMA_PREDICTION_TYPES",
    "TIMESTEP_SPACINGS",
    "VARIANCE_EXPLODING",
    "VARIANCE_PRESERVING",
    "CFGPlusPlus",
    "CapturedSample",
    "ConfigReport",
    "DDIMError",
    "DDIMFlowScheduler",
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "DDIMSchedulerOutput",
    "Inversion",
    "FlowConfig",
    "GuidanceInterval",
    "Guided",
    "Level",
    "MappedKey",
    "NoiseSchedule",
    "ParallelSample",
    "PredictionCheck",
    "Schedule",
    "SchedulerConfig",
    "SigmaConfig",
    "TimestepPlan",
    "VarianceNoise",
    "__version__",
    "betas_from_alpha_bar",
    "capture_sample",
    "edit_guide",
    "edit_mask",
    "find_prediction_type",
    "fit_timesteps",
    "check_lambda",
    "guide",
    "guide_plus_plus",
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
    "proximal_guide",
    "proximal_guided_model",
    "reconstruct",
    "rescale_noise_cfg",
    "rescale_zero_terminal_snr",
    "sample",
    "sample_parallel",
    "save_noise",
    "slerp",
    "slerp_path",
]
