"""Draw the pictures of the emoji model for README, docs/demo-model.md and the help pages."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bench.figures.strips import sheet
from demo import EmojiModel, held_out_emoji
from demo.draw import initial_noise, make_scheduler
from demo.emoji.draw import draw_emoji, edit_emoji
from demo.emoji.prompts import tinted

__all__ = ["edit_by_words", "from_words", "save_emoji_pictures"]

WIDTH, STEPS, SEED = 902, 20, 5
NAMES = (
    "tiger face", "octopus", "rocket", "strawberry", "sauropod", "robot face", "cactus", "guitar", "owl", "watermelon",
)  # fmt: skip
TINTS = (None, "blue", "pink")
EDITS = (
    ("cow face", "cow face in blue"),
    ("orange heart", "orange heart in purple"),
    ("green book", "green book in red"),
    ("white sun behind cloud with rain", "white sun behind cloud with rain in green"),
    ("rabbit face", "rabbit face in pink"),
    ("large purple circle", "large purple circle in orange"),
    ("full moon with face", "full moon with face in blue"),
    ("grinning face with star eyes", "grinning face with star eyes in pink"),
)


def from_words(model: EmojiModel) -> dict[str, Tensor]:
    """Draw eight emoji in their own colours and in tints, from the same noise."""
    noise, scheduler = initial_noise(len(NAMES), SEED), make_scheduler(model, STEPS)
    rows = {}
    for tint in TINTS:
        label = ", ".join(NAMES[:6]) + ", ..." if tint is None else f"... in {tint}"
        rows[label] = draw_emoji(model, [tinted(name, tint) for name in NAMES], noise, scheduler)
    return rows


def edit_by_words(model: EmojiModel) -> dict[str, Tensor]:
    """Invert held-out pictures, and sample them with the prompt that describes them and with another one."""
    pictures = torch.stack([held_out_emoji(source) for source, _ in EDITS]) * 2 - 1
    scheduler, sources = make_scheduler(model, STEPS), [source for source, _ in EDITS]
    back = edit_emoji(model, pictures, sources, sources, scheduler)
    edited = edit_emoji(model, pictures, sources, [target for _, target in EDITS], scheduler)
    return {
        "pictures that the model has not seen, inverted and back again": back,
        "the same, sampled with a tint in the prompt": edited,
    }


def drawn(rows: dict[str, Tensor]) -> Image.Image:
    """Draw rows for the width of README."""
    return sheet(rows, width=WIDTH, most=len(NAMES)).quantize(256, Image.Quantize.FASTOCTREE)


def save_emoji_pictures(folder: Path, model: EmojiModel) -> None:
    """Save the two pictures of README."""
    for name, rows in (("emoji", from_words(model)), ("emoji_edit", edit_by_words(model))):
        drawn(rows).save(folder / f"{name}.png", optimize=True)
