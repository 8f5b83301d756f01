"""Sampling of Gaussian data in closed form: what DDIM makes of it, without drawing a sample.

For x_0 ~ N(m, diag(v)) and x_t = a x_0 + s e, the exact prediction is
E[x_0 | x_t] = m + a v / (a^2 v + s^2) (x_t - a m), affine in x_t. Each step is
then affine in x_t and in its noise, and what is sampled is a Gaussian again. Its mean and variance follow from three
probes of the scheduler's own step: at x_t = 0, at x_t = 1, and at noise 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import ddim
from demo.data import load_scans, random_pictures

__all__ = ["Gaussian", "digits", "frechet_distance", "sampled"]

PICTURES = 10_000
SEED = 11


@dataclass(frozen=True)
class Gaussian:
    """Mean and variance of each coordinate, (D,) float64."""

    mean: Tensor
    variance: Tensor


def sampled(data: Gaussian, scheduler: ddim.DDIMScheduler, eta: float | Literal["sigma_hat"] = 0.0) -> Gaussian:
    """Return the distribution that the scheduler's plan makes of standard normal noise with the exact prediction.

    Args:
        data: What the model has learnt.
        scheduler: With its plan set, prediction_type "sample", and without clipping.
        eta: See `ddim.sample`.
    """
    mean, variance = torch.zeros_like(data.mean), torch.ones_like(data.variance)
    zero, one = torch.zeros_like(mean), torch.ones_like(mean)
    x, noise = torch.stack([zero, one, zero]), torch.stack([zero, zero, one])
    for t in scheduler.timesteps:
        alpha_bar = float(scheduler.alphas_cumprod[t])
        alpha, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        gain = alpha * data.variance / (alpha_bar * data.variance + sigma**2)
        predicted = data.mean + gain * (x - alpha * data.mean)
        at_zero, at_one, at_noise = scheduler.step(predicted, t, x, eta, variance_noise=noise, return_dict=False)[0]
        mean, variance = (
            (at_one - at_zero) * mean + at_zero,
            (at_one - at_zero).square() * variance + (at_noise - at_zero).square(),
        )
    return Gaussian(mean, variance)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return equation 6 of 1706.08500 for diagonal covariances."""
    return float((a.mean - b.mean).square().sum() + (a.variance.sqrt() - b.variance.sqrt()).square().sum())


def digits() -> Gaussian:
    """Return the Gaussian with mean and covariance of the demo model's training data, in the covariance's axes.

    The pictures are halved to 3x16x16: the axes of 768 numbers are found in a second, those of 3072 in two minutes.
    """
    pictures, _ = random_pictures(load_scans("train"), PICTURES, torch.Generator().manual_seed(SEED))
    flat = F.avg_pool2d(pictures.double(), 2).flatten(1)
    values, axes = torch.linalg.eigh(torch.cov(flat.T))
    return Gaussian(flat.mean(0) @ axes, values.clamp(min=0))
