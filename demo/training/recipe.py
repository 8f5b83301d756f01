"""What the training of one model consists of: settings, a network, data, and a file for the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..weights_file import SCHEDULER_CONFIG

__all__ = ["PRECISIONS", "Batch", "Batches", "Recipe", "TrainingOptions", "spread_timesteps"]

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class TrainingOptions:
    """All settings that determine the result of a training."""

    steps: int = 12_000
    batch_size: int = 32
    learning_rate: float = 1.2e-3
    warmup_steps: int = 300
    decay_share: float = 0.3
    weight_decay: float = 0.01
    average_decay: float = 0.999
    label_dropout: float = 0.1
    seed: int = 0
    precision: str = "bf16"
    parts: int = 2

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        for name in ("steps", "batch_size", "warmup_steps", "parts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size % self.parts:
            raise ValueError(f"batch_size ({self.batch_size}) must be divisible by parts ({self.parts})")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")


class Batch(NamedTuple):
    """What one step of a training sees.

    Attributes:
        pictures: (B, 3, 32, 32) in [-1, 1].
        condition: What the network takes as its third argument, B rows.
        timestep: (B,) int64.
        noise: Standard normal, of the pictures' shape.
    """

    pictures: Tensor
    condition: Tensor
    timestep: Tensor
    noise: Tensor


class Batches(Protocol):
    """The data of a training."""

    def draw(self, options: TrainingOptions, step: int) -> Batch:
        """Draw the batch of one step; it depends only on the seed and the step number."""

    def metadata(self) -> Mapping[str, str]:
        """Describe the data, for the weight file."""


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Attributes:
        options: The settings that made the shipped weights.
        load: Read the data.
        build: Make the network with random weights, for this data.
        save: Write a weight file: path, tensors, the network and metadata.
        weights: The file that ships with the project.
    """

    options: TrainingOptions
    load: Callable[[], Batches]
    build: Callable[[Batches], nn.Module]
    save: Callable[[Path, Mapping[str, Tensor], nn.Module, Mapping[str, str]], None]
    weights: Path


def spread_timesteps(count: int, generator: torch.Generator, exponent: float = 1.0) -> Tensor:
    """Draw timesteps that are stratified over a batch: one from each of B equally likely intervals.

    That lowers the variance of the gradient.

    Args:
        count: Number of timesteps B.
        generator: CPU generator, the only source of randomness.
        exponent: 1 draws all timesteps equally often, a smaller one the noisier ones more often.

    Returns:
        (B,) int64 in 0..999, rising.
    """
    spread = ((torch.arange(count) + torch.rand(count, generator=generator)) / count) ** exponent
    return (
        (spread * SCHEDULER_CONFIG["num_train_timesteps"]).long().clamp(max=SCHEDULER_CONFIG["num_train_timesteps"] - 1)
    )
