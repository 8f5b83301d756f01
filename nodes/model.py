"""Nodes that change a MODEL: DDIM CFG Rescale and DDIM Model Sampling."""

from __future__ import annotations

from functools import partial

from ..ddim import Schedule, rescale_noise_cfg
from .backend import current
from .inputs import MODEL, InputTypes, inputs
from .values import Model

__all__ = ["DDIMCFGRescale", "DDIMModelSampling"]


class DDIMCFGRescale:
    """Classifier-free guidance rescale, for any sampler."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Reduces the contrast that guidance adds (Lin et al. 2024, section 3.4), in the model's own output space. "
        "Works with every sampler and stacks with other patches. With it, leave DDIM Sample's own guidance_rescale at "
        "0."
    )
    SEARCH_ALIASES = ["cfg rescale", "rescale cfg", "guidance rescale", "over-exposure", "zero snr", "ztsnr", "ddim"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("A copy of the MODEL with the rescale.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        kind, options = inputs("guidance_rescale")["guidance_rescale"]
        return {"required": {**inputs("model"), "guidance_rescale": (kind, {**options, "default": 0.7})}}

    def patch(self, model: Model, guidance_rescale: float) -> tuple[Model]:
        return (current().with_output_patch(model, partial(rescale_noise_cfg, guidance_rescale=guidance_rescale)),)


class DDIMModelSampling:
    """Gives a MODEL the noise levels and the prediction type of a schedule."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Puts a schedule's noise levels (betas, zero SNR) and prediction type into the MODEL, so that stock samplers "
        "and schedulers use them too. Use it if a checkpoint was loaded as the wrong type. Not for flow models, whose "
        "shift ModelSamplingSD3 and ModelSamplingFlux set."
    )
    SEARCH_ALIASES = ["model sampling", "zero snr", "ztsnr", "v-pred", "v prediction", "betas", "ddim"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("A copy of the MODEL with the schedule's noise levels.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {"required": inputs("model", "schedule")}

    def patch(self, model: Model, schedule: Schedule) -> tuple[Model]:
        return (current().with_levels(model, schedule.noise, schedule.config.prediction_type),)
