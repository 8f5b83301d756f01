"""The folders of a host, and the one rule that no name may leave its folder."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["FolderError", "Folders", "SavePath", "default_folders", "format_date", "is_within"]

# The kinds that a file reference {"filename", "subfolder", "type"} and an annotated name "x.png [temp]" may
# name.
KINDS = ("input", "output", "temp")
_ANNOTATION = re.compile(r"^(?P<name>.*?)\s*\[(?P<kind>input|output|temp)\]$", re.DOTALL)


class FolderError(ValueError):
    """A file name that points outside its folder, or that no file can have."""


class SavePath(NamedTuple):
    """Where the next numbered file goes: `folder / f"{name}_{counter:05}_.png"`."""

    folder: Path
    name: str
    counter: int
    subfolder: str
    prefix: str


@dataclass(frozen=True)
class Folders:
    """The directories that this host reads from and writes to. All are absolute; none needs to exist yet."""

    input: Path
    output: Path
    temp: Path
    models: Path
    user: Path

    def of_kind(self, kind: str) -> Path:
        """Return the folder that a file reference of type `kind` (input, output, temp) lives in."""
        if kind not in KINDS:
            raise FolderError(f"file type must be one of {', '.join(KINDS)}, got {kind!r}")
        return getattr(self, kind)

    def resolve(self, name: str, kind: str = "input") -> Path:
        """Return the path of `name` inside the folder `kind`, following an annotation as in "x.png [output]".

        Args:
            name: A relative file name, with `/` between sub-folders.
            kind: The folder used where the name carries no annotation.

        Raises:
            FolderError: The name leaves its folder, through `..`, an absolute path or a link.
        """
        match = _ANNOTATION.match(name)
        if match:
            name, kind = match["name"], match["kind"]
        base = self.of_kind(kind)
        path = Path(os.path.abspath(os.path.join(base, name)))
        if not is_within(base, path):
            raise FolderError(f"the file name {name!r} points outside the {kind} folder")
        return path

    def save_image_path(self, prefix: str, kind: str = "output", width: int = 0, height: int = 0) -> SavePath:
        """Return the place of the next picture named `prefix`, and make its folder.

        Args:
            prefix: A name, with sub-folders and the variables %width%, %height%, %year%, %month%, %day%,
                %hour%, %minute%, %second% and %date:yyyy-MM-dd%.
            kind: output, temp or input.
            width: The picture's width in pixels, for %width%.
            height: The picture's height in pixels, for %height%.

        Raises:
            FolderError: The prefix leaves the folder.
        """
        base = self.of_kind(kind)
        prefix = _fill_variables(prefix, width, height)
        subfolder, name = os.path.split(os.path.normpath(prefix))
        folder = base / subfolder
        if not is_within(base, folder) or name in ("", os.curdir, os.pardir):
            raise FolderError(f"the file name prefix {prefix!r} points outside the {kind} folder {base}")
        folder.mkdir(parents=True, exist_ok=True)
        return SavePath(folder, name, _next_counter(folder, name), subfolder, prefix)


def default_folders(base: Path) -> Folders:
    """Return ComfyUI's layout of folders below `base`."""
    base = Path(os.path.abspath(base))
    return Folders(base / "input", base / "output", base / "temp", base / "models", base / "user")


def is_within(folder: Path, path: Path) -> bool:
    """Say whether `path`, every link followed, lies in `folder`. False for a name that no file can have."""
    try:
        real = os.path.realpath(folder)
        return os.path.commonpath((real, os.path.realpath(path))) == real
    except ValueError:  # an embedded NUL, or another drive
        return False


def _fill_variables(prefix: str, width: int, height: int) -> str:
    """Replace the variables that ComfyUI's server knows, and the frontend's %date:...%, by their values."""
    if "%" not in prefix:
        return prefix
    now = time.localtime()
    known = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    prefix = re.sub(r"%date:([^%]+)%", lambda match: format_date(match[1], now), prefix)
    return re.sub(r"%(\w+)%", lambda match: known.get(match[1], match[0]), prefix)


def format_date(pattern: str, now: time.struct_time) -> str:
    """Write a date in the frontend's letters, e.g. yyyy-MM-dd; a doubled letter is zero-padded."""
    values = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}

    def part(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] == "y":
            return str(now.tm_year)[-2:] if len(letters) == 2 else str(now.tm_year)
        return f"{values[letters[0]]:0{len(letters)}}"

    return re.sub(r"yyyy|yy|dd?|MM?|hh?|mm?|ss?", part, pattern)


def _next_counter(folder: Path, name: str) -> int:
    """Return one more than the largest number among the files `name_<number>...` in `folder`."""
    pattern = re.compile(re.escape(os.path.normcase(name)) + r"_(\d{1,9})(?=[_.]|$)")
    matches = (pattern.match(os.path.normcase(entry)) for entry in os.listdir(folder))
    return max((int(match[1]) for match in matches if match), default=0) + 1
