"""The three nodes that graphs of every pack use: LoadImage, SaveImage, PreviewImage, as ComfyUI has them."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import string
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo

from host.context import folders
from host.folders import FolderError
from host.payload import dumps

__all__ = ["DISPLAY_NAMES", "NODES", "LoadImage", "PreviewImage", "SaveImage"]

log = logging.getLogger(__name__)

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ico"})
_NO_MASK = 64  # side of the all-zero mask of a picture without alpha channel


class SaveImage:
    """Write pictures as PNG into the output folder, with the prompt and the workflow that made them."""

    kind = "output"
    compress_level = 4

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Declare the pictures and the name that they get."""
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
        extra_pnginfo: dict | None = None,
    ) -> dict:
        """Write each picture of the batch.

        Args:
            images: (B, H, W, C) in 0..1, C = 1, 3 or 4.
            filename_prefix: Name and sub-folder, see `Folders.save_image_path`.
            prompt: The prompt, kept in the file.
            extra_pnginfo: Further metadata by name, e.g. the editor's workflow.
        """
        if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
            raise ValueError(f"images must have shape (B, H, W, C) with 1, 3 or 4 channels, got {tuple(images.shape)}")
        place = folders().save_image_path(filename_prefix, self.kind, images.shape[2], images.shape[1])
        metadata = _metadata(prompt, extra_pnginfo)
        counter, saved = place.counter, []
        for number, image in enumerate(images):
            name = place.name.replace("%batch_num%", str(number))
            path, counter = _write_png(_to_pil(image), place.folder, name, counter, metadata, self.compress_level)
            saved.append({"filename": path.name, "subfolder": place.subfolder, "type": self.kind})
        return {"ui": {"images": saved}, "result": (images,)}


class PreviewImage(SaveImage):
    """Show pictures without keeping them: they go into the temp folder."""

    kind = "temp"
    compress_level = 1

    def __init__(self) -> None:
        letters = random.Random(uuid.uuid4().int)  # an own generator: the global one belongs to the person's seeds
        self._suffix = "_temp_" + "".join(letters.choices(string.ascii_lowercase, k=5))

    @classmethod
    def INPUT_TYPES(cls) -> dict:
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
        extra_pnginfo: dict | None = None,
    ) -> dict:
        """Write each picture of the batch under a name of this node's own."""
        return super().save_images(images, filename_prefix + self._suffix, prompt, extra_pnginfo)


class LoadImage:
    """Read a picture from the input folder."""

    @classmethod
    def INPUT_TYPES(cls) -> dict:
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
        """Return the picture, (B, H, W, 3) in 0..1, and its mask, (B, H, W), 1 where it is transparent.

        An animation gives one picture per frame; a picture without alpha channel a mask of zeros, (B, 64,
        64).
        """
        pictures: list[torch.Tensor] = []
        masks: list[torch.Tensor] = []
        with Image.open(folders().resolve(image)) as file:
            for frame in ImageSequence.Iterator(file):
                upright = ImageOps.exif_transpose(frame)
                picture = _to_rgb(upright)
                if pictures and picture.shape != pictures[0].shape:
                    continue
                pictures.append(picture)
                masks.append(_mask_of(upright))
        return torch.stack(pictures), torch.stack(masks)

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        """Return a hash of the file, so that a changed file is read anew."""
        with open(folders().resolve(image), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        """Say whether the file is there; it may be in a sub-folder, or annotated as "x.png [output]"."""
        try:
            found = isinstance(image, str) and folders().resolve(image).is_file()
        except (FolderError, ValueError):
            found = False
        return True if found else f"Invalid image file: {image}"


NODES = {"SaveImage": SaveImage, "PreviewImage": PreviewImage, "LoadImage": LoadImage}
DISPLAY_NAMES = {"SaveImage": "Save Image", "PreviewImage": "Preview Image", "LoadImage": "Load Image"}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGE_SUFFIXES and path.is_file()


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    """Return a picture as (H, W) or (H, W, C), float32 in 0..1."""
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255.0)


def _to_rgb(picture: Image.Image) -> torch.Tensor:
    """Return a picture of any mode as (H, W, 3), float32 in 0..1."""
    if not picture.mode.startswith("I"):
        return _to_tensor(picture.convert("RGB"))
    # 16 bits, which Pillow would clip to 8: white from 256 on
    grey = torch.from_numpy(np.asarray(picture).astype(np.float32) / 65535.0)
    return grey.clamp(0, 1)[..., None].expand(-1, -1, 3).contiguous()


def _mask_of(picture: Image.Image) -> torch.Tensor:
    """Return 1 - alpha, (H, W)."""
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if "A" in picture.getbands():
        return 1.0 - _to_tensor(picture.getchannel("A"))
    return torch.zeros((_NO_MASK, _NO_MASK))


def _to_pil(image: torch.Tensor) -> Image.Image:
    """Return (H, W, C) in 0..1 as a picture; values outside are clipped, NaN is black."""
    values = np.nan_to_num(255.0 * image.detach().float().cpu().numpy(), nan=0.0)
    pixels = np.clip(values, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _metadata(prompt: Any, extra: Any) -> PngInfo:
    """Return the text chunks `prompt`, `workflow`, ... that let a picture be opened as a workflow.

    A client may ask for any metadata; a name that PNG has no place for is left out.
    """
    info = PngInfo()
    texts = ({} if prompt is None else {"prompt": prompt}) | (extra if isinstance(extra, dict) else {})
    for name, value in texts.items():
        if re.fullmatch("[ -~]{1,79}", name):
            info.add_text(name, dumps(value))
        else:
            log.warning("metadata %r is not saved: a name in a PNG has 1 to 79 printable letters", name[:100])
    return info


def _write_png(
    picture: Image.Image, folder: Path, name: str, counter: int, metadata: PngInfo, compress_level: int
) -> tuple[Path, int]:
    """Write `<name>_<counter>_.png`, whole or not at all, and return it with the next number.

    The file gets its name by a hard link, which fails where the name is taken meanwhile: two hosts that save
    into one folder never overwrite each other.
    """
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        picture.save(temporary, format="PNG", pnginfo=metadata, compress_level=compress_level)
        while True:
            path = folder / f"{name}_{counter:05}_.png"
            counter += 1
            try:
                os.link(temporary, path)
                return path, counter
            except FileExistsError:
                continue
            except OSError:  # a file system without hard links
                os.replace(temporary, path)
                return path, counter
    finally:
        temporary.unlink(missing_ok=True)
