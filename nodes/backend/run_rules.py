"""What both hosts do alike, so that both give the same images.

The initial noise, the start of a run, and which schedule fits a MODEL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...ddim import FLOW, VARIANCE_EXPLODING, VARIANCE_PRESERVING, CFGPlusPlus, DDIMError, Schedule
from .contract import Denoised

__all__ = [
    "check_kind",
    "guided_x0",
    "initial_noise",
    "start_of_run",
    "timestep_reader",
]


def initial_noise(shape: Sequence[int], seed: int, batch_index: Sequence[int] | None = None) -> Tensor:
    """Draw the noise that KSampler starts from, without touching the global generator.

    Args:
        shape: ``(B, ...)``.
        seed: Any integer that fits in 64 bits.
        batch_index: Which image of a larger batch each row is; rows with the same index get the same noise.

    Returns:
        Float32 CPU tensor of that shape.
    """
    generator = torch.Generator().manual_seed(seed)
    if batch_index is None:
        return torch.randn(tuple(shape), generator=generator)
    drawn = [torch.randn((1, *shape[1:]), generator=generator) for _ in range(max(batch_index) + 1)]
    return torch.cat([drawn[index] for index in batch_index])


def guided_x0(denoised: Denoised) -> Tensor:
    """Return the predicted x_0 after guidance, ``(B, ...)``; CFG++ brings a second one."""
    return denoised.guided if isinstance(denoised, CFGPlusPlus) else denoised


def start_of_run(latent: Tensor, noise: Tensor, schedule: Schedule, *, add_noise: bool) -> Tensor:
    """Return x_t of the first step: the latent as it is, or with the initial noise added.

    An empty latent (all zeros) at the beginning of a variance preserving plan is replaced by pure noise, as in
    diffusers: nothing is known about the small part of an image that the first level may still hold. A variance
    exploding run that starts at the model's last level gets noise of the deviation sqrt(1 + sigma^2) for the same
    reason, as in diffusers and in ComfyUI.
    """
    if not add_noise:
        return latent
    first, kind = schedule.plan.timesteps[0], schedule.noise.kind
    if kind == VARIANCE_PRESERVING and schedule.plan.first == 0 and not latent.any():
        return noise
    if kind == VARIANCE_EXPLODING and first == len(schedule.noise) - 1:
        return latent + schedule.noise.level_at(first).length * noise
    return schedule.noise.add_noise(latent, noise, first)


def timestep_reader(schedule: Schedule) -> Callable[[int | Tensor], int]:
    """Return a function that tells which timestep 0..T-1 a scheduler means when it calls a model with t."""
    if schedule.noise.kind == VARIANCE_PRESERVING:
        return lambda t: int(_value(t))
    times, planned = schedule.noise.times.float(), schedule.plan.timesteps
    known = dict(zip(times[list(planned)].tolist(), planned, strict=True))

    def nearest(t: int | Tensor) -> int:
        value = _value(t)
        found = known.get(value)
        return int((times - value).abs().argmin()) if found is None else found

    return nearest


def _value(t: int | float | Tensor) -> int | float:
    """Read a timestep; one on the CPU through numpy, which runs no operator."""
    if not isinstance(t, Tensor):
        return t
    number: int | float = t.numpy().item() if t.is_cpu else t.item()
    return number


_KINDS = {
    VARIANCE_PRESERVING: "an epsilon, v-prediction or x0 model",
    FLOW: "a flow model",
    VARIANCE_EXPLODING: "an EDM model",
}


def check_kind(kind: str, schedule: Schedule) -> None:
    """Check that a schedule is one for this kind of MODEL.

    Raises:
        DDIMError: If it is not.
    """
    if kind != schedule.noise.kind:
        raise DDIMError(
            f"the schedule belongs to {_KINDS[schedule.noise.kind]} and the MODEL is {_KINDS[kind]}; connect the MODEL "
            "to DDIM Schedule, which then uses the MODEL's levels"
        )
