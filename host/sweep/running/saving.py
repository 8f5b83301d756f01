"""Writing the files of a job into the sweep's folder, under names that depend on the job alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from host.atomic_files import flush_to_disk, temporary_file
from host.engines.contract import OutputFile
from host.folders import plain_file_name
from host.sweep.contract import Record, SavedFile

__all__ = ["SaveError", "are_on_disk", "save_files"]

_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")
_UNKNOWN = ".bin"


class SaveError(Exception):
    """A file cannot be written. The message is shown to the user."""


def save_files(folder: Path, stem: str, files: Iterable[OutputFile]) -> tuple[SavedFile, ...]:
    """Write the files of a job that are kept, each whole or not at all.

    The same job gives the same names again, and replaces its own files only: the stem begins with the job's index. Of
    the name that a worker gave, only the extension is used.

    Args:
        folder: The sweep's folder, which exists.
        stem: The beginning of the names, from `Jobs.file_stem`.
        files: The job's files; those of another type than "output" are left out.

    Returns:
        The files, in order. They are on the disk.

    Raises:
        SaveError: One cannot be written.
    """
    return tuple(_save(folder, name, file) for name, file in _named(plain_file_name(stem), files))


def are_on_disk(folder: Path, record: Record) -> bool:
    """Return whether every file of a result is where it was written, with the size that it had."""
    return all(_size(folder / file.name) == file.size for file in record.files)


def _named(stem: str, files: Iterable[OutputFile]) -> Iterator[tuple[str, OutputFile]]:
    """Yield each file that is kept with its name: the second one of a kind gets `_2`, and so on."""
    counts: dict[str, int] = {}
    for file in files:
        if file.type == "output":
            extension = os.path.splitext(file.filename)[1].lower()
            extension = extension if _EXTENSION.fullmatch(extension) else _UNKNOWN
            counts[extension] = count = counts.get(extension, 0) + 1
            yield f"{stem}{'' if count == 1 else f'_{count}'}{extension}", file


def _save(folder: Path, name: str, file: OutputFile) -> SavedFile:
    try:
        with temporary_file(folder) as temporary:
            temporary.write_bytes(file.data)
            flush_to_disk(temporary)
            os.replace(temporary, folder / name)
    except OSError as error:
        raise SaveError(f"{name} cannot be written to {folder}: {error.strerror or error}") from error
    return SavedFile(name, len(file.data), file.digest)


def _size(path: Path) -> int:
    """Return the size of a file, or -1 if there is none."""
    try:
        return path.stat().st_size if path.is_file() and not path.is_symlink() else -1
    except OSError:
        return -1
