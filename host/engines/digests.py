"""What makes two results the same: SHA-256 of pictures as they look, and of jobs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable

from PIL import Image

from host.engines.contract import OutputFile
from host.pictures import PictureError, decoded_frames

__all__ = ["content_digest", "job_digest", "pixel_digest"]


def content_digest(data: bytes) -> str:
    """Return the digest of a file: of a picture, its frames' sizes, modes and pixels; of anything else, its bytes.

    Metadata and compression play no role for a picture. One that is damaged, or larger than `host.limits` allows,
    counts as anything else.
    """
    try:
        with decoded_frames(io.BytesIO(data)) as (_, frames):
            return pixel_digest(frames)
    except (PictureError, OSError, ValueError, SyntaxError, TypeError, KeyError):
        # Pillow finds damage also while it reads on to the next frame, and names it in many ways.
        return hashlib.sha256(data).hexdigest()


def pixel_digest(frames: Iterable[Image.Image]) -> str:
    """Return the digest of decoded pictures: of a picture's only frame, or of all frames of an animation."""
    digest = hashlib.sha256()
    for frame in frames:
        # Of a picture with a palette, the palette gives the pixels their meaning.
        picture = frame.convert("RGBA") if frame.mode in ("P", "PA") else frame
        digest.update(f"{picture.width} {picture.height} {picture.mode}\n".encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()


def job_digest(files: Iterable[OutputFile]) -> str:
    """Return the digest of a job: of the digests of its files that are kept, in order."""
    kept = "".join(f"{file.digest}\n" for file in files if file.type == "output")
    return hashlib.sha256(kept.encode()).hexdigest()
