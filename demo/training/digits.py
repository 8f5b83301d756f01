"""How the model of digits is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data import CLASS_NAMES, DigitScans, data_hash, draw_tones, load_scans, render, stroke_masks
from ..network import UNCONDITIONAL, DigitsUNet
from ..weights_file import DEFAULT_WEIGHTS, save_weights
from .recipe import Batch, Batches, Recipe, TrainingOptions, spread_timesteps

__all__ = ["DIGITS", "DigitBatches"]


class DigitBatches:
    """Draws batches; the same seed and step give the same batch.

    Attributes:
        scans: The scans of the training.
    """

    def __init__(self, scans: DigitScans) -> None:
        """Enlarge the scans, once."""
        self.scans = scans
        self._masks = stroke_masks(scans.scans)

    def draw(self, options: TrainingOptions, step: int) -> Batch:
        """Draw the batch of one step: random scans in random tones, some of the labels dropped."""
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        count = options.batch_size
        chosen = torch.randint(len(self.scans.labels), (count,), generator=generator)
        pictures = render(self._masks[chosen], draw_tones(count, generator))
        dropped = torch.rand(count, generator=generator) < options.label_dropout
        label = torch.where(dropped, UNCONDITIONAL, self.scans.labels[chosen])
        timestep = spread_timesteps(count, generator)
        return Batch(pictures, label, timestep, torch.randn(pictures.shape, generator=generator))

    def metadata(self) -> Mapping[str, str]:
        """Describe the data, for the weight file."""
        return {"class_names": json.dumps(CLASS_NAMES), "data_sha256": data_hash(self.scans)}


def _load() -> DigitBatches:
    return DigitBatches(load_scans("train"))


def _build(batches: Batches) -> nn.Module:
    return DigitsUNet()


def _save(path: Path, tensors: Mapping[str, Tensor], network: nn.Module, metadata: Mapping[str, str]) -> None:
    save_weights(path, tensors, cast(DigitsUNet, network).architecture, metadata)


DIGITS = Recipe(TrainingOptions(), _load, _build, _save, DEFAULT_WEIGHTS)
