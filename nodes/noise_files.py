"""Inverted pictures as files that can be shared with a workflow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..ddim import DDIMError, load_noise, save_noise
from .bridge import folder, save_path
from .sockets import DDIM_SCHEDULE, LATENT, VARIANCE_NOISE, VarianceNoise, choice, inputs, socket

__all__ = ["DDIMLoadNoise", "DDIMSaveNoise"]

ENDING = ".safetensors"
OUTPUT_MARK = " [output]"  # as ComfyUI marks files of its output folder
NO_FILE = "(choose a noise file)"
MAX_LISTED = 2000


class DDIMSaveNoise:
    """An inversion to a file."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Writes an inverted picture to one safetensors file in the output folder: the latent, the noise of every step "
        "and the schedule they belong to. DDIM Load Noise reads it; put a file that somebody gave you into the input "
        "folder."
    )
    SEARCH_ALIASES = ["save noise", "variance noise", "export", "ddim noise file", "safetensors"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file_name",)
    OUTPUT_TOOLTIPS = ("The name of the file, as DDIM Load Noise takes it.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": inputs("variance_noise", "filename_prefix", "precision")}

    def save(self, variance_noise: VarianceNoise, filename_prefix: str, precision: str) -> dict[str, Any]:
        if variance_noise.inversion is None:
            raise DDIMError("this noise comes from no inversion, so there is no picture to save; use DDIM Invert")
        place, name, _, subfolder = save_path(filename_prefix)
        path = _next(Path(place), name)
        dtype = torch.float16 if precision == "half" else None
        size = save_noise(variance_noise.inversion, path, dtype=dtype)
        told = f"{(Path(subfolder) / path.name).as_posix()}{OUTPUT_MARK}"
        return {"ui": {"text": [f"{told}: {size / 2**20:.1f} MB"]}, "result": (told,)}


class DDIMLoadNoise:
    """A file to an inversion."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Reads a file that DDIM Save Noise wrote, from the input or the output folder: the inverted latent, the noise "
        "of every step, and the schedule and eta that they belong to. All of it is checked; the file can run no code."
    )
    SEARCH_ALIASES = ["load noise", "variance noise", "import", "ddim noise file", "safetensors"]
    RETURN_TYPES = (LATENT, VARIANCE_NOISE, DDIM_SCHEDULE, "FLOAT")
    RETURN_NAMES = ("latent", "variance_noise", "schedule", "eta")
    OUTPUT_TOOLTIPS = (
        "The latent_image of DDIM Sample, with add_noise off.",
        "For DDIM Sample.",
        "The schedule that it was inverted with, for DDIM Sample.",
        "The eta that it was inverted with, for DDIM Sample.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        files = _listed()
        name = socket("STRING", "A name from DDIM Save Noise, in place of the choice above.")
        return {
            "required": {
                "noise_file": choice(files, NO_FILE, "A noise file of the input folder, or of the output folder.")
            },
            "optional": {"file_name": (name[0], {**name[1], "forceInput": True})},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, noise_file: str) -> bool | str:
        # The list above is as old as the page; what counts is the folder as it is now. It is checked when it is read,
        # because a connected file_name takes its place.
        return True

    @classmethod
    def IS_CHANGED(cls, noise_file: str, file_name: str | None = None) -> str:
        try:
            stat = _resolve(file_name or noise_file).stat()
        except (DDIMError, OSError):
            return "missing"
        return f"{stat.st_mtime_ns} {stat.st_size}"

    def load(self, noise_file: str, file_name: str | None = None) -> tuple[Any, ...]:
        inversion = load_noise(_resolve(file_name or noise_file))
        noise = VarianceNoise.of(inversion)
        return {"samples": inversion.latent.clone()}, noise, inversion.schedule, noise.eta


def _next(place: Path, name: str) -> Path:
    """The first free number: the host counts pictures only."""
    taken = {path.name for path in place.glob(f"{_escaped(name)}_*{ENDING}")}
    counter = 1
    while f"{name}_{counter:05}{ENDING}" in taken:
        counter += 1
    return place / f"{name}_{counter:05}{ENDING}"


def _escaped(name: str) -> str:
    """A name in which nothing is a wildcard."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _listed() -> list[str]:
    """The choice before the choice, and the names of all noise files as the folders are now."""
    found = [*_names(folder("input")), *(name + OUTPUT_MARK for name in _names(folder("output")))]
    return [NO_FILE, *found[:MAX_LISTED]]


def _names(root: str) -> list[str]:
    """Files of our ending below a folder, with forward slashes."""
    names = []
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(place).relative_to(root)
        names += [(relative / name).as_posix() for name in sorted(files) if _ours(name)]
        if len(names) > MAX_LISTED:
            break
    return names


def _ours(name: str) -> bool:
    return name.endswith(ENDING) and not name.startswith(".")


def _resolve(name: str) -> Path:
    """The file of that name in the input or output folder, and nowhere else.

    Raises:
        DDIMError: where there is none, or the name leads out of the folder.
    """
    kind = "output" if name.endswith(OUTPUT_MARK) else "input"
    inner = name.removesuffix(OUTPUT_MARK)
    root = Path(folder(kind)).resolve()
    try:
        path = (root / inner).resolve()
        inside = path.is_relative_to(root) and _ours(path.name)
        found = inside and path.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        found = False
    if not found:
        raise DDIMError(
            f"there is no noise file {name!r:.120} in the {kind} folder; choose one of the list, or save one with "
            "DDIM Save Noise"
        )
    return path
