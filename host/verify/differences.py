"""What differs between two pictures, and between two descriptions of what made them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from host.pictures import PictureError, decoded_frames

__all__ = ["Fact", "IncomparableError", "PixelDifference", "compare_pixels", "differing_facts"]

_ROWS = 256  # compared at once: copies of a whole picture would be large
_SCALES = {"1": 1, "I": 65535, "I;16": 65535, "I;16B": 65535}  # the largest value of a channel, where it is not 255
_MAX_FACT_DEPTH = 8


class IncomparableError(Exception):
    """Two pictures have different shapes. The message says which."""


@dataclass(frozen=True, order=True)
class PixelDifference:
    """How two pictures of one shape differ. The smaller one is the nearer one.

    Attributes:
        pixels: How many pixels differ.
        largest: The largest difference of a channel.
        total: How many pixels there are.
        scale: The largest value of a channel.
    """

    pixels: int
    largest: int
    total: int
    scale: int

    def __str__(self) -> str:
        verb = "differs" if self.pixels == 1 else "differ"
        return f"{self.pixels} of {self.total} pixels {verb} by at most {self.largest} of {self.scale}"


def compare_pixels(old: bytes, new: bytes) -> PixelDifference:
    """Compare two picture files.

    Raises:
        IncomparableError: They differ in size, mode or number of frames, or one is no picture.
    """
    try:
        with (
            decoded_frames(io.BytesIO(old)) as (old_count, old_frames),
            decoded_frames(io.BytesIO(new)) as (new_count, new_frames),
        ):
            if old_count != new_count:
                raise IncomparableError(f"it has {old_count} frames, and the run gives {new_count}")
            parts = [_compare_frames(*pair) for pair in zip(old_frames, new_frames, strict=True)]
    except (PictureError, OSError, ValueError, SyntaxError) as error:
        raise IncomparableError(f"it cannot be decoded: {error}") from error
    return PixelDifference(
        sum(part.pixels for part in parts),
        max(part.largest for part in parts),
        sum(part.total for part in parts),
        parts[0].scale,
    )


def _compare_frames(old: Image.Image, new: Image.Image) -> PixelDifference:
    old, new = (picture.convert("RGBA") if picture.mode in ("P", "PA") else picture for picture in (old, new))
    shapes = [f"{picture.mode} {picture.width}x{picture.height}" for picture in (old, new)]
    if shapes[0] != shapes[1]:
        raise IncomparableError(f"it is {shapes[0]}, and the run gives {shapes[1]}")
    pixels = largest = 0
    for top in range(0, old.height, _ROWS):
        box = (0, top, old.width, min(top + _ROWS, old.height))
        rows = [np.asarray(picture.crop(box)).astype(np.int64) for picture in (old, new)]
        difference = np.abs(rows[0] - rows[1])
        by_pixel = difference.reshape(*difference.shape[:2], -1).max(axis=-1)
        pixels += int(np.count_nonzero(by_pixel))
        largest = max(largest, int(by_pixel.max()))
    return PixelDifference(pixels, largest, old.width * old.height, _SCALES.get(old.mode, 255))


class Fact(NamedTuple):
    """A fact that two environments do not share; None where one does not have it."""

    name: str
    old: Any
    new: Any


def differing_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Fact]:
    """Return what differs between two environments; see `environment.describe`. The names have dots between levels."""
    before, after = _flat(old), _flat(new)
    names = [*before, *(name for name in after if name not in before)]
    return [Fact(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _flat(value: Any, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Return the leaves of nested objects and lists by their dotted names."""
    if depth == _MAX_FACT_DEPTH or not isinstance(value, (dict, list)):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    # A list of one is shown without its index: most have one device and one pack.
    single = isinstance(value, list) and len(value) == 1
    leaves: dict[str, Any] = {}
    for key, item in items:
        name = prefix if single else f"{prefix}.{key}" if prefix else str(key)
        leaves |= _flat(item, name, depth + 1)
    return leaves
