"""Noise levels, the one description that all kinds of diffusion models share: x_t = alpha x_0 + sigma epsilon."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DDIMError, check_number

__all__ = ["FLOW", "KINDS", "VARIANCE_EXPLODING", "VARIANCE_PRESERVING", "Level", "LevelTable", "Levels"]

VARIANCE_PRESERVING = "variance_preserving"  # alpha^2 + sigma^2 = 1
FLOW = "flow"  # alpha + sigma = 1
VARIANCE_EXPLODING = "variance_exploding"  # alpha = 1

KINDS: tuple[str, ...] = (VARIANCE_PRESERVING, FLOW, VARIANCE_EXPLODING)


class Level(NamedTuple):
    """One noise level: x_t = alpha x_0 + sigma epsilon.

    Attributes:
        alpha: weight of the data, at least 0.
        sigma: weight of the noise, at least 0; not both are 0.
    """

    alpha: float
    sigma: float

    @classmethod
    def of(cls, level: float | Level) -> Level:
        """A level, given as itself or as the ``alpha_bar`` of a variance preserving model.

        Raises:
            DDIMError: for an ``alpha_bar`` outside [0, 1].
        """
        if isinstance(level, Level):
            return level
        alpha_bar = check_number("alpha_bar", level)
        if not 0.0 <= alpha_bar <= 1.0:
            raise DDIMError(f"alpha_bar must be in [0, 1], got {alpha_bar:g}")
        return cls(math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))

    @property
    def length(self) -> float:
        """sqrt(alpha^2 + sigma^2): the standard deviation of a sample of data with variance 1."""
        return math.hypot(self.alpha, self.sigma)

    @property
    def alpha_bar(self) -> float:
        """``alpha_bar`` of the variance preserving level with the same signal-to-noise ratio."""
        return self.alpha**2 / (self.alpha**2 + self.sigma**2)


class Levels(NamedTuple):
    """Noise levels as arrays of one shape."""

    alpha: Tensor
    sigma: Tensor

    @classmethod
    def of_alpha_bar(cls, alpha_bar: Tensor) -> Levels:
        """Levels of a variance preserving model."""
        return cls(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())

    @classmethod
    def of_sigma(cls, sigma: Tensor, kind: str) -> Levels:
        """Levels of a flow or a variance exploding model."""
        return cls(1 - sigma if kind == FLOW else torch.ones_like(sigma), sigma)

    @property
    def alpha_bar(self) -> Tensor:
        """``alpha_bar`` of the variance preserving levels with the same signal-to-noise ratios."""
        return self.alpha.square() / (self.alpha.square() + self.sigma.square())

    def at(self, index: int) -> Level:
        """One of them."""
        return Level(float(self.alpha[index]), float(self.sigma[index]))


@dataclass(frozen=True, eq=False)
class LevelTable:
    """The levels of all training timesteps 0..T-1 and, at index T (or -1), of the end of sampling.

    Attributes:
        levels: float64 CPU, shape ``(T + 1,)``.
        alpha_bar: the same for both kinds of arrays; exact for a variance preserving model, derived for others.
        times: what the model is called with at each timestep, float64 CPU, shape ``(T,)``; None for the timestep.
    """

    levels: Levels
    alpha_bar: Tensor
    times: Tensor | None = None

    def __len__(self) -> int:
        """Number of training timesteps, T."""
        return len(self.alpha_bar) - 1
