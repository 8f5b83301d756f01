"""Putting the files that a worker made into the server's own folders, under the names that SaveImage would give.

A worker's folder is empty for every job, so its names say nothing: here the next free numbers are taken, and what the
page is told names the files as they lie here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from host.atomic_files import claim_name, claim_number, flush_to_disk, temporary_file
from host.engines.contract import OutputFile
from host.execution.shown_files import ShownFile, shown_files
from host.folders import FolderError, Folders, plain_file_name, requested_path

__all__ = ["place_files", "with_new_names"]

_NUMBERED = re.compile(r"(?P<name>.+)_\d{5,9}(?P<end>_?(?:\.[^.]*)?)", re.DOTALL)
_MADE_TYPES = ("output", "temp")


def place_files(files: Iterable[OutputFile], folders: Folders) -> dict[ShownFile, str]:
    """Write the files of a job, each whole or not at all.

    Args:
        files: The files. Their names come from another machine: those that leave their folder are not written.
        folders: The server's folders.

    Returns:
        The new name of each reference.

    Raises:
        OSError: A file cannot be written.
    """
    names: dict[ShownFile, str] = {}
    for file in files:
        reference = ShownFile(file.filename, file.subfolder, file.type)
        if file.type not in _MADE_TYPES or reference in names:
            continue
        try:
            names[reference] = _place(file, folders)
        except FolderError:
            continue
    return names


def with_new_names(ui: Mapping[str, Any], names: Mapping[ShownFile, str]) -> dict[str, Any]:
    """Return a node's ui result with the references replaced that have a new name."""
    return {key: _renamed(values, names) for key, values in ui.items()}


def _place(file: OutputFile, folders: Folders) -> str:
    """Write a file, and return its name."""
    plain_file_name(file.filename)
    folder = requested_path(folders.of_type(file.type), file.subfolder)
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_file(folder) as temporary:
        temporary.write_bytes(file.data)
        flush_to_disk(temporary)
        match = _NUMBERED.fullmatch(file.filename)
        if match is None:
            return claim_name(temporary, _candidates(folder / file.filename)).name
        prefix = "/".join(part for part in (file.subfolder, match["name"]) if part)
        target = folders.save_image_path(prefix, file.type)

        def path_for(number: int) -> Path:
            return folder / f"{target.name}_{number:05}{match['end']}"

        return path_for(claim_number(temporary, path_for, target.counter)).name


def _candidates(path: Path) -> Iterator[Path]:
    """Yield a path, and the same with numbers."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")


def _renamed(values: Any, names: Mapping[ShownFile, str]) -> Any:
    if not isinstance(values, (list, tuple)):
        return values
    changed = []
    for value in values:
        found = next((names[file] for file in shown_files({"": [value]}) if file in names), None)
        changed.append(value if found is None else {**value, "filename": found})
    return changed
