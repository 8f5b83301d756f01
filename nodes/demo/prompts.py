"""Prompts of the demo models: digits, and words."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...ddim import DDIMError
from ..inputs import CONDITIONING, InputTypes, text
from ..values import Conditioning
from .shared import CATEGORY, SEPARATORS, digits_of, lines_of

__all__ = ["DDIMDemoPrompt", "DDIMDemoTextPrompt"]

LABELS = 11  # ten digits, and "no class" for guidance
ONE_PROMPT = "tiger face in blue"


class DDIMDemoPrompt:
    """The digit that each image of a batch should show."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The prompt of the demo model of digits: one digit for each image of the batch, e.g. 0123456789. If the batch "
        "is larger, the digits repeat. Empty means no digit in particular: the negative prompt for guidance."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "prompt", "class"]
    RETURN_TYPES = (CONDITIONING,)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("One row of label weights per digit.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        tooltip = f"Digits 0 to 9, one per image; {SEPARATORS}. Empty: no digit in particular."
        return {"required": {}, "optional": {"digits": text("0123456789", tooltip)}}

    def encode(self, digits: str = "0123456789") -> tuple[Conditioning]:
        labels = digits_of(digits) or [LABELS - 1]
        rows = F.one_hot(torch.tensor(labels), LABELS).float()
        return ([[rows[:, None], {}]],)


class DDIMDemoTextPrompt:
    """What each image of a batch should show, in words."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The prompt of the demo model of emoji: names of emoji such as tiger face, one per line, one line for each "
        "image of the batch. Add a tint: tiger face in blue. Begin with any for a surprise: any face. If the batch is "
        "larger, the lines repeat. Empty means nothing in particular: the negative prompt for guidance."
    )
    SEARCH_ALIASES = ["ddim demo", "emoji", "prompt", "words", "text encode"]
    RETURN_TYPES = (CONDITIONING,)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("One row per line, from the model's own text encoder.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        tooltip = (
            "One line per image: the Unicode name of an emoji, then in and a tint if you like: red, orange, yellow, "
            "green, blue, purple or pink. Empty: nothing in particular."
        )
        return {"required": {}, "optional": {"prompts": text(ONE_PROMPT, tooltip, multiline=True)}}

    def encode(self, prompts: str = ONE_PROMPT) -> tuple[Conditioning]:
        from ...demo import load_emoji_model  # here, so that importing the pack is fast

        try:
            rows = load_emoji_model().encode(lines_of(prompts) or [""])
        except ValueError as error:
            raise DDIMError(str(error)) from error
        return ([[rows[:, None], {}]],)
