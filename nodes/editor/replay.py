"""Step replay: the predicted clean picture of every step of a run, small, on one sheet in the temp folder.

The message to the editor carries only the sheet's name and the steps' numbers; the sheet is capped in pictures, pixels
and bytes, so that a run of a thousand steps weighs no more than one of fifty.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..ddim import Schedule
from .ui_payloads import finite, thinned

__all__ = ["MAX_BYTES", "MAX_FRAMES", "MAX_IMAGES", "Replay"]

MAX_FRAMES = 48
MAX_IMAGES = 4  # of a batch, side by side
MAX_SIDE = {1: 128, 2: 96, 3: 64, 4: 64}  # longer side of one picture, by how many stand side by side
SMALL = 32  # pictures up to this height are kept as PNG: JPEG would smear single pixels
MAX_BYTES = 400_000
COLUMNS = 8


@dataclass
class Replay:
    """Collects the steps of one run.

    Attributes:
        schedule: the run's.
        pictures: roughly what latents show: ``(B, C, ...)`` to ``(B, 3, ...)`` in [-1, 1], or None.
        frames: per kept step ``(index, picture)``; a picture is uint8 ``(H, W, 3)``.
    """

    schedule: Schedule
    pictures: Callable[[Tensor], Tensor | None]
    frames: list[tuple[int, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kept = frozenset(thinned(len(self.schedule.plan), MAX_FRAMES))

    def add(self, index: int, x0: Tensor) -> None:
        """Keep the predicted x_0 of a step, if it is one of those that are kept.

        Args:
            index: of the step, from 0.
            x0: ``(B, C, H, W)``, or with frames ``(B, C, T, H, W)``, of which the middle one is kept.
        """
        shown = self.pictures(x0[:MAX_IMAGES]) if index in self._kept else None
        if shown is not None and shown.ndim in (4, 5):
            self.frames.append((index, _picture(shown)))

    def sheets(self, folder: str | os.PathLike) -> list[dict[str, Any]]:
        """Write the sheet into ``folder`` and say what is on it: one entry, or none where no step was kept.

        Returns:
            ``sheet`` (file name, unique to its content), ``columns``, ``rows``, ``width`` and ``height`` of a picture,
            and ``frames``: per picture ``step`` (from 1), ``t``, ``alpha_bar``, ``log_snr``.
        """
        if not self.frames:
            return []
        pictures = [picture for _, picture in self.frames]
        data, kind = _encoded(_sheet(pictures), sharp=pictures[0].shape[0] <= SMALL)
        name = f"ddim_replay_{hashlib.sha256(data).hexdigest()[:20]}.{kind}"
        _write(Path(folder) / name, data)
        columns = min(COLUMNS, len(pictures))
        height, width = pictures[0].shape[:2]
        sheet = {
            "sheet": name,
            "columns": columns,
            "rows": -(-len(pictures) // columns),
            "width": width,
            "height": height,
            "steps": len(self.schedule.plan),
            "frames": [self._facts(index) for index, _ in self.frames],
        }
        return [sheet]

    def _facts(self, index: int) -> dict[str, Any]:
        t, noise = self.schedule.plan.timesteps[index], self.schedule.noise
        return {
            "step": index + 1,
            "t": t,
            "alpha_bar": finite(noise.alpha_bar_at(t)),
            "log_snr": finite(noise.log_snr_at(t)),
        }


def _picture(rgb: Tensor) -> Tensor:
    """(B, 3, [T,] H, W) in [-1, 1] to one uint8 (H, W, 3) of the first images side by side."""
    if rgb.ndim == 5:
        rgb = rgb[:, :, rgb.shape[2] // 2]
    images = rgb.detach().to("cpu", torch.float32).nan_to_num(0.0, 1.0, -1.0)
    shrink = max(images.shape[-2:]) / MAX_SIDE[len(images)]
    if shrink > 1:
        size = [max(1, round(side / shrink)) for side in images.shape[-2:]]
        images = interpolate(images, size=size, mode="area")
    row = torch.cat(list(images), dim=-1)
    return ((row.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _sheet(pictures: list[Tensor]) -> Tensor:
    """Pictures of one size in rows of COLUMNS, (rows * H, columns * W, 3)."""
    columns = min(COLUMNS, len(pictures))
    missing = -len(pictures) % columns
    filled = [*pictures, *[torch.zeros_like(pictures[0])] * missing]
    rows = [torch.cat(filled[i : i + columns], dim=1) for i in range(0, len(filled), columns)]
    return torch.cat(rows, dim=0)


_FORMS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("PNG", {"optimize": True}, "png"),
    *(("JPEG", {"quality": quality}, "jpg") for quality in (85, 70, 50, 30)),
)


def _encoded(sheet: Tensor, *, sharp: bool) -> tuple[bytes, str]:
    """The sheet in the first form that fits MAX_BYTES, and the file's ending; only a sharp one may be a PNG."""
    from PIL import Image

    image = Image.fromarray(sheet.numpy())
    result = b"", ""
    for kind, options, ending in _FORMS if sharp else _FORMS[1:]:
        result = _saved(image, kind, options), ending
        if len(result[0]) <= MAX_BYTES:
            break
    return result


def _saved(image: Any, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: the editor may ask for the file while it is written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(data)
    os.replace(partial, path)
