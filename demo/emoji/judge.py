"""What a picture shows: the nearest of all emoji, in colour or in grey, and the nearest tint.

No network judges: the distance is the sum of squared differences of the pixels. In grey, where tints do not count, a
picture and its candidates are compared after their luma has been shifted and scaled to mean 0 and variance 1, so that
a picture that came out pale still shows its shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .pictures import EmojiPictures
from .tints import in_grey

__all__ = ["nearest_in_colour", "nearest_in_grey"]

LEAST_DEVIATION = 1e-3  # of an even picture, so that nothing is divided by zero


def nearest_in_colour(pictures: Tensor, among: EmojiPictures) -> list[str]:
    """Name the emoji nearest to each picture.

    Args:
        pictures: (B, 3, 32, 32) in [-1, 1].
        among: The candidates.

    Returns:
        B names.
    """
    return _nearest(pictures / 2 + 0.5, among.pixels.float() / 255.0, among.names)


def nearest_in_grey(pictures: Tensor, among: EmojiPictures) -> list[str]:
    """Name the emoji whose shape is nearest to that of each picture, whatever its tint.

    Args:
        pictures: (B, 3, 32, 32) in [-1, 1].
        among: The candidates.

    Returns:
        B names.
    """
    return _nearest(_shape(pictures / 2 + 0.5), _shape(among.pixels.float() / 255.0), among.names)


def _shape(pictures: Tensor) -> Tensor:
    """Reduce pictures in [0, 1] to their luma, with mean 0 and variance 1."""
    grey = in_grey(pictures)
    grey = grey - grey.mean(dim=(1, 2, 3), keepdim=True)
    return grey / grey.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=LEAST_DEVIATION)


def _nearest(pictures: Tensor, candidates: Tensor, names: tuple[str, ...]) -> list[str]:
    apart = torch.cdist(pictures.flatten(1).double(), candidates.flatten(1).double())
    return [names[i] for i in apart.argmin(dim=1).tolist()]
