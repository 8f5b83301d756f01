"""Pictures of emoji: Fluent Emoji 3D on white paper, 32x32 pixels, each with its Unicode name.

The pictures are those of the npm package @lobehub/fluent-emoji-3d 1.1.0 (MIT), drawn by Microsoft. Taken are all whose
file names a single code point that has a name in Unicode 14, the version of Python 3.11. They are needed to train and
to measure the model, never to use it; those that are held out are kept in one small file, which
``python -m demo.emoji.pictures`` writes again.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import unicodedata
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from .archive import fetch_archive
from .held_out import HELD_OUT, IMAGE_SIZE, SHEET
from .tints import TINTS, in_tint

__all__ = ["IMAGE_SIZE", "EmojiPictures", "held_out_pairs", "load_pictures", "pictures_hash", "with_tints"]

AFTER_UNICODE_14 = frozenset(
    [0x1F6DC, *range(0x1FA75, 0x1FA78), 0x1FA87, 0x1FA88, *range(0x1FAAD, 0x1FAB0), *range(0x1FABB, 0x1FABE)]
    + [0x1FABF, 0x1FACE, 0x1FACF, 0x1FADA, 0x1FADB, 0x1FAE8, 0x1FAF7, 0x1FAF8]
)
VARIATION_SELECTOR = 0xFE0F  # "as a picture": no part of the name
ONE_PAIR_IN = 10
PAIRS_SEED = 1907


@dataclass(frozen=True)
class EmojiPictures:
    """Pictures and their names.

    Attributes:
        names: N Unicode names in lower case, sorted.
        pixels: (N, 3, 32, 32) uint8, red, green, blue.
    """

    names: tuple[str, ...]
    pixels: Tensor

    def only(self, held_out: bool) -> EmojiPictures:
        """Return the pictures that are held out, or those that are not."""
        chosen = [i for i, name in enumerate(self.names) if (name in HELD_OUT) == held_out]
        return EmojiPictures(tuple(self.names[i] for i in chosen), self.pixels[chosen])


def load_pictures(archive: Path | None = None) -> EmojiPictures:
    """Read all pictures, those that are held out among them.

    Args:
        archive: The package's .tgz file; None to fetch it from the npm registry, once.

    Raises:
        RuntimeError: Python is older than 3.11, whose Unicode names fewer characters.
        ValueError: The archive is not the package.
    """
    found: dict[str, Tensor] = {}
    with tarfile.open(fileobj=BytesIO(fetch_archive(archive)), mode="r:gz") as opened:
        for member in sorted(opened.getmembers(), key=lambda member: member.name):
            name = _unicode_name(Path(member.name))
            content = opened.extractfile(member) if name else None
            if name and content and name not in found:
                found[name] = _pixels(content.read())
    names = tuple(sorted(found))
    return EmojiPictures(names, torch.stack([found[name] for name in names]))


def _unicode_name(file: Path) -> str | None:
    """Return the name of the character that a file such as assets/1f42f.webp shows; None for a sequence of several."""
    if file.suffix != ".webp":
        return None
    points = [int(point, 16) for point in file.stem.split("-")]
    points = [point for point in points if point != VARIATION_SELECTOR]
    if len(points) != 1 or points[0] in AFTER_UNICODE_14:
        return None
    name = unicodedata.name(chr(points[0]), None)
    if name is None:
        raise RuntimeError(
            f"Python must know Unicode 14 or later to name the pictures, this one knows {unicodedata.unidata_version}; "
            "use Python 3.11 or later"
        )
    return name.lower()


def _pixels(content: bytes) -> Tensor:
    """Decode a picture, put it on a white square, and average it down to (3, 32, 32) uint8."""
    import numpy as np
    from PIL import Image

    drawn = Image.open(BytesIO(content)).convert("RGBA")
    side = max(drawn.size)  # a few pictures are higher than wide
    paper = Image.new("RGBA", (side, side), "white")
    paper.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    small = paper.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


def with_tints(pixels: Tensor) -> Tensor:
    """Draw every picture in its own colours and in each tint.

    Args:
        pixels: (N, 3, 32, 32) uint8.

    Returns:
        (N, 8, 3, 32, 32) uint8: its own colours first, then the tints in the order of `TINTS`.
    """
    own = pixels.double() / 255.0
    shades = [(in_tint(own, tint) * 255.0).round().to(torch.uint8) for tint in TINTS]
    return torch.stack([pixels, *shades], dim=1)


def held_out_pairs(pictures: int) -> Tensor:
    """Return which pairs of picture and tint are never shown in training: one in ten, at random.

    Args:
        pictures: Number of pictures N of the training.

    Returns:
        (N, 7) bool.
    """
    order = torch.randperm(pictures * len(TINTS), generator=torch.Generator().manual_seed(PAIRS_SEED))
    return (order < len(order) // ONE_PAIR_IN).reshape(pictures, len(TINTS))


def pictures_hash(pictures: EmojiPictures) -> str:
    """Compute a SHA-256 of names and pixels, to identify the data in the weight file."""
    digest = hashlib.sha256(json.dumps(pictures.names).encode())
    digest.update(pictures.pixels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_held_out() -> None:
    """Write the held-out pictures side by side, in the order of `HELD_OUT`."""
    from PIL import Image

    pictures = load_pictures()
    row = torch.cat([pictures.pixels[pictures.names.index(name)] for name in HELD_OUT], dim=2)
    Image.fromarray(row.permute(1, 2, 0).numpy()).save(SHEET, optimize=True)


if __name__ == "__main__":
    write_held_out()
