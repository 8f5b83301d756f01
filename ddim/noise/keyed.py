"""Keyed noise: standard normal numbers that depend on (seed, image index, step, element index) alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_device, check_dtype, check_list
from ..errors import DDIMError, check_integer
from ..triton_support import kernels_run_on
from .philox import MAX_ELEMENTS, key_of_seed, normals

__all__ = ["KeyedStep", "NoiseKey", "keyed_noise", "seed_from"]

MAX_IMAGES = 1 << 24  # of a batch; more are a mistake, and their indices would take all memory
_MAX_WORD = 0xFFFFFFFF


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
    float32 values, cast last. ``noise/philox.py`` defines the numbers.

    Args:
        shape: ``(B, ...)``, at most 2^24 images of at most 2^34 elements.
        seed: any whole number.
        step: index of the step, in 0..2^32 - 1.
        image_indices: which image of the run each row is, in 0..2^32 - 1, length B; by default 0..B-1.
        device: of the result.
        dtype: of the result.

    Raises:
        DDIMError: for numbers out of range or indices that do not fit the batch.
    """
    sizes = tuple(check_integer("each size in shape", size, 0) for size in check_list("shape", shape))
    key = NoiseKey.of(sizes, seed, image_indices, check_device("device", device))
    return KeyedStep(key, check_integer("step", step, 0, _MAX_WORD)).draw().to(check_dtype("dtype", dtype))


def seed_from(x: Tensor) -> int:
    """A seed that follows from the bits of the first image of ``x``, shape ``(B, ...)``.

    A run that is keyed by its noisy start gets the same noise for the same start, and its first image the same in a
    batch of any size. Waits for the device of ``x``.
    """
    image = x[:1].detach().resolve_neg().contiguous().cpu().view(torch.uint8)
    return int.from_bytes(hashlib.blake2b(image.numpy().tobytes(), digest_size=7).digest(), "big")


@dataclass(frozen=True, eq=False)
class NoiseKey:
    """What the keyed noise of a run depends on, except for the step; checked once.

    Attributes:
        words: the two key words of the seed.
        images: which image of the run each row is, uint64 array of shape ``(B,)``.
        shape: of the noise, ``(B, ...)``.
        device: where it is drawn.
    """

    words: tuple[int, int]
    images: np.ndarray
    shape: tuple[int, ...]
    device: torch.device

    @classmethod
    def of(cls, shape: Sequence[int], seed: int, image_indices: Sequence[int] | None, device: torch.device) -> NoiseKey:
        """The key of a run of samples of ``shape``; arguments and errors as for :func:`keyed_noise`."""
        seed = check_integer("seed", seed, -math.inf)
        if not shape or shape[0] > MAX_IMAGES:
            raise DDIMError(
                f"keyed noise needs a shape (B, ...) of at most {MAX_IMAGES} images, got {tuple(shape)}; "
                "draw larger batches in parts, with image_indices"
            )
        if math.prod(shape[1:]) > MAX_ELEMENTS:
            raise DDIMError(f"keyed noise has at most {MAX_ELEMENTS} elements per image, got shape {tuple(shape)}")
        images = _checked_images(shape[0], image_indices)
        return cls(key_of_seed(seed), images, tuple(shape), device)

    @cached_property
    def images_on_device(self) -> Tensor | None:
        """``images`` as int32 words on the device, copied without waiting for it; None where they are 0..B-1."""
        if np.array_equal(self.images, np.arange(len(self.images), dtype=np.uint64)):
            return None
        return _words_on(self.images.astype(np.uint32).tobytes(), self.device)


@dataclass(frozen=True, eq=False)
class KeyedStep:
    """The keyed noise of one step, not drawn yet: a step's kernel draws it itself.

    Attributes:
        key: of the run.
        step: index of the step, in 0..2^32 - 1.
    """

    key: NoiseKey
    step: int

    def draw(self) -> Tensor:
        """The noise, float32, on the key's device."""
        if kernels_run_on(self.key.device):
            from .triton_noise import write_noise  # imports Triton

            noise = torch.empty(self.key.shape, dtype=torch.float32, device=self.key.device)
            write_noise(noise, self.key.words, self.step, self.key.images_on_device)
            return noise
        noise = torch.empty(self.key.shape, dtype=torch.float32, device="cpu")
        rows = noise.view(self.key.shape[0], math.prod(self.key.shape[1:])).numpy()
        normals(self.key.words, self.key.images, self.step, rows)
        return noise.to(self.key.device)


def _checked_images(rows: int, image_indices: Sequence[int] | None) -> np.ndarray:
    """Which image of the run each row of a batch is, uint64."""
    if image_indices is None:
        return np.arange(rows, dtype=np.uint64)
    indices = check_list("image_indices", image_indices)
    if len(indices) != rows:
        raise DDIMError(f"image_indices must name one image per row: {rows} expected, got {len(indices)}")
    return np.array([check_integer("each of image_indices", index, 0, _MAX_WORD) for index in indices], np.uint64)


@lru_cache(maxsize=32)  # so that a captured graph finds them on the device
def _words_on(words: bytes, device: torch.device) -> Tensor:
    there = torch.from_numpy(np.frombuffer(words, np.int32).copy())
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)
