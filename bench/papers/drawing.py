"""Pictures of the demo model for the tables: any number, in parts that fit the processor's caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ddim import DDIMScheduler
from demo import DemoModel, load_demo_model
from demo.draw import draw_digits, initial_noise
from demo.judge import train_judge

if TYPE_CHECKING:
    from sklearn.svm import SVC

__all__ = ["CLASSES", "Drawing", "demo", "drawn", "judge", "labels"]

CLASSES = 10
PART = 50  # pictures that pass the network together

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Drawing:
    """How a set of pictures is drawn.

    Attributes:
        steps: Their number.
        count: Pictures; the digits 0 to 9 in turn.
        seed: Of the initial noise and of the step noise.
        eta: See `ddim.sample`.
        guidance_scale, guidance_rescale: See `demo.draw.draw_digits`.
        timestep_spacing: See `ddim.SchedulerConfig`.
        zero_snr: Whether the betas are rescaled to zero terminal SNR, as in the model's training.
    """

    steps: int
    count: int
    seed: int = 0
    eta: float | Literal["sigma_hat"] = 0.0
    guidance_scale: float = 1.0
    guidance_rescale: float = 0.0
    timestep_spacing: str = "trailing"
    zero_snr: bool = True

    @property
    def cost(self) -> int:
        """Pictures that pass the network."""
        return self.steps * self.count * (1 if self.guidance_scale == 1.0 else 2)


@cache
def demo() -> DemoModel:
    """Load the demo model once."""
    return load_demo_model()


@cache
def judge() -> SVC:
    """Train the support vector machine that reads digits, once."""
    return train_judge()


def labels(count: int) -> Tensor:
    """Return the digits 0 to 9 in turn, (count,)."""
    return torch.arange(count) % CLASSES


def drawn(drawing: Drawing, advance: Advance) -> Tensor:
    """Draw pictures (N, 3, 32, 32) in [-1, 1]; ``advance`` is called after each step with the pictures that passed."""
    config = dict(demo().scheduler_config) | {"timestep_spacing": drawing.timestep_spacing}
    config["rescale_betas_zero_snr"] = drawing.zero_snr
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(drawing.steps)
    noise, wanted = initial_noise(drawing.count, drawing.seed), labels(drawing.count)
    parts = []
    for chosen in torch.arange(drawing.count).split(PART):
        passed = drawing.cost // drawing.steps * len(chosen) // drawing.count
        parts.append(
            draw_digits(
                demo(),
                wanted[chosen],
                noise[chosen],
                scheduler,
                guidance_scale=drawing.guidance_scale,
                guidance_rescale=drawing.guidance_rescale,
                eta=drawing.eta,
                seed=drawing.seed,
                image_indices=chosen.tolist(),
                on_step=partial(advance, passed),
            )
        )
    return torch.cat(parts)
