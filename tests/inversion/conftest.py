"""Models whose answer is known in closed form, so that no error can hide behind a network's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import ddim

Model = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Mixture:
    """A mixture of isotropic Gaussians, whose posterior mean of x_0 is exact at every noise level."""

    means: Tensor  # (K, ...)
    weights: Tensor  # (K,)
    stds: Tensor  # (K,)

    def posterior_mean(self, x: Tensor, a: float) -> Tensor:
        """E[x_0 | x_t = x] at alpha_bar = a."""
        root, variance = math.sqrt(a), a * self.stds**2 + 1 - a
        difference = x.flatten(1)[:, None] - root * self.means.flatten(1)
        log_weight = self.weights.log() - 0.5 * difference[0, 0].numel() * variance.log()
        log_weight = log_weight - 0.5 * difference.square().sum(-1) / variance
        gain = (root * self.stds**2 / variance)[:, None]
        each = self.means.flatten(1) + gain * difference
        return (torch.softmax(log_weight, 1)[..., None] * each).sum(1).view_as(x)

    def draw(self, count: int, seed: int) -> Tensor:
        """Samples of the data, shape (count, ...)."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.weights, count, True, generator=generator)
        noise = torch.randn(count, *self.means.shape[1:], generator=generator, dtype=torch.float64)
        return self.means[which] + self.stds[which].view(-1, *[1] * (self.means.ndim - 1)) * noise

    def model(self, scheduler: ddim.DDIMScheduler) -> Model:
        """The perfect network of that scheduler's prediction type; computes in float64, answers in x's dtype."""
        levels = ddim.Schedule(scheduler.settings, scheduler.plan).noise.alpha_bar.tolist()
        kind = scheduler.settings.prediction_type

        def predict(x: Tensor, t: Tensor) -> Tensor:
            a, x_t = levels[int(t)], x.double()
            x0 = self.posterior_mean(x_t, a)
            epsilon = (x_t - math.sqrt(a) * x0) / math.sqrt(1 - a)
            velocity = math.sqrt(a) * epsilon - math.sqrt(1 - a) * x0
            return {"epsilon": epsilon, "sample": x0, "v_prediction": velocity}[kind].to(x.dtype)

        return predict


def random_mixture(seed: int, modes: int = 6, shape: tuple[int, ...] = (4, 16, 16), std: float = 0.3) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(modes, *shape, generator=generator, dtype=torch.float64)
    weights = torch.rand(modes, generator=generator, dtype=torch.float64) + 0.2
    stds = std * (0.5 + torch.rand(modes, generator=generator, dtype=torch.float64))
    return Mixture(means, weights / weights.sum(), stds)


def sd_scheduler(steps: int, **settings: Any) -> ddim.DDIMScheduler:
    """Stable Diffusion's betas, trailing, no clipping; ``settings`` override."""
    defaults = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "timestep_spacing": "trailing",
    }
    scheduler = ddim.DDIMScheduler(**(defaults | settings))
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.fixture(scope="session")
def mixture() -> Callable[..., Mixture]:
    return random_mixture


@pytest.fixture(scope="session")
def scheduler() -> Callable[..., ddim.DDIMScheduler]:
    return sd_scheduler


@pytest.fixture(scope="session")
def mse() -> Callable[[Tensor, Tensor], Tensor]:
    """Mean squared error per image."""
    return lambda a, b: (a.double() - b.double()).square().flatten(1).mean(1)
