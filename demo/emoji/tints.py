"""Tints: a picture in shades of one named colour, at its own brightness.

Every pixel keeps its luma (Rec. ITU-R BT.601), so a tinted picture and its original are the same picture in grey. Dark
pixels lie between black and the tint, bright ones between the tint and white; black and white stay as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["TINTS", "in_grey", "in_tint", "nearest_tint"]

TINTS = {  # red, green, blue in 0..255; the hues are at least 24 degrees apart
    "red": (225, 35, 45),
    "orange": (245, 130, 20),
    "yellow": (250, 205, 30),
    "green": (40, 170, 70),
    "blue": (40, 105, 235),
    "purple": (140, 60, 205),
    "pink": (245, 95, 170),
}
LUMA = (0.299, 0.587, 0.114)  # BT.601, section 2.5.1


def in_grey(pictures: Tensor) -> Tensor:
    """Compute the luma of pictures, (..., 3, H, W) in [0, 1] to (..., 1, H, W) in [0, 1]."""
    weights = torch.tensor(LUMA, dtype=pictures.dtype, device=pictures.device)[:, None, None]
    return (pictures * weights).sum(dim=-3, keepdim=True)


def in_tint(pictures: Tensor, tint: str) -> Tensor:
    """Draw pictures in the shades of one colour.

    Args:
        pictures: (..., 3, H, W) in [0, 1].
        tint: A key of `TINTS`.

    Returns:
        The same shape and range; the luma of every pixel is unchanged.
    """
    colour = torch.tensor(TINTS[tint], dtype=pictures.dtype, device=pictures.device)[:, None, None] / 255.0
    luma, own = in_grey(pictures), in_grey(colour)
    bright = ((luma - own) / (1.0 - own)).clamp(min=0.0)
    return torch.where(luma <= own, colour * (luma / own), colour + (1.0 - colour) * bright)


def nearest_tint(pictures: Tensor) -> list[str]:
    """Name the tint whose hue is nearest to that of each picture.

    The hue is that of the mean over all pixels, so pale pixels count little.

    Args:
        pictures: (B, 3, H, W) in [0, 1].

    Returns:
        B keys of `TINTS`.
    """
    names = list(TINTS)
    hues = torch.stack([_hue(torch.tensor(TINTS[name]).double()[None, :, None, None]) for name in names])
    apart = (_hue(pictures.double())[:, None] - hues.T + math.pi).remainder(2 * math.pi) - math.pi
    return [names[i] for i in apart.abs().argmin(dim=1).tolist()]


def _hue(pictures: Tensor) -> Tensor:
    """Return the angle of the mean colour of each picture, (B, 3, H, W) to (B,), in radians."""
    red, green, blue = pictures.mean(dim=(2, 3)).unbind(dim=1)
    return torch.atan2(math.sqrt(3.0) * (green - blue), 2.0 * red - green - blue)
