"""Sampling from the demo models with the core only, for measurements and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ddim import DDIMScheduler, guide, sample

from .network import IMAGE_SIZE, UNCONDITIONAL
from .weights_file import DemoModel

__all__ = [
    "GUIDANCE_RESCALE",
    "GUIDANCE_SCALE",
    "draw_digits",
    "guided_network",
    "initial_noise",
    "make_scheduler",
]

GUIDANCE_SCALE = 1.5  # as in example_workflows/Start here - digits.json
GUIDANCE_RESCALE = 0.7


class Configured(Protocol):
    """A demo model, of digits or of emoji: what it was trained with is all that a scheduler needs."""

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """The noise schedule of its training, as in a scheduler_config.json."""


def initial_noise(count: int, seed: int) -> Tensor:
    """Draw the standard normal noise (count, 3, 32, 32) that sampling starts from."""
    return torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(seed))


def make_scheduler(model: Configured, num_steps: int, *, zero_snr_fix: bool = True) -> DDIMScheduler:
    """Build the scheduler that a model was trained for, or one without zero terminal SNR.

    Args:
        model: A demo model.
        num_steps: Number of steps, 1..1000.
        zero_snr_fix: False uses leading spacing and does not rescale the betas, as was usual before Lin et al. 2024
            (arXiv 2305.08891), who describe the effect.
    """
    config = dict(model.scheduler_config)
    if not zero_snr_fix:
        config |= {"timestep_spacing": "leading", "rescale_betas_zero_snr": False}
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(num_steps)
    return scheduler


def draw_digits(
    model: DemoModel,
    labels: Tensor,
    noise: Tensor,
    scheduler: DDIMScheduler,
    *,
    guidance_scale: float = GUIDANCE_SCALE,
    guidance_rescale: float = GUIDANCE_RESCALE,
    eta: float | Literal["sigma_hat"] = 0.0,
    seed: int = 0,
    image_indices: Sequence[int] | None = None,
    precision: torch.dtype = torch.float32,
    on_step: Callable[[], None] | None = None,
) -> Tensor:
    """Draw one picture per label.

    Args:
        model: The demo model.
        labels: (N,) int64, 0..9.
        noise: (N, 3, 32, 32) standard normal noise.
        scheduler: A scheduler with its steps set, see `make_scheduler`.
        guidance_scale: Scale of classifier-free guidance; 1 means no guidance, and the network runs once a step.
        guidance_rescale: Strength of guidance rescale, in [0, 1].
        eta: Amount of step noise, in [0, 1], or ``"sigma_hat"``; 0 is deterministic.
        seed: Seed of the step noise if eta is above 0.
        image_indices: Which image of the run each picture is, for its step noise; by default 0..N-1.
        precision: The network's dtype. bfloat16 takes a third of the time if the processor supports it. The state and
            the guidance are always float32.
        on_step: Called after each step.

    Returns:
        Pictures (N, 3, 32, 32), clamped to [-1, 1].
    """
    guided = guided_network(
        model.network,
        labels,
        torch.full_like(labels, UNCONDITIONAL),
        guidance_scale=guidance_scale,
        guidance_rescale=guidance_rescale,
        precision=precision,
    )

    def after_step(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
        if on_step is not None:
            on_step()

    with torch.inference_mode():
        pictures = sample(
            guided, noise, scheduler, eta=eta, seed=seed, image_indices=image_indices, callback=after_step
        )
    return pictures.clamp(-1.0, 1.0)


def guided_network(
    network: nn.Module,
    condition: Tensor,
    unconditional: Tensor,
    *,
    guidance_scale: float,
    guidance_rescale: float = 0.0,
    precision: torch.dtype = torch.float32,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Put classifier-free guidance around a demo network.

    Args:
        network: ``network(x, timestep, condition)`` predicts v.
        condition: What is asked for, N rows.
        unconditional: The same for nothing in particular, N rows.
        guidance_scale: 1 means no guidance, and the network runs once a step.
        guidance_rescale: Strength of guidance rescale, in [0, 1].
        precision: The network's dtype; the guidance is float32.

    Returns:
        ``predict(x_t, t)`` for `ddim.sample` and `ddim.invert`: (N, 3, 32, 32) and a timestep to (N, 3, 32, 32).
    """
    both = torch.cat([condition, unconditional])

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x_t.device.type, precision, enabled=precision != torch.float32):
            if guidance_scale == 1.0:  # then guidance and rescale return the conditional prediction as it is
                return network(x_t, t.expand(len(condition)), condition).float()
            v = network(torch.cat([x_t, x_t]), t.expand(len(both)), both)
        v_text, v_none = v.float().chunk(2)
        return guide(v_none, v_text, guidance_scale, guidance_rescale)

    return guided
