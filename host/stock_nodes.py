"""LoadImage, SaveImage and PreviewImage, which graphs of every pack use. They behave as in ComfyUI."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import string
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from host.atomic_files import claim_number, flush_to_disk, temporary_file
from host.context import folders
from host.folders import SavePath
from host.pictures import decoded_frames
from host.strict_json import dumps

__all__ = ["LoadImage", "PreviewImage", "SaveImage"]

log = logging.getLogger(__name__)

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ico"})
_STRIP_PIXELS = 1 << 18
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels
_EMPTY_MASK_SIZE = 64  # the side of the all-zero mask of a picture without alpha channel


class SaveImage:
    """Save pictures as PNG in the output folder, with the prompt and the workflow that made them."""

    folder_type = "output"
    compress_level = 4

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Declare the pictures and the files' name."""
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The pictures to write, one file each."}),
                "filename_prefix": (
                    "STRING",
                    {
                        "default": "ComfyUI",
                        "tooltip": "The name of the files; a number is added, a slash makes a folder. "
                        "%date:yyyy-MM-dd% or %KSampler.seed% are replaced by values.",
                    },
                ),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"
    ESSENTIALS_CATEGORY = "Basics"
    DESCRIPTION = "Writes pictures into the output folder, each with the workflow that made it."
    SEARCH_ALIASES = ["save", "export", "write picture"]

    def save_images(
        self,
        images: torch.Tensor,
        filename_prefix: str = "ComfyUI",
        prompt: Any = None,
        extra_pnginfo: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Save each picture of the batch.

        Args:
            images: (B, H, W, C) in [0, 1], with C = 1, 3 or 4.
            filename_prefix: Name and sub-folder; see `Folders.save_image_path`.
            prompt: The prompt, stored in the file.
            extra_pnginfo: Further metadata by name, e.g. the editor's workflow.
        """
        if images.ndim != 4 or images.shape[-1] not in _MODES:
            raise ValueError(f"images must have shape (B, H, W, C) with 1, 3 or 4 channels, got {tuple(images.shape)}")
        target = folders().save_image_path(filename_prefix, self.folder_type, images.shape[2], images.shape[1])
        metadata = _metadata(prompt, extra_pnginfo)
        counter, saved = target.counter, []
        for index, image in enumerate(images):
            name = target.name.replace("%batch_num%", str(index))
            path, taken = _save_png(
                _to_pil(image), target._replace(name=name, counter=counter), metadata, self.compress_level
            )
            counter = taken + 1
            saved.append({"filename": path.name, "subfolder": target.subfolder, "type": self.folder_type})
        return {"ui": {"images": saved}, "result": (images,)}


class PreviewImage(SaveImage):
    """Show pictures without keeping them: they are saved in the temp folder."""

    folder_type = "temp"
    compress_level = 1

    def __init__(self) -> None:
        letters = random.Random(uuid.uuid4().int)  # its own generator: the global one is for users' seeds
        self._suffix = "_temp_" + "".join(letters.choices(string.ascii_lowercase, k=5))

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Declare the pictures."""
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    DESCRIPTION = "Shows pictures without keeping them."
    SEARCH_ALIASES = ["preview", "show picture", "view"]

    def save_images(
        self,
        images: torch.Tensor,
        filename_prefix: str = "ComfyUI",
        prompt: Any = None,
        extra_pnginfo: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Save each picture of the batch under a name that belongs to this node alone."""
        return super().save_images(images, filename_prefix + self._suffix, prompt, extra_pnginfo)


class LoadImage:
    """Load a picture from the input folder."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Declare the choice among the pictures of the input folder."""
        folder = folders().input
        files = sorted(entry.name for entry in folder.iterdir() if _is_image(entry)) if folder.is_dir() else []
        return {"required": {"image": (files, {"image_upload": True})}}

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"
    ESSENTIALS_CATEGORY = "Basics"
    SEARCH_ALIASES = ["open picture", "import", "upload", "read file"]

    def load_image(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the picture, (B, H, W, 3) in [0, 1], and its mask, (B, H, W), 1 where it is transparent.

        An animation gives one picture per frame; a picture without alpha channel gives a mask of zeros, (B, 64, 64).

        Raises:
            PictureError: The file is not a picture in a known format, or has too many pixels.
        """
        with decoded_frames(folders().resolve(image)) as (count, frames):
            return _read_frames(count, frames)

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        """Return a hash of the file, so that a changed file is loaded again."""
        digest = hashlib.sha256()
        with open(folders().resolve(image), "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        """Check that the file exists; it may be in a sub-folder, or annotated as in "x.png [output]"."""
        try:
            found = isinstance(image, str) and folders().resolve(image).is_file()
        except (ValueError, OSError):  # a name that leaves the folder, or that no file can have
            found = False
        return True if found else f"Invalid image file: {image}"


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGE_SUFFIXES and path.is_file()


def _read_frames(count: int, frames: Iterator[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every frame that has the first one's size, and the masks: in one tensor each, which is filled in place."""
    pictures = masks = torch.zeros(0)
    used, has_alpha, size = 0, False, None
    for frame in frames:
        size = size or sorted(frame.size)
        if sorted(frame.size) != size:  # compared before it is decoded: only the first frame's size is limited
            continue
        upright = _upright(frame, alone=count == 1)
        height, width = upright.height, upright.width
        if not used:
            pictures = torch.empty((count, height, width, 3))
        elif pictures.shape[1:3] != (height, width):
            continue
        if _has_alpha(upright) and not has_alpha:
            masks, has_alpha = torch.zeros((count, height, width)), True
        for rows in _strips(height, width):
            _fill_rgb(pictures[used, rows], upright, rows)
            if _has_alpha(upright):
                _fill_mask(masks[used, rows], upright, rows)
        used += 1
    return pictures[:used], masks[:used] if has_alpha else torch.zeros((used, _EMPTY_MASK_SIZE, _EMPTY_MASK_SIZE))


def _upright(frame: Image.Image, *, alone: bool) -> Image.Image:
    """Apply the camera's orientation: to an only picture in place, to save a copy."""
    if not alone:  # the decoder of an animation needs a frame as it is, to draw the next one on it
        return ImageOps.exif_transpose(frame)
    ImageOps.exif_transpose(frame, in_place=True)
    return frame


def _strips(height: int, width: int) -> Iterator[slice]:
    """Yield slices of rows with about `_STRIP_PIXELS` pixels: a converted copy of a whole picture would be large."""
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _fill_rgb(out: torch.Tensor, picture: Image.Image, rows: slice) -> None:
    """Write rows of a picture of any mode into `out`, (rows, W, 3), float32 in [0, 1]."""
    strip = picture.crop((0, rows.start, picture.width, rows.stop))
    if picture.mode.startswith("I"):  # 16 bits: Pillow would clip the values at 255 instead of scaling them
        grey = np.asarray(strip).astype(np.float32) / np.float32(65535.0)
        out.copy_(torch.from_numpy(grey).clamp(0, 1)[..., None].expand(-1, -1, 3))
    else:
        np.divide(np.asarray(strip.convert("RGB")), np.float32(255.0), out=out.numpy())


def _has_alpha(picture: Image.Image) -> bool:
    return "A" in picture.getbands() or (picture.mode == "P" and "transparency" in picture.info)


def _fill_mask(out: torch.Tensor, picture: Image.Image, rows: slice) -> None:
    """Write 1 - alpha of rows of a picture into `out`, (rows, W)."""
    strip = picture.crop((0, rows.start, picture.width, rows.stop))
    alpha = (strip.convert("RGBA") if strip.mode == "P" else strip).getchannel("A")
    np.subtract(np.float32(1.0), np.asarray(alpha) / np.float32(255.0), out=out.numpy())


def _to_pil(image: torch.Tensor) -> Image.Image:
    """Return (H, W, C) in [0, 1] as a picture; values outside are clipped, and NaN is black."""
    height, width, channels = image.shape
    picture = Image.new(_MODES[channels], (width, height))
    for rows in _strips(height, width):
        values = np.nan_to_num(255.0 * image[rows].detach().float().cpu().numpy(), nan=0.0)
        pixels = np.clip(values, 0, 255).astype(np.uint8)
        picture.paste(Image.fromarray(pixels[..., 0] if channels == 1 else pixels), (0, rows.start))
    return picture


def _metadata(prompt: Any, extra: Any) -> PngInfo:
    """Return the text chunks `prompt`, `workflow`, ... that let a picture be opened as a workflow.

    A client may send any metadata; what a PNG cannot store under its name is left out.
    """
    info = PngInfo()
    texts = ({} if prompt is None else {"prompt": prompt}) | (extra if isinstance(extra, dict) else {})
    for name, value in texts.items():
        if re.fullmatch("[ -~]{1,79}", name):
            info.add_text(name, dumps(value))
        else:
            log.warning("metadata %r is not saved: PNG keywords have 1 to 79 printable ASCII characters", name[:100])
    return info


def _save_png(picture: Image.Image, target: SavePath, metadata: PngInfo, compress_level: int) -> tuple[Path, int]:
    """Save `<name>_<number>_.png` atomically, with the first free number from `target.counter` on.

    Returns:
        The file and its number.
    """

    def path_for(number: int) -> Path:
        return target.folder / f"{target.name}_{number:05}_.png"

    with temporary_file(target.folder) as temporary:
        picture.save(temporary, format="PNG", pnginfo=metadata, compress_level=compress_level)
        flush_to_disk(temporary)
        number = claim_number(temporary, path_for, target.counter)
    return path_for(number), number
