"""Where a name from a stranger may point: always inside one folder, never elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["OutsideFolder", "inside", "safe_name"]

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 2048
_MAX_FOLDERS = 32


class OutsideFolder(ValueError):
    """A name that is malformed, or that points outside the folder it was asked for in."""


def inside(root: Path, *parts: str) -> Path:
    """The real path of ``parts`` below ``root``, links followed.

    Args:
        root: the folder that must not be left; it may be a link itself.
        parts: relative paths with ``/`` between folders, as they came from the request; empty ones are skipped.

    Raises:
        OutsideFolder: for ``..``, absolute paths, backslashes, drive letters, control characters, names that no file
            system takes, and links that lead out of ``root``.
    """
    names = [name for part in parts for name in _split(part)]
    top = root.resolve()
    try:
        path = top.joinpath(*names).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, or a name the file system refuses
        raise OutsideFolder("the path cannot be resolved") from error
    if path != top and not path.is_relative_to(top):
        raise OutsideFolder("the path leads out of its folder")
    return path


def safe_name(name: str) -> str:
    """``name`` if it is one plain file name without folders; raises OutsideFolder otherwise."""
    parts = _split(name)
    if len(parts) != 1 or parts[0] != name:
        raise OutsideFolder("expected a file name without folders")
    return name


def _split(part: str) -> list[str]:
    if _FORBIDDEN.search(part) or part.startswith("/"):
        raise OutsideFolder("expected a relative path with '/' between folders and no control characters")
    try:
        size = len(part.encode())
    except UnicodeEncodeError as error:
        raise OutsideFolder("the path is not valid Unicode") from error
    names = [name for name in part.split("/") if name not in ("", ".")]
    if (
        size > _MAX_PATH_BYTES
        or len(names) > _MAX_FOLDERS
        or any(len(name.encode()) > _MAX_NAME_BYTES for name in names)
    ):
        raise OutsideFolder("the path is too long")
    if ".." in names:
        raise OutsideFolder("'..' is not allowed in a path")
    return names
