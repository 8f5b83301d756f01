"""A dozen emoji that the model has not seen, to invert and edit.

Every word of their names is also in the name of another picture, so the model can read a prompt for them.
``python -m demo.emoji.pictures`` writes their file again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .prompts import split_tint
from .tints import in_tint

__all__ = ["HELD_OUT", "IMAGE_SIZE", "SHEET", "held_out_emoji"]

HELD_OUT = (
    "closed umbrella",
    "cow face",
    "full moon with face",
    "green book",
    "grinning face with star eyes",
    "large purple circle",
    "older woman",
    "oncoming taxi",
    "orange heart",
    "rabbit face",
    "smiling cat face with heart-shaped eyes",
    "white sun behind cloud with rain",
)
IMAGE_SIZE = 32
SHEET = Path(__file__).parents[1] / "held_out_emoji.png"


def held_out_emoji(prompt: str) -> Tensor:
    """Read the picture of an emoji that was held out from the training.

    Args:
        prompt: One of `HELD_OUT`, with or without a tint: "cow face in blue".

    Returns:
        (3, 32, 32) float32 in [0, 1].

    Raises:
        ValueError: There is no such picture.
    """
    name, tint = split_tint(prompt)
    if name not in HELD_OUT:
        raise ValueError(
            f"a held-out emoji must be one of {', '.join(HELD_OUT)}, each with or without a tint, got {prompt!r:.60}"
        )
    left = HELD_OUT.index(name) * IMAGE_SIZE
    with Image.open(SHEET) as sheet:
        cut = sheet.convert("RGB").crop((left, 0, left + IMAGE_SIZE, IMAGE_SIZE))
    picture = torch.from_numpy(np.asarray(cut, np.float32) / 255.0).permute(2, 0, 1).contiguous()
    return picture if tint is None else in_tint(picture, tint)
