"""DDIM Save Noise and DDIM Load Noise: inverted images as files that can be shared with a workflow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch

from ...ddim import DDIMError, Schedule, load_noise, save_noise
from ..backend import FolderName, current
from ..inputs import DDIM_SCHEDULE, LATENT, VARIANCE_NOISE, InputTypes, choice, inputs, socket
from ..values import Latent, RecordedNoise, mark_inverted

__all__ = ["DDIMLoadNoise", "DDIMSaveNoise"]

EXTENSION = ".safetensors"
OUTPUT_MARK = " [output]"  # how ComfyUI marks files of its output folder
NO_FILE = "(choose a noise file)"
MAX_LISTED = 2000


class DDIMSaveNoise:
    """Saves an inversion to a file."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Saves an inverted image as one safetensors file in the output folder: the latent, the noise of every step and "
        "the schedule that they belong to. DDIM Load Noise reads it; put files from others into the input folder."
    )
    SEARCH_ALIASES = ["save noise", "variance noise", "export", "ddim noise file", "safetensors"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file_name",)
    OUTPUT_TOOLTIPS = ("The name of the file, as DDIM Load Noise takes it.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {"required": inputs("variance_noise"), "optional": inputs("filename_prefix", "precision")}

    def save(
        self, variance_noise: RecordedNoise, filename_prefix: str = "noise/ddim", precision: str = "half"
    ) -> dict[str, Any]:
        if variance_noise.inversion is None:
            raise DDIMError(
                "variance_noise must come from an inversion to be saved, and this one has no inverted image; use DDIM "
                "Invert"
            )
        folder, name, subfolder = current().output_path(filename_prefix)
        path = _next_free(folder, name)
        size = save_noise(variance_noise.inversion, path, dtype=torch.float16 if precision == "half" else None)
        file_name = f"{(Path(subfolder) / path.name).as_posix()}{OUTPUT_MARK}"
        return {"ui": {"text": [f"{file_name}: {size / 2**20:.1f} MB"]}, "result": (file_name,)}


class DDIMLoadNoise:
    """Loads an inversion from a file."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Loads a file that DDIM Save Noise wrote, from the input or the output folder: the inverted latent, the noise "
        "of every step, and the schedule and eta that they belong to. The content is checked, and the file can run no "
        "code."
    )
    SEARCH_ALIASES = ["load noise", "variance noise", "import", "ddim noise file", "safetensors"]
    RETURN_TYPES = (LATENT, VARIANCE_NOISE, DDIM_SCHEDULE, "FLOAT")
    RETURN_NAMES = ("latent", "variance_noise", "schedule", "eta")
    OUTPUT_TOOLTIPS = (
        "The latent_image of DDIM KSampler, with add_noise off.",
        "For DDIM KSampler.",
        "The schedule that it was inverted with, for DDIM KSampler.",
        "The eta that it was inverted with, for DDIM KSampler.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        kind, options = socket("STRING", "A name from DDIM Save Noise, used instead of the choice above.")
        return {
            "required": {},
            "optional": {
                "noise_file": choice(_noise_files(), NO_FILE, "A noise file in the input folder or the output folder."),
                "file_name": (kind, {**options, "forceInput": True}),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, noise_file: str = NO_FILE) -> bool:
        # The browser's list is as old as the page, and a connected file_name replaces the choice: the name is checked
        # when the file is read.
        return True

    @classmethod
    def IS_CHANGED(cls, noise_file: str = NO_FILE, file_name: str | None = None) -> str:
        try:
            stat = _resolve(file_name or noise_file).stat()
        except (DDIMError, OSError):
            return "missing"
        return f"{stat.st_mtime_ns} {stat.st_size}"

    def load(
        self, noise_file: str = NO_FILE, file_name: str | None = None
    ) -> tuple[Latent, RecordedNoise, Schedule, float]:
        inversion = load_noise(_resolve(file_name or noise_file))
        noise = RecordedNoise.from_inversion(inversion)
        latent = mark_inverted({"samples": inversion.latent.clone()}, inversion.method)
        return latent, noise, inversion.schedule, noise.eta


def _next_free(folder: Path, name: str) -> Path:
    """Return the file with the first free number: the host's own numbers count images only."""
    taken = {path.name for path in folder.iterdir()}
    names = (f"{name}_{number:05}{EXTENSION}" for number in count(1))
    return folder / next(candidate for candidate in names if candidate not in taken)


def _noise_files() -> list[str]:
    """List the entry for no choice, and the noise files that are in the input and output folders now."""
    outputs = (name + OUTPUT_MARK for name in _names_below(current().folder("output")))
    return [NO_FILE, *islice(chain(_names_below(current().folder("input")), outputs), MAX_LISTED)]


def _names_below(root: Path) -> Iterator[str]:
    """Yield the noise files below a folder, with forward slashes; hidden files and folders are skipped."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        yield from ((relative / name).as_posix() for name in sorted(files) if _is_noise_file(name))


def _is_noise_file(name: str) -> bool:
    return name.endswith(EXTENSION) and not name.startswith(".")


def _resolve(name: str) -> Path:
    """Return the file of that name in the input or output folder.

    Raises:
        DDIMError: If there is none, or the name points outside the folder.
    """
    kind: FolderName = "output" if name.endswith(OUTPUT_MARK) else "input"
    root = current().folder(kind).resolve()
    try:
        path = (root / name.removesuffix(OUTPUT_MARK)).resolve()
        found = path.is_relative_to(root) and _is_noise_file(path.name) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name that no file system accepts, or a loop of links
        found = False
    if not found:
        raise DDIMError(
            f"there is no noise file {name!r:.120} in the {kind} folder; choose one from the list, or save one "
            "with DDIM Save Noise"
        )
    return path
