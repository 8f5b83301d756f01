"""Pictures of the demo model, and figures made of rows of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from demo import DemoModel, load_demo_model
from demo.data import draw_tones, load_scans, render, stroke_masks
from demo.draw import draw_digits, initial_noise, make_scheduler

__all__ = ["WIDTH", "conditional", "demo", "digits", "real_digits", "strip", "strips"]

WIDTH = 7.2  # inches at 100 dots per inch


@lru_cache(maxsize=1)
def demo() -> DemoModel:
    """Load the demo model once."""
    return load_demo_model()


def digits(
    labels: Sequence[int], *, steps: int = 20, seed: int = 3, zero_snr_fix: bool = True, **options: Any
) -> Tensor:
    """Draw pictures with the demo model, (N, 3, 32, 32)."""
    scheduler = make_scheduler(demo(), steps, zero_snr_fix=zero_snr_fix)
    return draw_digits(demo(), torch.tensor(labels), initial_noise(len(labels), seed), scheduler, **options)


def conditional(labels: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the demo model with a prompt and no guidance, in the form that the core calls."""
    rows = torch.tensor(labels)

    def model(x: Tensor, t: Tensor) -> Tensor:
        with torch.inference_mode():
            return demo().network(x, t.expand(len(x)), rows)

    return model


def real_digits(count: int = 6) -> tuple[Tensor, list[int]]:
    """Render scanned digits that the demo model was not trained on, and return them with their labels."""
    scans = load_scans("held_out")
    tones = draw_tones(count, torch.Generator().manual_seed(2))
    return render(stroke_masks(scans.scans[:count]), tones), scans.labels[:count].tolist()


def strip(ax: Axes, pictures: Tensor, label: str = "") -> None:
    """Draw pictures side by side in one row, with a label at the left."""
    row = torch.cat(list(torch.nn.functional.pad(pictures, (1, 1, 1, 1), value=1.0)), dim=-1)
    ax.imshow(((row.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy(), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_frame_on(False)
    ax.set_ylabel(label, rotation=0, ha="right", va="center")


def strips(rows: dict[str, Tensor], height: float = 0.75) -> None:
    """Draw a figure of labelled rows."""
    _, axes = plt.subplots(len(rows), 1, figsize=(WIDTH, height * len(rows)), squeeze=False)
    for ax, (label, pictures) in zip(axes[:, 0], rows.items(), strict=True):
        strip(ax, pictures, label)
