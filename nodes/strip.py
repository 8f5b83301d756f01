"""DDIM Step Strip: the predicted clean image of every step as pictures."""

from __future__ import annotations

from torch import Tensor

from .editor import RunSteps, lay_out
from .inputs import DDIM_STEPS, IMAGE, InputTypes, integer, socket

__all__ = ["DDIMStepStrip"]


class DDIMStepStrip:
    """The steps of a run side by side, and as a film."""

    CATEGORY = "DDIM/sampling"
    DESCRIPTION = (
        "Shows what DDIM KSampler predicted in each step: the clean image as it was seen from there. One sheet of all "
        "steps to save or compare, and the same as a batch of images for a film. The pictures are as small "
        "as in the step replay, so the run takes no longer."
    )
    SEARCH_ALIASES = ["step strip", "progress", "intermediate", "x0", "predicted", "preview", "film", "contact sheet"]
    RETURN_TYPES = (IMAGE, IMAGE)
    RETURN_NAMES = ("strip", "frames")
    OUTPUT_TOOLTIPS = (
        "All steps on one sheet, from the first in the upper left corner.",
        "One image for each step, as a batch.",
    )
    FUNCTION = "show"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {
            "required": {"run_steps": socket(DDIM_STEPS, "The steps of a run; from DDIM KSampler.")},
            "optional": {
                "columns": integer(8, 1, 48, "How many steps in a row of the strip."),
                "image_number": integer(
                    0, 0, 4096, "Which image of the batch, counted from 1; 0 shows up to 16 of them in each frame."
                ),
            },
        }

    def show(self, run_steps: RunSteps, columns: int = 8, image_number: int = 0) -> tuple[Tensor, Tensor]:
        frames = run_steps.pictures(image_number).float() / 255
        return lay_out(frames, columns)[None], frames
