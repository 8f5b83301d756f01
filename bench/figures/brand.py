"""Draw the icon and the banner that the registry of ComfyUI shows: ``python -m bench.figures.brand``.

Both show what the pack does: one picture on its way from noise, at levels that the core computes.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddim import make_schedule

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
ICON = 400
BANNER = (1680, 720)  # 21:9
TIMESTEPS = (999, 580, 360, 170)  # of the first four pictures of the banner
FINER = 4  # drawn larger and reduced, for smooth edges
NIGHT, LINE, PALE, WHITE = (16, 19, 33), (96, 108, 150), (168, 178, 212), (244, 246, 255)
LIGHT, MIDDLE, SHADE = (255, 214, 102), (239, 71, 111), (92, 36, 176)


def sphere(size: int) -> Tensor:
    """A ball in the light that comes from the upper right.

    Returns:
        (3, size, size) in [-1, 1].
    """
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    colours = torch.tensor([LIGHT, MIDDLE, SHADE], dtype=torch.float32) / 127.5 - 1
    part = (((x - 0.4) ** 2 + (y + 0.45) ** 2).sqrt() * 1.25).clamp(0, 2)
    low = part.floor().clamp(0, 1).long()
    mix = (part - low)[..., None]
    return (colours[low] * (1 - mix) + colours[low + 1] * mix).permute(2, 0, 1)


def noised(picture: Tensor, alphas_bar: Tensor, seed: int) -> Tensor:
    """The picture with noise, sqrt(a) x + sqrt(1 - a) z, at a level for each pixel or for all.

    The noise is more grey than coloured and softer than standard noise, or else it would shout down the picture.
    """
    generator = torch.Generator().manual_seed(seed)
    grey, colour = torch.randn(picture[:1].shape, generator=generator), torch.randn(picture.shape, generator=generator)
    tint = torch.tensor([-0.25, -0.2, 0.1])[:, None, None]
    return alphas_bar.sqrt() * picture + (1 - alphas_bar).sqrt() * (0.42 * grey + 0.12 * colour + tint)


def draw_ball(draw: ImageDraw.ImageDraw, picture: Tensor, corner: tuple[float, float], side: float) -> None:
    """Draw the pixels of a picture (3, N, N) that lie in its circle, as tiles with round corners and a gap between."""
    levels = ((picture + 1) * 127.5).round().clamp(0, 255).int()
    cells = picture.shape[-1]
    pixel = side / cells
    gap = pixel * 0.05
    for row in range(cells):
        for column in range(cells):
            if math.hypot(row + 0.5 - cells / 2, column + 0.5 - cells / 2) > cells / 2 + 0.15:
                continue
            left, top = corner[0] + column * pixel, corner[1] + row * pixel
            box = (left + gap, top + gap, left + pixel - gap, top + pixel - gap)
            draw.rounded_rectangle(box, radius=pixel * 0.22, fill=tuple(levels[:, row, column].tolist()))


def icon() -> Image.Image:
    """The ball, from noise on the left to the finished picture on the right."""
    cells, size = 11, ICON * FINER
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, size - 1, size - 1), radius=size * 0.2, fill=NIGHT)
    alphas_bar = torch.linspace(-0.25, 1.5, cells).clamp(0, 1).expand(cells, cells)
    draw_ball(draw, noised(sphere(cells), alphas_bar, seed=5), (size * 0.1, size * 0.1), size * 0.8)
    return image.resize((ICON, ICON), Image.Resampling.LANCZOS)


def draw_jump(draw: ImageDraw.ImageDraw, start: float, end: float, base: float, rise: float) -> None:
    """Draw an arc from one picture to the next, with an arrowhead at its end."""
    width = rise * 0.12
    draw.arc((start, base - rise, end, base + rise), 180, 352, fill=LINE, width=int(width))
    head = width * 2
    draw.polygon([(end, base + head), (end - head, base - head), (end + head, base - head)], fill=LINE)


def banner() -> Image.Image:
    """The name, and five pictures of one run with the jumps between them."""
    width, height = (side * FINER // 2 for side in BANNER)
    image = Image.new("RGB", (width, height), NIGHT)
    draw = ImageDraw.Draw(image)
    alphas_bar = make_schedule(5).scheduler().alphas_cumprod
    levels = [float(alphas_bar[timestep]) for timestep in TIMESTEPS] + [1.0]
    side, top = width * 0.16, height * 0.5
    lefts = [width * 0.06 + i * (width * 0.88 - side) / 4 for i in range(5)]
    for left, level in zip(lefts, levels, strict=True):
        draw_ball(draw, noised(sphere(15), torch.tensor(level), seed=7), (left, top), side)
    for first, second in zip(lefts, lefts[1:], strict=False):
        draw_jump(draw, first + side * 0.62, second + side * 0.38, top - height * 0.035, height * 0.06)
    bold, plain = (font_manager.findfont(f"DejaVu Sans:{style}") for style in ("bold", "regular"))
    draw.text((width * 0.055, height * 0.1), "DDIM", WHITE, ImageFont.truetype(bold, int(height * 0.2)))
    words = "complete and exact\nsampling and inversion for ComfyUI"
    at = (width * 0.40, height * 0.135)
    draw.multiline_text(at, words, PALE, ImageFont.truetype(plain, int(height * 0.064)), spacing=height * 0.02)
    return image.resize(BANNER, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    icon().save(FOLDER / "icon.png", optimize=True)
    banner().quantize(256, dither=Image.Dither.NONE).save(FOLDER / "banner.png", optimize=True)
