"""Noise of a step: keyed by (seed, image index, step), or drawn from the caller's generators."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import DDIMError, check_integer

__all__ = ["generator_noise", "keyed_noise"]


def keyed_noise(
    shape: Sequence[int],
    seed: int,
    step: int,
    image_indices: Sequence[int] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise that depends on (seed, image index, step) alone.

    The same image gets the same noise alone or in a batch, on any device and in any dtype (drawn in float32 on the
    CPU, cast last).

    Args:
        shape: ``(B, ...)``.
        seed: any whole number.
        step: index of the step, at least 0.
        image_indices: which image of the run each row is, length B; by default 0..B-1.
        device: where the result goes.
        dtype: of the result.
    """
    check_integer("step", step, 0)
    indices = range(shape[0]) if image_indices is None else image_indices
    if len(indices) != shape[0]:
        raise DDIMError(f"image_indices must name one image per row: {shape[0]} expected, got {len(indices)}")
    rows = [torch.randn(tuple(shape[1:]), generator=_keyed_generator(seed, index, step)) for index in indices]
    return torch.stack(rows).to(device=device, dtype=dtype) if rows else torch.empty(tuple(shape))


def _keyed_generator(seed: int, image: int, step: int) -> torch.Generator:
    digest = hashlib.blake2b(f"ddim/{seed}/{image}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def generator_noise(
    shape: Sequence[int],
    generator: torch.Generator | Sequence[torch.Generator],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Noise from one generator, or from a list with one per image, drawn in float32 and cast last.

    Args:
        shape: ``(B, ...)``.
        generator: one for the whole batch, or B of them; a CPU generator draws on the CPU for any device.
        device: where the result goes.
        dtype: of the result.

    Raises:
        DDIMError: if the list's length is not the batch size.
    """
    if isinstance(generator, torch.Generator):
        return _draw(tuple(shape), generator).to(device=device, dtype=dtype)
    if len(generator) != shape[0]:
        raise DDIMError(f"a list of generators must hold one per image: {shape[0]} expected, got {len(generator)}")
    rows = [_draw((1, *shape[1:]), one) for one in generator]
    return torch.cat(rows).to(device=device, dtype=dtype)


def _draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
