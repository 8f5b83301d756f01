"""Step replay: the predicted clean images of every step of a run, small, on one sheet in the temp folder.

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
from .replay_frames import FrameLayout, RunSteps
from .replay_sheet import COLUMNS, new_name, write_later

__all__ = ["MAX_FRAMES", "MAX_PICTURES", "Replay", "RunSteps"]

MAX_FRAMES = 48
MAX_PICTURES = 384  # on a sheet: all images of all frames
MAX_KEPT = 1 << 18  # numbers in latents that are kept as latents: half a megabyte a step


@dataclass
class Replay:
    """Collects the steps of one run, without waiting for the device: what is kept stays there until the end.

    Attributes:
        schedule: The schedule of the run.
        latent_to_rgb: Approximates the images in latents: ``(B, C, ...)`` to ``(B, 3, ...)`` in [-1, 1], on the same
            device, or None.
        steps: The indices of the steps that are kept.
        written: Gives the frames, ``(F, H, W, 3)`` uint8 on the CPU, once the sheet is in its folder; None before there
            is one.
    """

    schedule: Schedule
    latent_to_rgb: Callable[[Tensor], Tensor | None]
    steps: list[int] = field(default_factory=list)
    written: Future[Tensor | None] | None = None

    def __post_init__(self) -> None:
        self._layout: FrameLayout | None = None
        self._shown: frozenset[int] = frozenset()
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
        layout = self._layout or self._lay_out(len(x0))
        if index not in self._shown or x0.ndim not in (4, 5):
            return
        images = x0 if layout.stride == 1 else x0[:: layout.stride]
        latents = images if x0.ndim == 4 else images[:, :, x0.shape[2] // 2, None]
        self._are_pictures = latents.numel() > MAX_KEPT
        kept = self._small_pictures(latents, layout) if self._are_pictures else latents
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
            ``sheet`` (file name), ``columns``, ``rows``, ``width`` and ``height`` of a frame, ``steps`` of the run, and
            ``frames``: per frame ``step`` (from 1), ``t``, ``alpha_bar``, ``log_snr``. A frame shows ``images`` of the
            ``of_images`` images of the batch, those with ``image_numbers`` (from 1), ``image_columns`` in a row.
        """
        layout = self._layout
        first = None if self._kept is None or layout is None else self._pictures(self._kept[:1], layout)
        if first is None or layout is None:
            return []
        rows, columns = layout.rows, min(COLUMNS, len(self.steps))
        name = new_name(first.shape[2])
        self.written = write_later(folder / name, self._frames)
        sheet = {
            "sheet": name,
            "columns": columns,
            "rows": -(-len(self.steps) // columns),
            "width": layout.columns * first.shape[3],
            "height": rows * first.shape[2],
            "images": layout.images,
            "of_images": layout.of_images,
            "image_numbers": list(layout.numbers),
            "image_columns": layout.columns,
            "steps": len(self.schedule.plan),
            "frames": list(_described(self.schedule, tuple(self.steps))),
        }
        return [sheet]

    def frames(self) -> RunSteps:
        """Return the pictures of the steps, for a node that asks for them after :meth:`sheets`."""
        return RunSteps(self.written, self._layout)

    def _lay_out(self, batch: int) -> FrameLayout:
        self._layout = FrameLayout.of(batch)
        most = min(MAX_FRAMES, MAX_PICTURES // self._layout.images)
        self._shown = frozenset(evenly_spread(len(self.schedule.plan), most))
        return self._layout

    def _frames(self) -> Tensor:
        """Turn all that was kept into frames, uint8 ``(F, H, W, 3)`` on their device; the latents are let go of."""
        assert self._kept is not None and self._layout is not None
        pictures = self._pictures(self._kept[: len(self.steps)], self._layout)
        assert pictures is not None, "the first one had colours"
        self._kept, self._rows = None, ()
        return self._layout.compose(pictures)

    def _pictures(self, kept: Tensor, layout: FrameLayout) -> Tensor | None:
        """Return the small pictures of kept steps ``(F, images, ...)``, as ``(F * images, 3, h, w)``, or None."""
        rows = kept.flatten(0, 1)
        return rows if self._are_pictures else self._small_pictures(rows, layout)

    def _small_pictures(self, latents: Tensor, layout: FrameLayout) -> Tensor | None:
        """Return the pictures of latents, ``(N, 3, h, w)`` on their device, or None.

        Args:
            latents: ``(N, C, H, W)`` or ``(N, C, 1, H, W)``, of one step or of several.
            layout: How many of them a frame holds.
        """
        rgb = self.latent_to_rgb(latents)
        if rgb is None:
            return None
        pictures = rgb[:, :, 0] if rgb.ndim == 5 else rgb
        shrink = max(pictures.shape[-2:]) / layout.side
        if shrink <= 1:
            return pictures
        finite = pictures.nan_to_num(0.0, 1.0, -1.0)  # one NaN would spread over its neighbours
        return interpolate(finite, size=[max(1, round(side / shrink)) for side in finite.shape[-2:]], mode="area")


@lru_cache(maxsize=8)
def _described(schedule: Schedule, steps: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    """Return what the editor says of steps; kept for runs that differ in the seed alone."""
    timesteps = schedule.plan.timesteps
    return tuple({"step": index + 1, **level_report(schedule.noise, timesteps[index])} for index in steps)
