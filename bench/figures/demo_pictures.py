"""The pictures that `bench.demo_quality` draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from demo.judge import mean_brightness

SCALE = 2
GAP = 2
LABEL_WIDTH = 120
TEXT_HEIGHT = 14


def save_steps_picture(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Save one row of pictures per step count, with the count beside it.

    Args:
        path: PNG file.
        rows: Pictures (N, 3, 32, 32) in [-1, 1] by step count.
    """
    _save(path, {f"{steps} steps": _row(pictures) for steps, pictures in rows.items()})


def save_brightness_picture(path: Path, fixed: Tensor, usual: Tensor, data: Tensor, columns: int = 16) -> None:
    """Save pictures at the same quantiles of mean brightness from the data and from samples with and without the fix.

    Args:
        path: PNG file.
        fixed: (N, 3, 32, 32), trailing spacing and zero terminal SNR.
        usual: (N, 3, 32, 32), without either.
        data: (N, 3, 32, 32).
        columns: Number of quantiles, from the darkest to the brightest.
    """
    rows = {"real": data, "with the fix": fixed, "without": usual}
    _save(path, {name: _row(_quantiles(pictures, columns)) for name, pictures in rows.items()})


def _quantiles(pictures: Tensor, count: int) -> Tensor:
    order = mean_brightness(pictures).argsort()
    at = torch.linspace(0, len(order) - 1, count).round().long()
    return pictures[order[at]]


def _row(pictures: Tensor) -> Image.Image:
    """Enlarge pictures and put them side by side with a gap."""
    size = pictures.shape[-1] * SCALE + GAP
    row = Image.new("RGB", (size * len(pictures) - GAP, size - GAP), "white")
    levels = ((pictures.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    for column, picture in enumerate(levels.permute(0, 2, 3, 1).numpy()):
        enlarged = Image.fromarray(picture).resize((size - GAP, size - GAP), Image.Resampling.BICUBIC)
        row.paste(enlarged, (column * size, 0))
    return row


def _save(path: Path, rows: Mapping[str, Image.Image]) -> None:
    """Stack rows, with their names on the left, and save them as one picture."""
    height = max(row.height for row in rows.values()) + GAP
    sheet = Image.new("RGB", (LABEL_WIDTH + max(row.width for row in rows.values()), height * len(rows) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (name, row) in enumerate(rows.items()):
        sheet.paste(row, (LABEL_WIDTH, index * height))
        pen.text((4, index * height + (height - TEXT_HEIGHT) // 2), name, fill="black", font=ImageFont.load_default(16))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
