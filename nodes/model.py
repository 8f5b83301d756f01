"""A schedule put into a MODEL."""

from __future__ import annotations

from typing import Any

from ..ddim import Schedule
from .bridge import with_levels
from .sockets import MODEL, inputs

__all__ = ["DDIMModelSampling"]


class DDIMModelSampling:
    """Gives a MODEL the noise levels and the prediction type of a schedule."""

    CATEGORY = "DDIM/models"
    DESCRIPTION = (
        "Puts a schedule's noise levels (betas, zero SNR) and prediction type into the MODEL, so that stock samplers "
        "and schedulers use them too. Use it where a checkpoint was loaded as the wrong type."
    )
    SEARCH_ALIASES = ["model sampling", "zero snr", "ztsnr", "v-pred", "v prediction", "betas", "ddim"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL with the schedule's noise levels. The one that came in is unchanged.",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": inputs("model", "schedule")}

    def patch(self, model: Any, schedule: Schedule) -> tuple[Any]:
        return (with_levels(model, schedule.noise, schedule.config.prediction_type),)
