"""The nodes of the pack: one explicit list. An id, once released, never changes."""

from __future__ import annotations

from .cfg_rescale import DDIMCFGRescale
from .demo import DDIMDemoDecode, DDIMDemoEncode, DDIMDemoLatent, DDIMDemoModel, DDIMDemoPrompt
from .model_sampling import DDIMModelSampling
from .routes import register
from .sample import DDIMSample
from .sampler import DDIMSampler
from .schedule import DDIMSchedule
from .schedule_from_config import DDIMScheduleFromConfig

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

NODE_CLASS_MAPPINGS: dict[str, type] = {
    "DDIMSchedule": DDIMSchedule,
    "DDIMScheduleFromConfig": DDIMScheduleFromConfig,
    "DDIMModelSampling": DDIMModelSampling,
    "DDIMSampler": DDIMSampler,
    "DDIMSample": DDIMSample,
    "DDIMCFGRescale": DDIMCFGRescale,
    "DDIMDemoModel": DDIMDemoModel,
    "DDIMDemoPrompt": DDIMDemoPrompt,
    "DDIMDemoLatent": DDIMDemoLatent,
    "DDIMDemoEncode": DDIMDemoEncode,
    "DDIMDemoDecode": DDIMDemoDecode,
}

NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "DDIMSchedule": "DDIM Schedule",
    "DDIMScheduleFromConfig": "DDIM Schedule from Config",
    "DDIMModelSampling": "DDIM Model Sampling",
    "DDIMSampler": "DDIM Sampler",
    "DDIMSample": "DDIM Sample",
    "DDIMCFGRescale": "DDIM CFG Rescale",
    "DDIMDemoModel": "DDIM Demo Model",
    "DDIMDemoPrompt": "DDIM Demo Prompt",
    "DDIMDemoLatent": "DDIM Demo Latent",
    "DDIMDemoEncode": "DDIM Demo Encode",
    "DDIMDemoDecode": "DDIM Demo Decode",
}

register(NODE_CLASS_MAPPINGS)
