"""The features in which sets of pictures are compared, and the Frechet distance between them.

The features are the last hidden layer of a small classifier of digits. It is trained here, on renderings of the
training scans in random tones; it never sees a sample of the diffusion model, nor a held-out scan.

Frechet distance of two Gaussians: M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ...", 2017
(arXiv 1706.08500), equation 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.data import load_scans, random_pictures

__all__ = [
    "FEATURES",
    "REFERENCE_PICTURES",
    "Moments",
    "accuracy",
    "features",
    "frechet_distance",
    "held_out",
    "moments",
    "renderings",
    "train_classifier",
]

FEATURES = 48
CLASSES = 10
TRAINING_STEPS, BATCH, RATE = 400, 64, 3e-3
REFERENCE_PICTURES = 10_000
REFERENCE_SEED, TRAINING_SEED, ACCURACY_SEED = 11, 12, 13
CHUNK = 500


class Classifier(nn.Module):
    """Three convolutions on 2x2 pixels folded into channels, the mean over all places, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, FEATURES, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(FEATURES, FEATURES, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(FEATURES * 16, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits (N, 10) of pictures (N, 3, 32, 32) in [-1, 1]."""
        return self.head(self.hidden(pictures))


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance (D, D) of features, float64."""

    mean: Tensor
    covariance: Tensor


@cache
def train_classifier() -> Classifier:
    """Train the classifier, from fixed seeds; the same object for every caller.

    In float64: the rounding of one processor's convolutions then does not grow into other features within the training.
    """
    scans = load_scans("train")
    generator = torch.Generator().manual_seed(TRAINING_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRAINING_SEED)  # the initial weights
        classifier = Classifier().double()
    optimiser = torch.optim.Adam(classifier.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=TRAINING_STEPS)
    for _ in range(TRAINING_STEPS):
        pictures, labels = random_pictures(scans, BATCH, generator)
        loss = F.cross_entropy(classifier(pictures.double()), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def accuracy(count: int = 2000) -> Tensor:
    """Return for each of ``count`` renderings of held-out scans whether the classifier reads it, (N,) bool."""
    pictures, labels = renderings("held_out", count, ACCURACY_SEED)
    with torch.inference_mode():
        return train_classifier()(pictures.double()).argmax(1) == labels


def features(pictures: Tensor) -> Tensor:
    """Return the features (N, D) float64 of pictures (N, 3, 32, 32) in [-1, 1].

    Their unit is the root mean square of the features' standard deviations over the real data.
    """
    return _hidden(pictures) / _unit()


def _hidden(pictures: Tensor) -> Tensor:
    hidden = train_classifier().hidden
    with torch.inference_mode():
        return torch.cat([hidden(part.double()) for part in pictures.split(CHUNK)]).clone()


@cache
def _reference() -> Tensor:
    return _hidden(renderings("held_out", REFERENCE_PICTURES, REFERENCE_SEED)[0])


def _unit() -> Tensor:
    return _reference().var(0).mean().sqrt()


def moments(found: Tensor) -> Moments:
    """Return mean and covariance of features (N, D)."""
    return Moments(found.mean(0), torch.cov(found.T))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), equation 6 of 1706.08500 (there: d^2).

    The trace of the root is the sum of the roots of the eigenvalues of the symmetric C_a^(1/2) C_b C_a^(1/2), which
    are those of C_a C_b.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    joint = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    return float((a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * joint)


def renderings(split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return renderings of the scans of a split in random tones, (N, 3, 32, 32), and their digits, (N,)."""
    return random_pictures(load_scans(split), count, torch.Generator().manual_seed(seed))


@cache
def held_out() -> Moments:
    """Return the moments of the real data: renderings of the held-out scans."""
    return moments(_reference() / _unit())
