"""Step replay: the predicted clean image of every step of a run, small, on one sheet in the temp folder.

The message to the editor carries only the sheet's name and the steps' numbers. The sheet is limited in images, pixels
and bytes, so that a run of a thousand steps weighs no more than one of fifty.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...ddim import Schedule
from .payloads import evenly_spread, level_report
from .replay_sheet import COLUMNS, new_name, write_later

__all__ = ["MAX_FRAMES", "MAX_IMAGES", "Replay"]

MAX_FRAMES = 48
MAX_IMAGES = 4  # of a batch, side by side
MAX_SIDE = {1: 128, 2: 96, 3: 64, 4: 64}  # longer side of one image in pixels, by how many are side by side
MAX_KEPT = 1 << 18  # numbers in latents that are kept as latents: half a megabyte a step


@dataclass
class Replay:
    """Collects the steps of one run, without waiting for the device: what is kept stays there until the end.

    Attributes:
        schedule: The schedule of the run.
        latent_to_rgb: Approximates the images in latents: ``(B, C, ...)`` to ``(B, 3, ...)`` in [-1, 1], on the same
            device, or None.
        steps: The indices of the steps that are kept.
        written: Tells when the sheet is in its folder; None before there is one.
    """

    schedule: Schedule
    latent_to_rgb: Callable[[Tensor], Tensor | None]
    steps: list[int] = field(default_factory=list)
    written: Future[None] | None = None

    def __post_init__(self) -> None:
        self._shown = frozenset(evenly_spread(len(self.schedule.plan), MAX_FRAMES))
        # Per step the latents, or of large ones the small pictures; float16, on their device. One tensor for all steps:
        # a step that kept its own x_0 would make the next one take memory that is new to the process, and slow.
        self._kept: Tensor | None = None
        self._rows: tuple[Tensor, ...] = ()  # of it, one per step
        self._are_pictures = False

    def add(self, index: int, x0: Tensor) -> None:
        """Keep a copy of the predicted x_0 of a step, if it is one of those that are shown.

        Args:
            index: The step, from 0.
            x0: ``(B, C, H, W)``, or video ``(B, C, T, H, W)``, of which the middle frame is shown.
        """
        if index not in self._shown or x0.ndim not in (4, 5):
            return
        images = x0 if len(x0) <= MAX_IMAGES else x0[:MAX_IMAGES]
        latents = images if x0.ndim == 4 else images[:, :, x0.shape[2] // 2, None]
        self._are_pictures = latents.numel() > MAX_KEPT
        kept = self._small_pictures(latents, len(latents)) if self._are_pictures else latents
        if kept is None:
            return
        if self._kept is None:
            self._kept = kept.new_empty((len(self._shown), *kept.shape), dtype=torch.float16)
            self._rows = self._kept.unbind()
        self._rows[len(self.steps)].copy_(kept)
        self.steps.append(index)

    def sheets(self, folder: Path) -> list[dict[str, Any]]:
        """Describe the sheet, one entry, or none if no step was kept; ``folder`` gets it a moment later.

        Returns:
            ``sheet`` (file name), ``columns``, ``rows``, ``width`` and ``height`` of a frame, and ``frames``: per frame
            ``step`` (from 1), ``t``, ``alpha_bar``, ``log_snr``.
        """
        first = None if self._kept is None else self._pictures(self._kept[:1])
        if first is None:
            return []
        images, _, height, width = first.shape
        name, columns = new_name(height), min(COLUMNS, len(self.steps))
        self.written = write_later(folder / name, self._frames)
        sheet = {
            "sheet": name,
            "columns": columns,
            "rows": -(-len(self.steps) // columns),
            "width": images * width,
            "height": height,
            "steps": len(self.schedule.plan),
            "frames": list(_described(self.schedule, tuple(self.steps))),
        }
        return [sheet]

    def _frames(self) -> Tensor:
        """Turn all that was kept into frames, uint8 ``(F, H, W, 3)`` on their device."""
        assert self._kept is not None
        pictures = self._pictures(self._kept[: len(self.steps)])
        assert pictures is not None, "the first one had colours"
        return _side_by_side(pictures, self._kept.shape[1])

    def _pictures(self, kept: Tensor) -> Tensor | None:
        """Return the small pictures of kept steps ``(F, images, ...)``, as ``(F * images, 3, h, w)``, or None."""
        rows = kept.flatten(0, 1)
        return rows if self._are_pictures else self._small_pictures(rows, kept.shape[1])

    def _small_pictures(self, latents: Tensor, images: int) -> Tensor | None:
        """Return the pictures of latents, ``(N, 3, h, w)`` on their device, or None.

        Args:
            latents: ``(N, C, H, W)`` or ``(N, C, 1, H, W)``, of one step or of several.
            images: How many will be side by side.
        """
        rgb = self.latent_to_rgb(latents)
        if rgb is None:
            return None
        pictures = rgb[:, :, 0] if rgb.ndim == 5 else rgb
        shrink = max(pictures.shape[-2:]) / MAX_SIDE[images]
        if shrink <= 1:
            return pictures
        finite = pictures.nan_to_num(0.0, 1.0, -1.0)  # one NaN would spread over its neighbours
        return interpolate(finite, size=[max(1, round(side / shrink)) for side in finite.shape[-2:]], mode="area")


@lru_cache(maxsize=8)
def _described(schedule: Schedule, steps: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    """Return what the editor says of steps; kept for runs that differ in the seed alone."""
    timesteps = schedule.plan.timesteps
    return tuple({"step": index + 1, **level_report(schedule.noise, timesteps[index])} for index in steps)


def _side_by_side(pictures: Tensor, images: int) -> Tensor:
    """Turn pictures ``(F * images, 3, H, W)`` in [-1, 1] into frames, uint8 ``(F, H, images * W, 3)``."""
    finite = pictures.float().nan_to_num(0.0, 1.0, -1.0)
    pixels = finite.clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
    _, channels, height, width = pixels.shape
    rows = pixels.reshape(-1, images, channels, height, width).permute(0, 3, 1, 4, 2)
    return rows.reshape(-1, height, images * width, channels)
