"""Opening picture files, which are untrusted input: the format and the size are checked before anything is decoded."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from host.limits import MAX_PICTURE_FRAMES, MAX_PICTURE_PIXELS

__all__ = ["UPLOAD_FORMATS", "PictureError", "decoding_slot", "frame_count", "open_picture"]

# Pillow tries every decoder that it has unless it is told which ones. Some of them start programs: its EPS decoder
# hands the file, which is a PostScript program, to Ghostscript.
UPLOAD_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
_READ_FORMATS = (*UPLOAD_FORMATS, "AVIF", "ICO")

_LARGE_PIXELS = 4 << 20
_large_pictures = threading.Lock()

# Pillow lets through whatever a damaged file leads to: OSError, SyntaxError, TypeError, KeyError, struct.error, ...
_DECODE_ERRORS = (Exception,)


class PictureError(ValueError):
    """A file is not a picture in an accepted format, is damaged, or has too many pixels."""


def open_picture(path: Path, formats: tuple[str, ...] = _READ_FORMATS) -> Image.Image:
    """Open a picture and check its size. The pixels are not decoded yet.

    Args:
        path: The file.
        formats: Pillow's names of the accepted formats. What the file is called plays no role.

    Raises:
        PictureError: The file is in another format, is damaged, or has more than `MAX_PICTURE_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=_known(formats))
    except _DECODE_ERRORS as error:
        raise PictureError(f"the file is not a picture that can be decoded ({', '.join(formats)})") from error
    try:
        _check_size(image)
    except BaseException:
        image.close()
        raise
    return image


def frame_count(image: Image.Image) -> int:
    """Return the number of frames, 1 for a picture that is not animated. Raises PictureError for a damaged file."""
    try:
        return int(getattr(image, "n_frames", 1))
    except _DECODE_ERRORS as error:
        raise PictureError("the frames of the picture cannot be counted") from error


def _check_size(image: Image.Image) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PICTURE_PIXELS:
        raise PictureError(f"the picture has {pixels} pixels; at most {MAX_PICTURE_PIXELS} are accepted")
    frames = frame_count(image)
    if frames > MAX_PICTURE_FRAMES or frames * pixels > MAX_PICTURE_PIXELS:
        raise PictureError(
            f"the picture has {frames} frames of {pixels} pixels; at most {MAX_PICTURE_FRAMES} frames with "
            f"{MAX_PICTURE_PIXELS} pixels in all of them together are accepted"
        )


def _known(formats: tuple[str, ...]) -> list[str]:
    """Return the formats that this Pillow can read: an old one has no AVIF."""
    Image.init()
    return [name for name in formats if name in Image.OPEN]


@contextmanager
def decoding_slot(image: Image.Image) -> Iterator[None]:
    """Let one large picture after another be decoded, so that many at once do not fill the memory."""
    if image.width * image.height <= _LARGE_PIXELS:
        yield
        return
    with _large_pictures:
        yield
