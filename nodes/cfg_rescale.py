"""Guidance rescale for any sampler."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..ddim import rescale_noise_cfg
from .bridge import with_output_patch
from .sockets import MODEL, inputs

__all__ = ["DDIMCFGRescale"]


class DDIMCFGRescale:
    """Classifier-free guidance rescale as a patch of the MODEL."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Brings the contrast that guidance adds back towards the prompt's own (Lin et al. 2024, section 3.4), in the "
        "model's own output space. Works with every sampler and stacks with other patches. Leave DDIM Sample's own "
        "guidance_rescale at 0 then."
    )
    SEARCH_ALIASES = ["cfg rescale", "rescale cfg", "guidance rescale", "over-exposure", "zero snr", "ztsnr", "ddim"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL with the rescale. The one that came in is unchanged.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        kind, options = inputs("guidance_rescale")["guidance_rescale"]
        return {"required": {**inputs("model"), "guidance_rescale": (kind, {**options, "default": 0.7})}}

    def patch(self, model: Any, guidance_rescale: float) -> tuple[Any]:
        return (with_output_patch(model, partial(rescale_noise_cfg, guidance_rescale=guidance_rescale)),)
