"""Pictures of the demo model, and figures made of rows of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from demo import DemoModel, load_demo_model, load_emoji_model
from demo.data import draw_tones, load_scans, render, stroke_masks
from demo.draw import draw_digits, initial_noise, make_scheduler
from demo.emoji.draw import draw_emoji

__all__ = ["INK", "TEXT", "WIDTH", "conditional", "demo", "digits", "emoji", "real_digits", "sheet", "stacked"]

WIDTH = 606  # of a picture on a help page, which is 300 wide there: six pictures of 32 pixels, three times as large
TEXT, GAP, COLUMNS = 24, 6, 6
INK = (128, 128, 128)  # readable on white and on black


@lru_cache(maxsize=1)
def demo() -> DemoModel:
    """Load the demo model once."""
    return load_demo_model()


def digits(
    labels: Sequence[int], *, steps: int = 20, seed: int = 3, zero_snr_fix: bool = True, **options: Any
) -> Tensor:
    """Draw pictures with the demo model, (N, 3, 32, 32)."""
    scheduler = make_scheduler(demo(), steps, zero_snr_fix=zero_snr_fix)
    return draw_digits(demo(), torch.tensor(labels), initial_noise(len(labels), seed), scheduler, **options)


def emoji(prompts: Sequence[str], *, steps: int = 20, seed: int = 5) -> Tensor:
    """Draw pictures with the emoji model, (N, 3, 32, 32)."""
    model = load_emoji_model()
    return draw_emoji(model, prompts, initial_noise(len(prompts), seed), make_scheduler(model, steps))


def conditional(labels: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the demo model with a prompt and no guidance, in the form that the core calls."""
    rows = torch.tensor(labels)

    def model(x: Tensor, t: Tensor) -> Tensor:
        with torch.inference_mode():
            return demo().network(x, t.expand(len(x)), rows)

    return model


def real_digits(count: int = 6) -> tuple[Tensor, list[int]]:
    """Render scanned digits that the demo model was not trained on, and return them with their labels."""
    scans = load_scans("held_out")
    tones = draw_tones(count, torch.Generator().manual_seed(2))
    return render(stroke_masks(scans.scans[:count]), tones), scans.labels[:count].tolist()


def sheet(
    rows: Mapping[str, Tensor], *, width: int = WIDTH, most: int = COLUMNS, above: Sequence[str] = ()
) -> Image.Image:
    """Draw rows of pictures on a transparent ground, each below its label.

    Args:
        rows: Pictures (N, 3, H, W) in [-1, 1] by label; an empty label takes no room.
        width: Width of the sheet in pixels.
        most: The most pictures of a line; if there are more in a row, it takes several lines.
        above: A word above each picture of the first row.

    Returns:
        The sheet, RGBA.
    """
    font = ImageFont.load_default(TEXT)
    parts: list[Image.Image] = []
    for row, (label, pictures) in enumerate(rows.items()):
        if label.strip():
            parts.append(_words({0: label}, width, font))
        lines = math.ceil(len(pictures) / most)
        columns = math.ceil(len(pictures) / lines)
        side = (width - GAP * (columns - 1)) // columns
        if above and row == 0:
            parts.append(_words({i * (side + GAP): word for i, word in enumerate(above)}, width, font))
        parts += [_line(pictures[i * columns : (i + 1) * columns], side, width) for i in range(lines)]
    return stacked(parts)


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Put pictures below each other."""
    drawn = Image.new("RGBA", (max(part.width for part in parts), sum(part.height for part in parts) - GAP))
    top = 0
    for part in parts:
        drawn.paste(part, (0, top))
        top += part.height
    return drawn


def _words(words: Mapping[int, str], width: int, font: Any) -> Image.Image:
    drawn = Image.new("RGBA", (width, round(TEXT * 1.5)))
    pen = ImageDraw.Draw(drawn)
    for left, word in words.items():
        pen.text((left, drawn.height / 2), word, INK, font, anchor="lm")
    return drawn


def _line(pictures: Tensor, side: int, width: int) -> Image.Image:
    """Enlarge pictures without smoothing, and put them side by side with a gap."""
    height = round(side * pictures.shape[-2] / pictures.shape[-1])
    drawn = Image.new("RGBA", (width, height + GAP))
    levels = ((pictures.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    for column, picture in enumerate(levels.permute(0, 2, 3, 1).numpy()):
        large = Image.fromarray(picture).resize((side, height), Image.Resampling.NEAREST)
        drawn.paste(large, (column * (side + GAP), 0))
    return drawn
