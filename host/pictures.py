"""Opening picture files, which are untrusted input: the format and the size are checked before anything is decoded."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, ImageSequence

from host.limits import MAX_ANIMATION_PIXELS, MAX_PICTURE_FRAMES, MAX_PICTURE_PIXELS

__all__ = ["READ_FORMATS", "UPLOAD_FORMATS", "PictureError", "decoded_frames", "decoded_picture", "open_picture"]

# Pillow tries every decoder that it has unless it is told which ones. Some of them start programs: its EPS decoder
# hands the file, which is a PostScript program, to Ghostscript.
UPLOAD_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
READ_FORMATS = (*UPLOAD_FORMATS, "AVIF", "ICO")

_LARGE_PIXELS = 4 << 20
_large_pictures = threading.Lock()

# Pillow lets through whatever a damaged file leads to: OSError, SyntaxError, TypeError, KeyError, struct.error, ...
_DECODE_ERRORS = (Exception,)


class PictureError(ValueError):
    """A file is not a picture in an accepted format, is damaged, or has too many pixels."""


def open_picture(path: Path | BinaryIO, formats: tuple[str, ...] = READ_FORMATS) -> ImageFile.ImageFile:
    """Open a picture and check its size. The pixels are not decoded yet.

    Args:
        path: The file, or what `io.BytesIO` makes of its content.
        formats: Pillow's names of the accepted formats. What the file is called plays no role.

    Raises:
        PictureError: The file is in another format, is damaged, or has more pixels or frames than `host.limits` allows.
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


@contextmanager
def decoded_picture(path: Path | BinaryIO, formats: tuple[str, ...] = READ_FORMATS) -> Iterator[Image.Image]:
    """Open and decode a picture's first frame, for the block. Large pictures are decoded one after another.

    Raises:
        PictureError: As `open_picture`, or the file is truncated.
    """
    file = open_picture(path, formats)
    with _decoding_slot(file.width * file.height):
        picture = _decoded_copy(file)
        del file  # the decoders of WebP and AVIF hold 8 more bytes for each pixel for as long as it exists
        yield picture


def _decoded_copy(file: ImageFile.ImageFile) -> Image.Image:
    with file:
        try:
            file.load()
        except _DECODE_ERRORS as error:
            raise PictureError("the file is not a picture that can be decoded") from error
        picture = file.copy()
        picture.format = file.format
        return picture


@contextmanager
def decoded_frames(path: Path | BinaryIO) -> Iterator[tuple[int, Iterator[Image.Image]]]:
    """Open a picture for the block: the number of its frames, and the frames, each decoded when it is used.

    Raises:
        PictureError: As `decoded_picture`.
    """
    with open_picture(path) as file:
        count, pixels = _frame_count(file), file.width * file.height
        if count > 1:
            with _decoding_slot(count * pixels):
                yield count, iter(ImageSequence.Iterator(file))
            return
    with decoded_picture(path) as picture:
        yield 1, iter([picture])


def _frame_count(image: Image.Image) -> int:
    """Return the number of frames, 1 for a picture that is not animated. Raises PictureError for a damaged file."""
    if image.format == "MPO":  # further frames are a camera's previews and depth maps
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except _DECODE_ERRORS as error:
        raise PictureError("the frames of the picture cannot be counted") from error


def _check_size(image: Image.Image) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PICTURE_PIXELS:
        raise PictureError(f"the picture has {pixels} pixels; at most {MAX_PICTURE_PIXELS} are accepted")
    frames = _frame_count(image)
    if frames > 1 and (frames > MAX_PICTURE_FRAMES or frames * pixels > MAX_ANIMATION_PIXELS):
        raise PictureError(
            f"the picture has {frames} frames of {pixels} pixels; at most {MAX_PICTURE_FRAMES} frames with "
            f"{MAX_ANIMATION_PIXELS} pixels in all of them together are accepted"
        )


def _known(formats: tuple[str, ...]) -> list[str]:
    """Return the formats that this Pillow can read: an old one has no AVIF."""
    Image.init()
    return [name for name in formats if name in Image.OPEN]


@contextmanager
def _decoding_slot(pixels: int) -> Iterator[None]:
    """Let one large picture after another be decoded, so that many at once do not fill the memory."""
    if pixels <= _LARGE_PIXELS:
        yield
        return
    with _large_pictures:
        yield
