"""Pictures of handwritten digits: real scans, drawn with ink and paper of random tones.

The scans are the UCI "Optical Recognition of Handwritten Digits" test set (1797 scans of 8x8 pixels) that
ships inside scikit-learn, so nothing is downloaded. The shape of the stroke comes from a scan, the colours from a
random generator. The tones deliberately range from black to white: a diffusion model whose schedule never reaches
zero signal-to-noise ratio cannot draw very dark or very bright pictures, and with this data that can be measured.

Reference: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "CLASS_NAMES",
    "IMAGE_SIZE",
    "DigitScans",
    "data_hash",
    "draw_tones",
    "load_scans",
    "random_pictures",
    "render",
    "stroke_masks",
]

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
IMAGE_SIZE = 32

SCAN_PEAK = 16.0  # each value counts the dark pixels of a 4x4 cell: 0..16
STROKE_SIZE = 26  # less than IMAGE_SIZE, because the scans fill their frame: leaves a margin of paper
HELD_OUT_EVERY = 5  # every fifth scan is held out
MIN_CONTRAST = 0.4  # difference between the grey levels of ink and paper, which are in 0..1
PAPER_FALLOFF = 0.3  # share of the paper's tone that comes from a second random number; makes extreme tones rarer
TINT = 0.12  # largest deviation of a colour channel from the grey level


@dataclass(frozen=True)
class DigitScans:
    """Scans and the digits that they show.

    Attributes:
        scans: (N, 8, 8) float32 in [0, 1], 1 where the pen was.
        labels: (N,) int64, 0..9.
        indices: (N,) int64, positions in scikit-learn's list; the two splits share no position.
    """

    scans: Tensor
    labels: Tensor
    indices: Tensor


def load_scans(split: str) -> DigitScans:
    """Read the scans of one split from scikit-learn.

    Args:
        split: "train" (four of five scans) or "held_out" (every fifth scan).

    Raises:
        ValueError: The split is unknown.
    """
    if split not in ("train", "held_out"):
        raise ValueError(f'split must be "train" or "held_out", got {split!r}')
    from sklearn.datasets import load_digits

    digits = load_digits()
    indices = torch.arange(len(digits.target))
    chosen = (indices % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == (split == "held_out")
    scans = torch.from_numpy(digits.images).float() / SCAN_PEAK
    labels = torch.from_numpy(digits.target).long()
    return DigitScans(scans[chosen], labels[chosen], indices[chosen])


def stroke_masks(scans: Tensor) -> Tensor:
    """Enlarge scans to the size of a picture: the amount of ink on each pixel.

    Args:
        scans: (N, 8, 8) in [0, 1].

    Returns:
        (N, 1, 32, 32) in [0, 1], zero on a margin of three pixels.
    """
    stroke = F.interpolate(scans[:, None], size=(STROKE_SIZE, STROKE_SIZE), mode="bicubic", align_corners=False)
    stroke = stroke.clamp(0.0, 1.0)
    stroke = stroke * stroke * (3.0 - 2.0 * stroke)  # smoothstep, to sharpen the interpolated edges
    margin = (IMAGE_SIZE - STROKE_SIZE) // 2
    return F.pad(stroke, (margin, margin, margin, margin))


def draw_tones(count: int, generator: torch.Generator) -> Tensor:
    """Draw random colours of paper and ink.

    The paper's grey level is distributed over [0, 1], nearly uniformly but falling off towards black and white. The
    ink's is uniform over all levels that differ from it by at least ``MIN_CONTRAST``. Each colour channel deviates from
    the grey level by at most ``TINT``.

    Args:
        count: Number of pictures N.
        generator: CPU generator, the only source of randomness.

    Returns:
        (N, 2, 3) in [0, 1]: paper, then ink; red, green, blue.
    """
    chance = torch.rand(count, 9, generator=generator)
    paper = (1.0 - PAPER_FALLOFF) * chance[:, 0] + PAPER_FALLOFF * chance[:, 8]
    below = (paper - MIN_CONTRAST).clamp(min=0.0)  # length of the allowed levels darker than the paper
    above = (1.0 - MIN_CONTRAST - paper).clamp(min=0.0)  # and brighter
    along = chance[:, 1] * (below + above)
    ink = torch.where(along < below, along, along - below + paper + MIN_CONTRAST)
    grey = torch.stack([paper, ink], dim=1)[:, :, None]
    tint = (2.0 * chance[:, 2:8].reshape(count, 2, 3) - 1.0) * TINT
    return (grey + tint).clamp(0.0, 1.0)


def render(masks: Tensor, tones: Tensor) -> Tensor:
    """Combine strokes and tones into pictures; the result is deterministic.

    Args:
        masks: (N, 1, 32, 32) in [0, 1], see `stroke_masks`.
        tones: (N, 2, 3) in [0, 1], see `draw_tones`.

    Returns:
        (N, 3, 32, 32) float32 in [-1, 1], the network's range.
    """
    paper, ink = tones[:, 0, :, None, None], tones[:, 1, :, None, None]
    return 2.0 * (paper + (ink - paper) * masks) - 1.0


def random_pictures(scans: DigitScans, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pictures of random scans in random tones.

    Args:
        scans: The scans to choose from.
        count: Number of pictures.
        generator: CPU generator, the only source of randomness.

    Returns:
        Pictures (count, 3, 32, 32) in [-1, 1] and their labels (count,) int64.
    """
    chosen = torch.randint(len(scans.labels), (count,), generator=generator)
    return render(stroke_masks(scans.scans[chosen]), draw_tones(count, generator)), scans.labels[chosen]


def data_hash(scans: DigitScans) -> str:
    """Hash a model's training data: the scans, their labels and the renderer's constants."""
    digest = hashlib.sha256()
    digest.update((scans.scans * SCAN_PEAK).round().to(torch.uint8).numpy().tobytes())
    digest.update(scans.labels.to(torch.uint8).numpy().tobytes())
    digest.update(json.dumps([IMAGE_SIZE, STROKE_SIZE, HELD_OUT_EVERY, MIN_CONTRAST, PAPER_FALLOFF, TINT]).encode())
    return digest.hexdigest()
