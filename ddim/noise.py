"""Noise of a step: keyed by (seed, image index, step), or drawn from the caller's generators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import DDIMError, check_integer
from .normal_counter import MAX_ELEMENTS, key_of_seed, normals

__all__ = ["KeyedStep", "NoiseKey", "generator_noise", "image_numbers", "keyed_noise"]

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
    from .fused import fused_noise, possible_on  # which builds on this module

    step_key = KeyedStep(NoiseKey.of(shape, seed, image_indices), check_integer("step", step, 0, _WORD))
    place = torch.empty(0, device=device).device  # of None: the default device
    if possible_on(place):
        drawn = fused_noise(step_key, torch.empty(tuple(shape), dtype=torch.float32, device=place))
    else:
        drawn = step_key.key.fill(torch.empty(tuple(shape), dtype=torch.float32, device="cpu"), step_key.step)
    return drawn.to(device=device, dtype=dtype)


@dataclass(frozen=True, eq=False)
class NoiseKey:
    """What keyed noise of a run depends on, but for the step: checked once, drawn from at every step.

    Attributes:
        words: the two key words of the seed.
        images: which image of the run each row is, uint64 array of shape ``(B,)``.
    """

    words: tuple[int, int]
    images: np.ndarray

    @classmethod
    def of(cls, shape: Sequence[int], seed: int, image_indices: Sequence[int] | None = None) -> NoiseKey:
        """The key of a run of samples of ``shape``; arguments and errors as for :func:`keyed_noise`."""
        seed = check_integer("seed", seed, -math.inf)
        if math.prod(shape[1:]) > MAX_ELEMENTS:
            raise DDIMError(f"keyed noise has at most {MAX_ELEMENTS} elements per image, got shape {tuple(shape)}")
        return cls(key_of_seed(seed), np.array(image_numbers(shape, image_indices), np.uint64))

    def fill(self, out: Tensor, step: int) -> Tensor:
        """Write the noise of a step to a contiguous float32 CPU tensor of shape ``(B, ...)``."""
        rows = out.view(out.shape[0], math.prod(out.shape[1:]))
        normals(self.words, self.images, step, rows.numpy())
        return out

    def images_on(self, device: torch.device) -> Tensor | None:
        """``images`` as int32 words on a device, without waiting for it; None where they are 0..B-1."""
        if np.array_equal(self.images, np.arange(len(self.images), dtype=np.uint64)):
            return None
        return _words_on(self.images.astype(np.uint32).tobytes(), device)


@lru_cache(maxsize=32)  # so that a captured graph finds them on the device
def _words_on(words: bytes, device: torch.device) -> Tensor:
    there = torch.from_numpy(np.frombuffer(words, np.int32).copy())
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)


class KeyedStep(NamedTuple):
    """Keyed noise of one step that is yet to be drawn: a kernel on a device draws it itself."""

    key: NoiseKey
    step: int


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
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Noise from one generator, or from a list with one per image, drawn in float32 and cast last.

    Args:
        shape: ``(B, ...)``.
        generator: one for the whole batch, or B of them; a CPU generator draws on the CPU for any device.
        device: where the result goes.
        dtype: of the result.
        out: contiguous float32 buffer on the generators' device to draw into.

    Raises:
        DDIMError: if the list's length is not the batch size.
    """
    generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
    per_image = not isinstance(generator, torch.Generator)
    if per_image and len(generators) != shape[0]:
        raise DDIMError(f"a list of generators must hold one per image: {shape[0]} expected, got {len(generators)}")
    if not generators:
        return torch.empty(tuple(shape), device=device, dtype=dtype)
    if out is None:
        out = torch.empty(tuple(shape), dtype=torch.float32, device=generators[0].device)
    for place, one in zip(out.split(1) if per_image else [out], generators, strict=True):
        torch.randn(place.shape, generator=one, out=place)
    return out.to(device=device, dtype=dtype)
