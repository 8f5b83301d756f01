"""Real digits to invert: scans that the model was not trained on, drawn in random tones and stored in one small file.

``python -m demo.pictures`` writes the file again. Writing needs scikit-learn; reading does not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .data import CLASS_NAMES, IMAGE_SIZE, draw_tones, load_scans, render, stroke_masks

__all__ = ["PER_DIGIT", "held_out_picture", "write_pictures"]

SHEET = Path(__file__).parent / "held_out_digits.png"
PER_DIGIT = 8
SEED = 20


def held_out_picture(digit: int, number: int) -> Tensor:
    """Read a picture of a real digit.

    Args:
        digit: The digit, 0 to 9.
        number: Which of its pictures, 0 to 7.

    Returns:
        (3, 32, 32) float32 in [0, 1].

    Raises:
        ValueError: There is no such picture.
    """
    if digit not in range(len(CLASS_NAMES)) or number not in range(PER_DIGIT):
        raise ValueError(f"there are pictures 0 to {PER_DIGIT - 1} of digits 0 to 9, got {number} of {digit}")
    with Image.open(SHEET) as sheet:
        left, top = number * IMAGE_SIZE, digit * IMAGE_SIZE
        cut = sheet.convert("RGB").crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE))
    return torch.from_numpy(np.asarray(cut, np.float32) / 255.0).permute(2, 0, 1).contiguous()


def write_pictures() -> None:
    """Draw the first held-out scans of each digit: a row per digit, a column per scan."""
    scans = load_scans("held_out")
    generator = torch.Generator().manual_seed(SEED)
    rows = []
    for digit in range(len(CLASS_NAMES)):
        masks = stroke_masks(scans.scans[scans.labels == digit][:PER_DIGIT])
        pictures = render(masks, draw_tones(PER_DIGIT, generator)) / 2 + 0.5
        rows.append(torch.cat(list(pictures), dim=2))
    pixels = (torch.cat(rows, dim=1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    Image.fromarray(pixels.numpy()).save(SHEET, optimize=True)


if __name__ == "__main__":
    write_pictures()
