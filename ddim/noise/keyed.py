"""Keyed noise: standard normal numbers that depend on (seed, image index, step, element index) alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_device, check_dtype, check_list
from ..errors import DDIMError, check_integer
from ..triton_support import kernels_run_on
from .images import words_on
from .operators import NUMPY, TORCH
from .philox import MAX_ELEMENTS, key_of_seed, normals

__all__ = ["DrawnAhead", "KeyedStep", "NoiseKey", "keyed_noise", "seed_from"]

MAX_IMAGES = 1 << 24  # of a batch; more are a mistake, and their indices would take all memory
_MAX_WORD = 0xFFFFFFFF
_AHEAD = 1 << 16  # elements to draw at once where an image is small: 256 KB


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
        images: which image of the run each row is, int64 array of shape ``(B,)``.
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
        if np.array_equal(self.images, np.arange(len(self.images))):
            return None
        return words_on(self.images.astype(np.uint32).tobytes(), self.device)

    def draw(self, steps: range) -> Tensor:
        """The noise of consecutive steps, float32, shape ``(len(steps), B, ...)``, made on the key's device.

        A kernel makes it where Triton runs, numpy's operators on the CPU and torch's operators anywhere else.
        """
        noise = torch.empty((len(steps), *self.shape), dtype=torch.float32, device=self.device)
        if kernels_run_on(self.device):
            from .triton_noise import write_noise  # imports Triton

            for step, target in zip(steps, noise, strict=True):
                write_noise(target, self.words, step, self.images_on_device)
        elif self.device.type == "cpu":
            rows = noise.view(-1, math.prod(self.shape[1:])).numpy() if noise.numel() else np.empty((0, 0), np.float32)
            each = np.arange(steps.start, steps.stop, dtype=np.int64)
            normals(self.words, np.tile(self.images, len(steps)), np.repeat(each, self.shape[0]), rows, NUMPY)
        else:
            draw_by_torch(noise, self.words, steps, self.images_on_device)
        return noise


@dataclass(frozen=True, eq=False)
class KeyedStep:
    """The keyed noise of one step, not drawn yet: a step's kernel draws it itself.

    Attributes:
        key: of the run.
        step: index of the step, in 0..2^32 - 1.
        ahead: where the noise of this step may be drawn already.
    """

    key: NoiseKey
    step: int
    ahead: DrawnAhead | None = None

    def draw(self) -> Tensor:
        """The noise, float32, on the key's device; not to be written to."""
        if self.ahead is not None and not kernels_run_on(self.key.device):
            return self.ahead.noise(self.key, self.step)
        return self.key.draw(range(self.step, self.step + 1))[0]


class DrawnAhead:
    """Noise of the next steps of a run. The operators of a draw cost more than their work where images are small.

    Args:
        end: one more than the index of the last step.
    """

    def __init__(self, end: int) -> None:
        self._end = end
        self._drawn: tuple[range, Tensor] | None = None

    def noise(self, key: NoiseKey, step: int) -> Tensor:
        """The noise of a step, drawn together with as many of the next as fit into 256 KB."""
        drawn = self._drawn
        if drawn is None or step not in drawn[0]:
            count = max(1, min(_AHEAD // max(1, math.prod(key.shape)), self._end - step))
            steps = range(step, step + count)
            drawn = self._drawn = (steps, key.draw(steps))
        return drawn[1][step - drawn[0].start]


def draw_by_torch(noise: Tensor, words: tuple[int, int], steps: range, images: Tensor | None) -> None:
    """Fill ``noise``, shape ``(len(steps), B, ...)``, by torch's operators on its own device, without waiting for it.

    Args:
        noise: float32, contiguous.
        words: the two key words.
        steps: consecutive indices.
        images: image numbers, int32 words, shape ``(B,)``; by default 0..B-1.
    """
    if not noise.numel():
        return
    batch, device = noise.shape[1], noise.device
    if images is None:
        numbers = torch.arange(batch, device=device)
    else:
        numbers = images.to(torch.int64) & _MAX_WORD
    each = torch.arange(steps.start, steps.stop, device=device)
    rows = noise.view(len(steps) * batch, -1)
    normals(words, numbers.repeat(len(steps)), each[:, None].expand(-1, batch).reshape(-1), rows, TORCH)


def _checked_images(rows: int, image_indices: Sequence[int] | None) -> np.ndarray:
    """Which image of the run each row of a batch is, int64."""
    if image_indices is None:
        return np.arange(rows, dtype=np.int64)
    indices = check_list("image_indices", image_indices)
    if len(indices) != rows:
        raise DDIMError(f"image_indices must name one image per row: {rows} expected, got {len(indices)}")
    return np.array([check_integer("each of image_indices", index, 0, _MAX_WORD) for index in indices], np.int64)
