"""The nodes of the pack, as one explicit list. An id, once released, never changes."""

from __future__ import annotations

from .demo import (
    DDIMDemoDecode,
    DDIMDemoEmoji,
    DDIMDemoEncode,
    DDIMDemoLatent,
    DDIMDemoModel,
    DDIMDemoPicture,
    DDIMDemoPrompt,
    DDIMDemoTextPrompt,
)
from .editor import register_routes
from .inputs import Node
from .inversion import DDIMInterpolate, DDIMInvert, DDIMLoadNoise, DDIMSaveNoise
from .model import DDIMCFGRescale, DDIMCheckModel, DDIMEditGuidance, DDIMModelSampling
from .sample import DDIMSample, DDIMSampler
from .schedules import DDIMFitSteps, DDIMSchedule, DDIMScheduleFromConfig, presets_answer
from .strip import DDIMStepStrip

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

NODE_CLASS_MAPPINGS: dict[str, type[Node]] = {
    "DDIMSchedule": DDIMSchedule,
    "DDIMScheduleFromConfig": DDIMScheduleFromConfig,
    "DDIMFitSteps": DDIMFitSteps,
    "DDIMModelSampling": DDIMModelSampling,
    "DDIMCheckModel": DDIMCheckModel,
    "DDIMSampler": DDIMSampler,
    "DDIMSample": DDIMSample,
    "DDIMStepStrip": DDIMStepStrip,
    "DDIMCFGRescale": DDIMCFGRescale,
    "DDIMEditGuidance": DDIMEditGuidance,
    "DDIMInvert": DDIMInvert,
    "DDIMSaveNoise": DDIMSaveNoise,
    "DDIMLoadNoise": DDIMLoadNoise,
    "DDIMInterpolate": DDIMInterpolate,
    "DDIMDemoModel": DDIMDemoModel,
    "DDIMDemoPrompt": DDIMDemoPrompt,
    "DDIMDemoTextPrompt": DDIMDemoTextPrompt,
    "DDIMDemoLatent": DDIMDemoLatent,
    "DDIMDemoPicture": DDIMDemoPicture,
    "DDIMDemoEmoji": DDIMDemoEmoji,
    "DDIMDemoEncode": DDIMDemoEncode,
    "DDIMDemoDecode": DDIMDemoDecode,
}

NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "DDIMSchedule": "DDIM Schedule",
    "DDIMScheduleFromConfig": "DDIM Schedule from Config",
    "DDIMFitSteps": "DDIM Fit Steps",
    "DDIMModelSampling": "DDIM Model Sampling",
    "DDIMCheckModel": "DDIM Check Model",
    "DDIMSampler": "DDIM Sampler (custom sampling)",
    "DDIMSample": "DDIM KSampler",
    "DDIMStepStrip": "DDIM Step Strip",
    "DDIMCFGRescale": "DDIM CFG Rescale",
    "DDIMEditGuidance": "DDIM Edit Guidance",
    "DDIMInvert": "DDIM Invert",
    "DDIMSaveNoise": "DDIM Save Noise",
    "DDIMLoadNoise": "DDIM Load Noise",
    "DDIMInterpolate": "DDIM Interpolate",
    "DDIMDemoModel": "DDIM Demo Model",
    "DDIMDemoPrompt": "DDIM Demo Prompt",
    "DDIMDemoTextPrompt": "DDIM Demo Text Prompt",
    "DDIMDemoLatent": "DDIM Demo Latent",
    "DDIMDemoPicture": "DDIM Demo Picture",
    "DDIMDemoEmoji": "DDIM Demo Emoji",
    "DDIMDemoEncode": "DDIM Demo Encode",
    "DDIMDemoDecode": "DDIM Demo Decode",
}

register_routes(NODE_CLASS_MAPPINGS, presets_answer())
