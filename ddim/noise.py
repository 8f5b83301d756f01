"""Noise of a step: keyed by (seed, image index, step), or drawn from the caller's generators."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .errors import DDIMError, check_integer
from .normal_counter import MAX_ELEMENTS, key_of_seed, normals

__all__ = ["generator_noise", "image_numbers", "keyed_noise"]

_WORD = 0xFFFFFFFF


def keyed_noise(
    shape: Sequence[int],
    seed: int,
    step: int,
    image_indices: Sequence[int] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise in which every element depends on (seed, image index, step, element index) alone.

    The same image gets the same bits alone or in a batch, on any device and on any machine; other dtypes are the
    float32 values, cast last. The definition stands in ``normal_counter.py``.

    Args:
        shape: ``(B, ...)``, at most 2^34 elements per image.
        seed: any whole number.
        step: index of the step, in 0..2^32 - 1.
        image_indices: which image of the run each row is, in 0..2^32 - 1, length B; by default 0..B-1.
        device: where the result goes.
        dtype: of the result.

    Raises:
        DDIMError: for numbers out of range or indices that do not fit the batch.
    """
    seed, step = check_integer("seed", seed, -math.inf), check_integer("step", step, 0, _WORD)
    indices = image_numbers(shape, image_indices)
    count = math.prod(shape[1:])
    if count > MAX_ELEMENTS:
        raise DDIMError(f"keyed noise has at most {MAX_ELEMENTS} elements per image, got shape {tuple(shape)}")
    drawn = torch.empty(tuple(shape), dtype=torch.float32, device="cpu")
    normals(key_of_seed(seed), np.array(indices, np.uint64), step, drawn.view(shape[0], count).numpy())
    return drawn.to(device=device, dtype=dtype)


def image_numbers(shape: Sequence[int], image_indices: Sequence[int] | None) -> list[int]:
    """Which image of the run each row of a batch is, checked."""
    if image_indices is None:
        return list(range(shape[0]))
    if len(image_indices) != shape[0]:
        raise DDIMError(f"image_indices must name one image per row: {shape[0]} expected, got {len(image_indices)}")
    return [check_integer("each of image_indices", index, 0, _WORD) for index in image_indices]


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
