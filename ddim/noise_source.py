"""Where a sampling loop takes the noise of its steps from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .errors import DDIMError
from .fused import possible_on
from .noise import KeyedStep, NoiseKey, generator_noise
from .scheduler import DDIMScheduler

__all__ = ["NoiseSource", "noise_source"]

NoiseSource = Callable[[int], Tensor | KeyedStep]
Generators = torch.Generator | Sequence[torch.Generator]


def noise_source(
    x: Tensor,
    scheduler: DDIMScheduler,
    seed: int | None,
    generator: Generators | None,
    variance_noise: Tensor | None,
    image_indices: Sequence[int] | None,
) -> NoiseSource:
    """A function from the index of a step to its noise, shape ``(B, ...)``, on the device of ``x``.

    What it returns is lent until its next call: drawn noise is written to one buffer again and again. Where a kernel
    can draw keyed noise itself, its key is returned.

    Raises:
        DDIMError: for more than one source, or one that does not fit.
    """
    sources = {"seed": seed, "generator": generator, "variance_noise": variance_noise}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise DDIMError(f"give one source of step noise, got {' and '.join(given)}")
    if variance_noise is not None:
        return _from_tensor(x, len(scheduler.plan), variance_noise)
    if generator is not None:
        return _from_generators(x, generator)
    key = NoiseKey.of(x.shape, scheduler.unseeded_key() if seed is None else seed, image_indices)
    return _from_key(x, key, scheduler.plan.first)


def _from_tensor(x: Tensor, steps: int, noise: Tensor) -> NoiseSource:
    expected = (steps, *x.shape)
    if tuple(noise.shape) != expected:
        raise DDIMError(f"variance_noise must have shape {expected} (steps, *x.shape), got {tuple(noise.shape)}")
    return lambda i: noise[i].to(device=x.device)


def _from_generators(x: Tensor, generator: Generators) -> NoiseSource:
    if not isinstance(generator, torch.Generator) and len(generator) != x.shape[0]:
        raise DDIMError(f"a list of generators must hold one per image: {x.shape[0]} expected, got {len(generator)}")
    first = generator if isinstance(generator, torch.Generator) else generator[0]
    buffer = torch.empty(x.shape, dtype=torch.float32, device=first.device)
    return lambda i: generator_noise(x.shape, generator, x.device, torch.float32, out=buffer)


def _from_key(x: Tensor, key: NoiseKey, first_step: int) -> NoiseSource:
    if possible_on(x.device):
        key.images_on(x.device)
        return lambda i: KeyedStep(key, first_step + i)
    buffer: list[Tensor] = []  # allocated at the first step that has noise

    def draw(i: int) -> Tensor:
        if not buffer:
            buffer.append(torch.empty(x.shape, dtype=torch.float32, device="cpu"))
        return key.fill(buffer[0], first_step + i).to(x.device)

    return draw
