"""Data whose denoiser is known in closed form: a mixture of Gaussians, seen through any noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """Equal parts of N(mean_i, spread^2) along the last dimension of a sample."""

    means: Tensor  # (K, D)
    spread: float

    def x0(self, x: Tensor, alpha_bar: float) -> Tensor:
        """E[x_0 | x_t = x], in float64; x has shape (..., D)."""
        x = x.double()
        root, variance = math.sqrt(alpha_bar), alpha_bar * self.spread**2 + 1 - alpha_bar
        offsets = x[..., None, :] - root * self.means  # (..., K, D)
        weights = torch.softmax(-offsets.square().sum(-1) / (2 * variance), dim=-1)
        each = self.means + root * self.spread**2 / variance * offsets
        return (weights[..., None] * each).sum(-2)

    def output(self, x: Tensor, alpha_bar: float, prediction_type: str) -> Tensor:
        """What a perfect model of the given prediction type says, in float64."""
        x0 = self.x0(x, alpha_bar)
        if prediction_type == "sample":
            return x0
        epsilon = (x.double() - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar)
        if prediction_type == "epsilon":
            return epsilon
        return math.sqrt(alpha_bar) * epsilon - math.sqrt(1 - alpha_bar) * x0

    def model(self, alpha_bars: Tensor, prediction_type: str):
        """``model(x, t)`` with a dtype like x: the levels are read in float64 from ``alpha_bars`` (T,)."""
        levels = alpha_bars.tolist()
        return lambda x, t: self.output(x, levels[int(t)], prediction_type).to(x.dtype)


@pytest.fixture(scope="session")
def mixture() -> type[Mixture]:
    return Mixture


@pytest.fixture(scope="session")
def six_modes() -> Mixture:
    """Six modes in sixteen dimensions, of about unit size."""
    draw = torch.Generator().manual_seed(11)
    return Mixture(torch.randn(6, 16, generator=draw, dtype=torch.float64), 0.3)
