"""Atomic file writing: a crash leaves the old file or the new one, never a part of one."""

from __future__ import annotations

import contextvars
import errno
import filecmp
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "claim_name",
    "claim_number",
    "delete_left_over",
    "flush_to_disk",
    "temporary_file",
    "without_flushing",
    "write_file",
]

_OWNER_ONLY = 0o600
_flushes: contextvars.ContextVar[bool] = contextvars.ContextVar("flushes", default=True)
_TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{32}\.(tmp|upload)")


@contextmanager
def temporary_file(folder: Path, suffix: str = ".tmp", mode: int = 0o666) -> Iterator[Path]:
    """Create an empty hidden file in `folder`, and delete it at the end of the block unless it has been moved.

    Args:
        folder: An existing folder, on the file system of the final name: only there is a move atomic.
        suffix: The end of the file's name.
        mode: The file's permissions, before the process's umask.
    """
    path = folder / f".{uuid.uuid4().hex}{suffix}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write or replace `path` atomically, creating its folder. Only the owner may read the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_file(path.parent, mode=_OWNER_ONLY) as temporary:
        temporary.write_bytes(data)
        flush_to_disk(temporary)
        os.replace(temporary, path)


@contextmanager
def without_flushing() -> Iterator[None]:
    """Let `flush_to_disk` do nothing in the block, for files that are read and deleted before a power cut matters."""
    token = _flushes.set(False)
    try:
        yield
    finally:
        _flushes.reset(token)


def flush_to_disk(path: Path) -> None:
    """Wait until a file is on the disk: a name that is moved before the content is empty after a power cut."""
    if not _flushes.get():
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def delete_left_over(folder: Path) -> None:
    """Delete the temporary files in `folder` and below that a killed process left there."""
    for path in folder.rglob(".*"):
        if _TEMPORARY_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def claim_name(temporary: Path, candidates: Iterable[Path]) -> Path:
    """Move `temporary` to the first candidate that is free, or that has the same content already.

    The name is taken with a hard link, as in `claim_number`.

    Returns:
        The candidate.
    """
    for path in candidates:
        try:
            os.link(temporary, path)
            return path
        except FileExistsError:
            if path.is_file() and filecmp.cmp(path, temporary, shallow=False):
                return path
        except OSError:  # a file system without hard links
            if not path.exists():
                os.replace(temporary, path)
                return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(temporary))


def claim_number(temporary: Path, path_for: Callable[[int], Path], number: int) -> int:
    """Move `temporary` to the first free name among `path_for(number)`, `path_for(number + 1)`, ...

    The name is taken with a hard link, which fails if the name exists: two processes that save into one folder never
    overwrite each other's files.

    Returns:
        The number whose name was free.
    """
    while True:
        try:
            os.link(temporary, path_for(number))
            return number
        except FileExistsError:
            number += 1
        except OSError:  # a file system without hard links
            os.replace(temporary, path_for(number))
            return number
