"""DDIM as a SAMPLER for ComfyUI's custom sampling nodes."""

from __future__ import annotations

from typing import Any

from ..ddim import DDIMError
from .bridge import make_sampler
from .sockets import SAMPLER, SamplerSettings, VarianceNoise, inputs

__all__ = ["DDIMSampler"]


class DDIMSampler:
    """DDIM with all its options for SamplerCustom and SamplerCustomAdvanced."""

    CATEGORY = "DDIM/sampling"
    DESCRIPTION = (
        "DDIM for SamplerCustom and SamplerCustomAdvanced: steps over whatever SIGMAS it is given, from DDIM Schedule "
        "or from any stock scheduler, with eta, clipping, and noise that is the same for an image alone and in a batch."
    )
    SEARCH_ALIASES = ["ddim", "eta", "sampler", "variance noise", "dynamic thresholding", "clip sample", "ddpm"]
    RETURN_TYPES = (SAMPLER,)
    RETURN_NAMES = ("sampler",)
    OUTPUT_TOOLTIPS = ("For SamplerCustom, SamplerCustomAdvanced and other nodes that take a SAMPLER.",)
    FUNCTION = "build"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        processing = inputs("x0_processing")["x0_processing"]
        return {
            "required": {
                **inputs("eta"),
                "x0_processing": (processing[0][1:], {**processing[1], "default": "none"}),
                **inputs(
                    "clip_sample_range",
                    "dynamic_thresholding_ratio",
                    "sample_max_value",
                    "use_clipped_model_output",
                    "noise_mode",
                ),
            },
            "optional": inputs("variance_noise"),
        }

    def build(
        self,
        eta: float,
        x0_processing: str,
        clip_sample_range: float,
        dynamic_thresholding_ratio: float,
        sample_max_value: float,
        use_clipped_model_output: bool,
        noise_mode: str,
        variance_noise: VarianceNoise | None = None,
    ) -> tuple[Any]:
        if variance_noise is not None and variance_noise.noise is None:
            raise DDIMError(
                "this inversion recorded no noise, and a SAMPLER has no use for it: sample its latent at eta 0 without "
                "variance_noise, or, for method edict, with DDIM Sample"
            )
        settings = SamplerSettings(
            eta,
            x0_processing,
            clip_sample_range,
            dynamic_thresholding_ratio,
            sample_max_value,
            use_clipped_model_output,
            noise_mode,
            variance_noise,
        )
        return (make_sampler(settings),)
