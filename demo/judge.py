"""A scikit-learn classifier, independent of the diffusion model, that determines which digit a picture shows.

It is trained only on real scans, never on samples, and its accuracy is measured on real scans that neither it nor the
diffusion model has seen. It uses only the stroke and ignores the colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import IMAGE_SIZE, STROKE_SIZE, load_scans, random_pictures

if TYPE_CHECKING:
    from sklearn.svm import SVC

__all__ = ["find_stroke", "held_out_accuracy", "mean_brightness", "read_digits", "train_judge"]

MARGIN = (IMAGE_SIZE - STROKE_SIZE) // 2
FULL_INK = 0.95  # quantile of the stroke that counts as full ink
PICTURES_PER_SCAN = 2


def find_stroke(pictures: Tensor) -> Tensor:
    """Separate ink from paper, independent of their colours.

    The colour of the paper is the median of the margin. The colour of the ink lies in the direction in which the other
    pixels differ most from the paper.

    Args:
        pictures: (N, 3, 32, 32).

    Returns:
        (N, 13, 13): about 0 on paper, about 1 on ink.
    """
    margin = torch.ones(IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
    margin[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    paper = pictures[:, :, margin].median(dim=2).values
    away = (pictures - paper[:, :, None, None]).flatten(2)
    direction = torch.linalg.eigh(away @ away.transpose(1, 2)).eigenvectors[:, :, -1:]
    ink = (away * direction).sum(dim=1)
    ink = ink * ink.sum(dim=1, keepdim=True).sign()
    ink = ink / ink.quantile(FULL_INK, dim=1, keepdim=True).clamp(min=1e-6)
    ink = ink.clamp(0.0, 1.0).reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE)[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
    return F.avg_pool2d(ink, 2)[:, 0]


def train_judge(seed: int = 0) -> SVC:
    """Fit a support vector machine to renderings of the training scans.

    Args:
        seed: Seed of the renderings' tones.
    """
    from sklearn.svm import SVC

    scans = load_scans("train")
    pictures, labels = random_pictures(
        scans, PICTURES_PER_SCAN * len(scans.labels), torch.Generator().manual_seed(seed)
    )
    return SVC(C=10.0).fit(find_stroke(pictures).flatten(1).numpy(), labels.numpy())


def read_digits(judge: SVC, pictures: Tensor) -> Tensor:
    """Classify pictures.

    Args:
        judge: From `train_judge`.
        pictures: (N, 3, 32, 32) in [-1, 1].

    Returns:
        (N,) int64 in 0..9.
    """
    return torch.from_numpy(judge.predict(find_stroke(pictures.float()).flatten(1).numpy())).long()


def held_out_accuracy(judge: SVC, count: int = 2000, seed: int = 1) -> float:
    """Return the share of new renderings of held-out scans that the judge classifies correctly."""
    pictures, labels = random_pictures(load_scans("held_out"), count, torch.Generator().manual_seed(seed))
    return (read_digits(judge, pictures) == labels).float().mean().item()


def mean_brightness(pictures: Tensor) -> Tensor:
    """Average pictures (N, 3, 32, 32) over all pixels and channels, giving (N,)."""
    return pictures.float().mean(dim=(1, 2, 3))
