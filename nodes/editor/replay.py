"""Step replay: the predicted clean image of every step of a run, small, on one sheet in the temp folder.

The message to the editor carries only the sheet's name and the steps' numbers. The sheet is limited in images, pixels
and bytes, so that a run of a thousand steps weighs no more than one of fifty.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...ddim import Schedule
from .payloads import evenly_spread, level_report

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_BYTES", "MAX_FRAMES", "MAX_IMAGES", "Replay"]

MAX_FRAMES = 48
MAX_IMAGES = 4  # of a batch, side by side
MAX_SIDE = {1: 128, 2: 96, 3: 64, 4: 64}  # longer side of one image in pixels, by how many are side by side
SHARP_SIDE = 32  # frames up to this height are stored as PNG: JPEG would blur single pixels
MAX_BYTES = 400_000
COLUMNS = 8

# Tried in this order until the sheet fits MAX_BYTES: format, options, file extension.
_ENCODINGS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("PNG", {"optimize": True}, "png"),
    *(("JPEG", {"quality": quality}, "jpg") for quality in (85, 70, 50, 30)),
)


@dataclass
class Replay:
    """Collects the steps of one run.

    Attributes:
        schedule: The schedule of the run.
        latent_to_rgb: Approximates the images in latents: ``(B, C, ...)`` to ``(B, 3, ...)`` in [-1, 1], or None.
        frames: Per stored step ``(index, frame)``; a frame is uint8 ``(H, W, 3)``.
    """

    schedule: Schedule
    latent_to_rgb: Callable[[Tensor], Tensor | None]
    frames: list[tuple[int, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stored_steps = frozenset(evenly_spread(len(self.schedule.plan), MAX_FRAMES))

    def add(self, index: int, x0: Tensor) -> None:
        """Store the predicted x_0 of a step, if it is one of those that are shown.

        Args:
            index: The step, from 0.
            x0: ``(B, C, H, W)``, or video ``(B, C, T, H, W)``, of which the middle frame is stored.
        """
        if index not in self._stored_steps:
            return
        rgb = self.latent_to_rgb(x0[:MAX_IMAGES])
        if rgb is not None and rgb.ndim in (4, 5):
            self.frames.append((index, _frame(rgb)))

    def sheets(self, folder: Path) -> list[dict[str, Any]]:
        """Write the sheet into ``folder`` and describe it: one entry, or none if no step was stored.

        Returns:
            ``sheet`` (file name, unique to its content), ``columns``, ``rows``, ``width`` and ``height`` of a frame,
            and ``frames``: per frame ``step`` (from 1), ``t``, ``alpha_bar``, ``log_snr``.
        """
        if not self.frames:
            return []
        frames = [frame for _, frame in self.frames]
        data, extension = _encode(_sheet(frames), sharp=frames[0].shape[0] <= SHARP_SIDE)
        name = f"ddim_replay_{hashlib.sha256(data).hexdigest()[:20]}.{extension}"
        _write_atomically(folder / name, data)
        columns = min(COLUMNS, len(frames))
        height, width = frames[0].shape[:2]
        sheet = {
            "sheet": name,
            "columns": columns,
            "rows": -(-len(frames) // columns),
            "width": width,
            "height": height,
            "steps": len(self.schedule.plan),
            "frames": [self._describe_step(index) for index, _ in self.frames],
        }
        return [sheet]

    def _describe_step(self, index: int) -> dict[str, Any]:
        return {"step": index + 1, **level_report(self.schedule.noise, self.schedule.plan.timesteps[index])}


def _frame(rgb: Tensor) -> Tensor:
    """Turn ``(B, 3, [T,] H, W)`` in [-1, 1] into one uint8 ``(H, W, 3)`` with the images side by side."""
    if rgb.ndim == 5:
        rgb = rgb[:, :, rgb.shape[2] // 2]
    images = rgb.detach().to("cpu", torch.float32).nan_to_num(0.0, 1.0, -1.0)
    shrink = max(images.shape[-2:]) / MAX_SIDE[len(images)]
    if shrink > 1:
        size = [max(1, round(side / shrink)) for side in images.shape[-2:]]
        images = interpolate(images, size=size, mode="area")
    row = torch.cat(list(images), dim=-1)
    return ((row.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _sheet(frames: list[Tensor]) -> Tensor:
    """Lay frames of one size in rows of COLUMNS, ``(rows * H, columns * W, 3)``."""
    columns = min(COLUMNS, len(frames))
    missing = -len(frames) % columns
    filled = [*frames, *[torch.zeros_like(frames[0])] * missing]
    rows = [torch.cat(filled[i : i + columns], dim=1) for i in range(0, len(filled), columns)]
    return torch.cat(rows, dim=0)


def _encode(sheet: Tensor, *, sharp: bool) -> tuple[bytes, str]:
    """Encode the sheet in the first way that fits MAX_BYTES, else in the last; only a sharp one may be a PNG."""
    from PIL import Image

    image = Image.fromarray(sheet.numpy())
    data, extension = b"", ""
    for file_format, options, file_extension in _ENCODINGS if sharp else _ENCODINGS[1:]:
        data, extension = _image_file(image, file_format, options), file_extension
        if len(data) <= MAX_BYTES:
            break
    return data, extension


def _image_file(image: Image, file_format: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _write_atomically(path: Path, data: bytes) -> None:
    """Write a file that the editor may request at any moment, also while it is written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(data)
    os.replace(partial, path)
