"""Sampling from the emoji model with the core only, for measurements and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ddim import DDIMScheduler, invert, reconstruct, sample

from ..draw import guided_network
from .weights import EmojiModel

__all__ = ["EDIT_GUIDANCE", "EMOJI_GUIDANCE", "draw_emoji", "edit_emoji"]

EMOJI_GUIDANCE = 2.0  # as in example_workflows/Emoji - from words.json
EDIT_GUIDANCE = 1.5  # as in example_workflows/Emoji - edit by words.json


def draw_emoji(
    model: EmojiModel,
    prompts: Sequence[str],
    noise: Tensor,
    scheduler: DDIMScheduler,
    *,
    guidance_scale: float = EMOJI_GUIDANCE,
    eta: float | Literal["sigma_hat"] = 0.0,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    on_step: Callable[[], None] | None = None,
) -> Tensor:
    """Draw one picture per prompt.

    Args:
        model: The emoji model.
        prompts: N texts, see `demo.emoji.prompts`.
        noise: (N, 3, 32, 32) standard normal noise.
        scheduler: A scheduler with its steps set, see `demo.draw.make_scheduler`.
        guidance_scale: Scale of classifier-free guidance; 1 means no guidance, and the network runs once a step.
        eta: Amount of step noise, in [0, 1], or ``"sigma_hat"``; 0 is deterministic.
        seed: Seed of the step noise if eta is above 0.
        precision: The network's dtype; the state and the guidance are always float32.
        on_step: Called after each step.

    Returns:
        Pictures (N, 3, 32, 32), clamped to [-1, 1].
    """
    guided = guided_network(
        model.network,
        model.encode(prompts),
        model.encode([""] * len(prompts)),
        guidance_scale=guidance_scale,
        precision=precision,
    )

    def after_step(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
        if on_step is not None:
            on_step()

    with torch.inference_mode():
        pictures = sample(guided, noise, scheduler, eta=eta, seed=seed, callback=after_step)
    return pictures.clamp(-1.0, 1.0)


def edit_emoji(
    model: EmojiModel,
    pictures: Tensor,
    sources: Sequence[str],
    targets: Sequence[str],
    scheduler: DDIMScheduler,
    *,
    guidance_scale: float = EDIT_GUIDANCE,
    seed: int = 1,
) -> Tensor:
    """Invert pictures with prompts that describe them, and sample them again with other prompts.

    Guidance pushes from the old prompt to the new one, so what both have in common stays. With equal prompts the
    pictures come back exactly.

    Args:
        model: The emoji model.
        pictures: (N, 3, 32, 32) in [-1, 1].
        sources: N prompts for what they show.
        targets: N prompts for what they become.
        scheduler: A scheduler with its steps set.
        guidance_scale: Scale of the guidance.
        seed: Seed of the recorded noise.

    Returns:
        Pictures (N, 3, 32, 32), clamped to [-1, 1].
    """
    old, new = model.encode(sources), model.encode(targets)
    describing = guided_network(model.network, old, old, guidance_scale=1.0)
    asking = guided_network(model.network, new, old, guidance_scale=guidance_scale)
    with torch.inference_mode():
        found = invert(describing, pictures, scheduler, method="variance_noise", seed=seed)
        return reconstruct(asking, found, scheduler).clamp(-1.0, 1.0)
