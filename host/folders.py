"""The host's folders, the names of files in them, and the one rule that no name may leave its folder."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from host.error_format import show

__all__ = [
    "FOLDER_TYPES",
    "ROOT",
    "FolderError",
    "Folders",
    "SavePath",
    "default_folders",
    "format_date",
    "plain_file_name",
    "real_path_inside",
    "requested_path",
    "split_annotation",
]

ROOT = Path(__file__).resolve().parent.parent  # this project's folder

# The folders that a file reference {"filename", "subfolder", "type"} and an annotated name "x.png [temp]" may name.
FOLDER_TYPES = ("input", "output", "temp")
_ANNOTATION = re.compile(rf"^(?P<name>.*?)\s*\[(?P<type>{'|'.join(FOLDER_TYPES)})\]$", re.DOTALL)

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")
# What a saved name cannot hold, because a request for the file would be refused: except NUL, which is an error.
_NOT_IN_SAVED_NAMES = re.compile(r"[\x01-\x1f\x7f\\\ud800-\udfff]|(?<=^[A-Za-z]):")
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 2048
_MAX_SUBFOLDERS = 32


class FolderError(ValueError):
    """A file name that is malformed or leads out of its folder."""


# -- the rule, and names from requests


def real_path_inside(folder: Path, path: Path) -> Path:
    """Return `path` with every link resolved, if it lies in `folder`.

    Raises:
        FolderError: The path leads out of the folder, through `..` or a link, or cannot exist.
    """
    try:
        top, real = folder.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL, a name the file system refuses
        raise FolderError("the path cannot be resolved") from error
    if not real.is_relative_to(top):
        raise FolderError("the path leads out of its folder")
    return real


def requested_path(folder: Path, *parts: str) -> Path:
    """Return the real path of `parts` below `folder`, for names that came with a request.

    Args:
        folder: The folder that must not be left; it may be a link itself.
        parts: Relative paths with `/` between folders; empty ones are skipped.

    Raises:
        FolderError: A part is absolute, holds `..`, a backslash, a drive letter or a control character, is too long for
            a file system, or follows a link out of `folder`.
    """
    names = [name for part in parts for name in _split(part)]
    top = folder.resolve()
    return real_path_inside(top, top.joinpath(*names))


def plain_file_name(name: str) -> str:
    """Return `name` if it is a file name without folders. Raises FolderError otherwise."""
    if _split(name) != [name]:
        raise FolderError("expected a file name without folders")
    return name


def _split(part: str) -> list[str]:
    """Split a requested path into names, and refuse a malformed one."""
    if _FORBIDDEN.search(part) or part.startswith("/"):
        raise FolderError("expected a relative path with '/' between folders and no control characters")
    try:
        size = len(part.encode())
    except UnicodeEncodeError as error:
        raise FolderError("the path is not valid Unicode") from error
    names = [name for name in part.split("/") if name not in ("", ".")]
    if size > _MAX_PATH_BYTES or _is_too_long(names):
        raise FolderError("the path is too long")
    if ".." in names:
        raise FolderError("'..' is not allowed in a path")
    return names


def _is_too_long(names: list[str], saved_name: str = "") -> bool:
    """Return whether a path has too many names or too long ones; `saved_name` gets a number and an ending."""
    numbered = [f"{saved_name}_{0:09}_.png"] if saved_name else []
    every = [name.encode() for name in (*names, *numbered)]
    longest = max(map(len, every), default=0)
    return len(every) > _MAX_SUBFOLDERS or longest > _MAX_NAME_BYTES or sum(map(len, every)) > _MAX_PATH_BYTES


def split_annotation(name: str, default_type: str) -> tuple[str, str]:
    """Split an annotated name such as "x.png [temp]" into the file name and the folder type."""
    match = _ANNOTATION.match(name)
    return (match["name"], match["type"]) if match else (name, default_type)


# -- the folders


class SavePath(NamedTuple):
    """The name of the next numbered file: `folder / f"{name}_{counter:05}_.png"`."""

    folder: Path
    name: str
    counter: int
    subfolder: str
    prefix: str


@dataclass(frozen=True)
class Folders:
    """The directories that the host reads from and writes to. All are absolute; none needs to exist yet."""

    input: Path
    output: Path
    temp: Path
    models: Path
    user: Path

    def of_type(self, folder_type: str) -> Path:
        """Return the folder of a file reference's `type`: input, output or temp."""
        known = {"input": self.input, "output": self.output, "temp": self.temp}
        if folder_type not in known:
            raise FolderError(f"type must be one of {', '.join(known)}, got {show(folder_type)}")
        return known[folder_type]

    def resolve(self, name: str, folder_type: str = "input") -> Path:
        """Return the path of `name` inside its folder.

        Args:
            name: A relative file name with `/` between sub-folders, possibly annotated as in "x.png [output]".
            folder_type: The folder of a name without annotation.

        Raises:
            FolderError: The name leaves its folder, through `..`, an absolute path or a link.
        """
        name, folder_type = split_annotation(name, folder_type)
        folder = self.of_type(folder_type)
        path = Path(os.path.abspath(folder / name))
        _check_inside(folder, path, f"the file name {show(name)} points outside the {folder_type} folder")
        return path

    def save_image_path(self, prefix: str, folder_type: str = "output", width: int = 0, height: int = 0) -> SavePath:
        """Return the name for the next picture, and create its folder.

        Args:
            prefix: A name, with sub-folders and the variables %width%, %height%, %year%, %month%, %day%, %hour%,
                %minute%, %second% and %date:yyyy-MM-dd%.
            folder_type: output, temp or input.
            width: The picture's width in pixels, for %width%.
            height: The picture's height in pixels, for %height%.

        Raises:
            FolderError: The prefix leaves the folder.
        """
        top = self.of_type(folder_type)
        prefix = _NOT_IN_SAVED_NAMES.sub("_", _fill_variables(prefix, width, height))
        subfolder, name = os.path.split(os.path.normpath(prefix))
        folder = top / subfolder
        refusal = f"the file name prefix {show(prefix)} points outside the {folder_type} folder {top}"
        if name in ("", os.curdir, os.pardir) or "\0" in prefix:
            raise FolderError(refusal)
        _check_inside(top, folder, refusal)
        if _is_too_long(subfolder.split("/"), name):
            raise FolderError(f"the file name prefix {show(prefix)} is too long")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise FolderError(f"the file name prefix {show(prefix)} has a file in the place of a folder") from error
        return SavePath(folder, name, _next_counter(folder, name), subfolder, prefix)


def default_folders(base: Path) -> Folders:
    """Return ComfyUI's layout of folders below `base`."""
    base = Path(os.path.abspath(base))
    return Folders(base / "input", base / "output", base / "temp", base / "models", base / "user")


def _check_inside(folder: Path, path: Path, refusal: str) -> None:
    try:
        real_path_inside(folder, path)
    except FolderError as error:
        raise FolderError(refusal) from error


# -- the names of saved files


def _fill_variables(prefix: str, width: int, height: int) -> str:
    """Replace the variables of ComfyUI's server, and the frontend's %date:...%, with their values."""
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
    """Format a date with the frontend's letters, e.g. yyyy-MM-dd; a doubled letter is zero-padded."""
    values = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}

    def replacement(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] == "y":
            return str(now.tm_year)[-2:] if len(letters) == 2 else str(now.tm_year)
        return f"{values[letters[0]]:0{len(letters)}}"

    return re.sub(r"yyyy|yy|dd?|MM?|hh?|mm?|ss?", replacement, pattern)


def _next_counter(folder: Path, name: str) -> int:
    """Return one more than the largest number among the files `name_<number>...` in `folder`."""
    pattern = re.compile(re.escape(os.path.normcase(name)) + r"_(\d{1,9})(?=[_.]|$)")
    matches = (pattern.match(os.path.normcase(entry)) for entry in os.listdir(folder))
    return max((int(match[1]) for match in matches if match), default=0) + 1
