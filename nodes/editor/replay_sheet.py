"""The sheet of a step replay: the pictures of all steps as one image file, made in the background.

Nobody has to wait for it: a run ends when its latents are there, and the editor, which is told the name of the file at
once, asks for it through :func:`serve_sheets`, which waits.
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backend import current
from .http import serve_file

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["COLUMNS", "MAX_BYTES", "lay_out", "new_name", "pending", "serve_sheets", "write_atomically", "write_later"]

MAX_BYTES = 400_000
SHARP_SIDE = 32  # pictures up to this height are stored as PNG: JPEG would blur single pixels
COLUMNS = 8
QUALITIES = (85, 70, 50, 30)  # of a JPEG, tried until it fits MAX_BYTES
COLOURS = 256  # of a PNG that would be too large otherwise: noise

_NAME = re.compile(r"ddim_replay_[0-9a-f]{20}\.(png|jpg)")

_log = logging.getLogger(__name__)
_worker = ThreadPoolExecutor(1, thread_name_prefix="ddim-replay")
_last: Future[Tensor | None] | None = None


def new_name(height: int) -> str:
    """Return a file name that no other run has, for a sheet of pictures of that height."""
    return f"ddim_replay_{secrets.token_hex(10)}.{'png' if height <= SHARP_SIDE else 'jpg'}"


def write_later(path: Path, frames: Callable[[], Tensor]) -> Future[Tensor | None]:
    """Make a sheet and write it, in the background; one at a time, so that quick runs never pile up latents.

    Args:
        path: Of the file; its name from :func:`new_name`.
        frames: Called in the background: uint8 ``(F, H, W, 3)``.

    Returns:
        The frames on the CPU, when the file is there; None if they could not be made. It never raises: a run does not
        fail for want of its replay.
    """
    global _last
    if _last is not None:
        _last.result()
    _last = _worker.submit(_write, path, frames)
    return _last


def pending() -> Future[Tensor | None] | None:
    """Return what tells when the last sheet is written; None before there is one."""
    return _last


@torch.inference_mode()
def _write(path: Path, frames: Callable[[], Tensor]) -> Tensor | None:
    made = None
    try:
        made = frames().cpu()
        write_atomically(path, _encode(lay_out(made, COLUMNS), sharp=path.suffix == ".png"))
    except Exception as error:
        _log.warning("the replay of a run could not be written to %s: %s", path, error)
    return made


def lay_out(frames: Tensor, columns: int) -> Tensor:
    """Lay frames ``(F, H, W, 3)`` in rows of ``columns``, ``(rows * H, columns * W, 3)``; missing ones are black."""
    count, height, width, channels = frames.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    filled = torch.cat([frames, frames.new_zeros((rows * columns - count, height, width, channels))])
    laid = filled.reshape(rows, columns, height, width, channels).permute(0, 2, 1, 3, 4)
    return laid.reshape(rows * height, columns * width, channels)


def _encode(sheet: Tensor, *, sharp: bool) -> bytes:
    """Return a PNG of a sharp sheet, a JPEG of another one: the first that fits MAX_BYTES, else the last."""
    from PIL import Image

    image = Image.fromarray(sheet.numpy())
    if sharp:
        data = _image_file(image, "PNG", {"optimize": True})
        return data if len(data) <= MAX_BYTES else _image_file(image.quantize(COLOURS), "PNG", {"optimize": True})
    data = b""
    for quality in QUALITIES:
        data = _image_file(image, "JPEG", {"quality": quality})
        if len(data) <= MAX_BYTES:
            break
    return data


def _image_file(image: Image, file_format: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that the editor may request at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def serve_sheets() -> None:
    """Serve sheets under GET ``/ddim/replay/NAME``; a request for one that is being made waits for it."""
    serve_file("/ddim/replay", lambda name: current().folder("temp") / name if _NAME.fullmatch(name) else None)
