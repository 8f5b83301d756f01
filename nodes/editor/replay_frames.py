"""One frame of a step replay: the images of a batch in a grid, and the frames of a run for other nodes."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor

from ...ddim import DDIMError

__all__ = ["FrameLayout", "RunSteps"]

MAX_IMAGES = 16  # of a batch, in a frame
IN_A_ROW = 4  # images up to this number stand side by side
SIDES = ((1, 128), (2, 96), (4, 64), (MAX_IMAGES, 48))  # longer side of an image in pixels, up to so many in a frame


@dataclass(frozen=True)
class FrameLayout:
    """Which images of a batch a frame shows, and where.

    Attributes:
        of_images: Images in the batch.
        stride: Every how many-th of them is shown.
        images: How many are shown.
        columns: How many in a row.
        side: The longer side of one, in pixels, at most.
    """

    of_images: int
    stride: int
    images: int
    columns: int
    side: int

    @classmethod
    def of(cls, batch: int) -> FrameLayout:
        """Lay out the images of a batch, evenly spread ones of a large one."""
        stride = -(-batch // MAX_IMAGES)
        images = -(-batch // stride)
        columns = images if images <= IN_A_ROW else math.ceil(math.sqrt(2 * images))  # a node is wider than high
        return cls(batch, stride, images, columns, next(side for most, side in SIDES if images <= most))

    @property
    def rows(self) -> int:
        """How many rows of images a frame has."""
        return -(-self.images // self.columns)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the images that are shown, counted from 1."""
        return tuple(range(1, self.of_images + 1, self.stride))

    def compose(self, pictures: Tensor) -> Tensor:
        """Turn pictures ``(F * images, 3, h, w)`` in [-1, 1] into frames, uint8 ``(F, rows * h, columns * w, 3)``."""
        finite = pictures.float().nan_to_num(0.0, 1.0, -1.0)
        pixels = finite.clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
        _, channels, height, width = pixels.shape
        frames = pixels.reshape(-1, self.images, channels, height, width)
        empty = self.rows * self.columns - self.images
        if empty:
            frames = torch.cat([frames, frames.new_zeros((len(frames), empty, channels, height, width))], 1)
        laid = frames.reshape(-1, self.rows, self.columns, channels, height, width).permute(0, 1, 4, 2, 5, 3)
        return laid.reshape(-1, self.rows * height, self.columns * width, channels)

    def picture(self, frames: Tensor, number: int) -> Tensor:
        """Cut one image of the batch, counted from 1, out of frames ``(F, rows * h, columns * w, 3)``."""
        row, column = divmod(self.numbers.index(number), self.columns)
        height, width = frames.shape[1] // self.rows, frames.shape[2] // self.columns
        return frames[:, row * height : (row + 1) * height, column * width : (column + 1) * width]


@dataclass(frozen=True, eq=False)
class RunSteps:
    """The small pictures of the steps of one run: the value on a DDIM_STEPS socket.

    Attributes:
        made: Gives the frames of the run's replay, ``(F, H, W, 3)`` uint8 on the CPU; None if there are none.
        layout: Which images a frame shows, and where; None if no step was run.
    """

    made: Future[Tensor | None] | None
    layout: FrameLayout | None

    def pictures(self, image: int = 0) -> Tensor:
        """Return a frame for each step, uint8 ``(F, H, W, 3)``.

        Args:
            image: One image of the batch, counted from 1; 0 for all that the replay shows, in a grid.

        Raises:
            DDIMError: If the run has no pictures, or that image is not among them.
        """
        frames = None if self.made is None else self.made.result()
        if frames is None or self.layout is None:
            raise DDIMError(
                "the run has no pictures of its steps: how the colours of this MODEL's latents look is not known; use "
                "a MODEL that has live previews (latent2rgb)"
            )
        if image == 0:
            return frames
        numbers = self.layout.numbers
        if image not in numbers:
            raise DDIMError(
                f"image_number must be 0 (all) or one of {', '.join(map(str, numbers))}, the images of the batch of "
                f"{self.layout.of_images} that the replay shows, got {image}"
            )
        return self.layout.picture(frames, image)
