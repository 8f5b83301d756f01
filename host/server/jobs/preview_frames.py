"""Previews as binary WebSocket frames, in ComfyUI's two encodings."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

from PIL import Image

__all__ = ["encode_image", "plain_frame", "tagged_frame"]

_PLAIN, _TAGGED = 1, 4  # the frame's type, its first big-endian word
_FORMATS = {"JPEG": 1, "PNG": 2}  # the second word of a plain frame
_MIME_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png"}


def encode_image(image: Image.Image, image_format: str, max_size: int | None) -> bytes:
    """Return the picture as a file, no wider or higher than `max_size` (None: unchanged)."""
    if max_size is not None and max(image.size) > max_size:
        image = image.copy()
        image.thumbnail((max_size, max_size), Image.Resampling.BILINEAR)
    if image_format == "JPEG" and image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, quality=95, compress_level=1)
    return buffer.getvalue()


def plain_frame(image_format: str, data: bytes) -> bytes:
    """Return a frame of type 1: the picture alone, shown on whichever node runs."""
    return struct.pack(">II", _PLAIN, _FORMATS[image_format]) + data


def tagged_frame(image_format: str, data: bytes, node: dict[str, Any]) -> bytes:
    """Return a frame of type 4: the picture with its node, for clients that announced `supports_preview_metadata`."""
    metadata = json.dumps({**node, "image_type": _MIME_TYPES[image_format]}).encode()
    return struct.pack(">II", _TAGGED, len(metadata)) + metadata + data
