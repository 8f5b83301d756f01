"""The files that jobs read from the input folder: found, measured and hashed before the first job runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.engines.contract import EngineError
from host.error_format import show
from host.folders import FolderError, Folders
from host.limits import MAX_SWEEP_INPUT_BYTES, MAX_SWEEP_INPUT_FILES, MAX_UPLOAD_BYTES
from host.packs import InputSpec

__all__ = ["InputFile", "InputFileError", "InputFiles", "find_input_files", "names_files"]

_UPLOAD_OPTIONS = ("image_upload", "video_upload", "animated_image_upload", "audio_upload", "file_upload")


class InputFileError(ValueError):
    """A file that jobs name cannot be read or is too large, or too many are named."""


@dataclass(frozen=True)
class InputFile:
    """A file that jobs name.

    Attributes:
        name: The value of the input, which may be annotated as in "x.png [output]".
        digest: SHA-256 of the content in hexadecimal.
        size: In bytes.
    """

    name: str
    digest: str
    size: int


class InputFiles(Mapping[str, bytes]):
    """The contents of input files by name, read when one is asked for: all of them may not fit in memory.

    Reading one raises EngineError if it is no longer the file of the plan.
    """

    def __init__(self, files: Iterable[InputFile], folders: Folders) -> None:
        self._files = {file.name: file for file in files}
        self._folders = folders

    def __getitem__(self, name: str) -> bytes:
        expected = self._files[name]
        try:
            data = _read(self._folders.resolve(name), name)
        except (FolderError, OSError, InputFileError) as error:
            raise EngineError(f"the input file {show(name)} of the plan can no longer be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != expected.digest:
            raise EngineError(
                f"the input file {show(name)} has changed since the sweep was planned; put the old one back, or start "
                "a new sweep"
            )
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def check(self) -> None:
        """Raise EngineError if a file is no longer as it was planned."""
        for name in self:
            self[name]


def names_files(spec: InputSpec) -> bool:
    """Return whether an input's value may name a file of the input folder: it is a choice or has an upload button."""
    is_choice = isinstance(spec.type, list) or spec.type == "COMBO"
    return is_choice or any(spec.options.get(key) for key in _UPLOAD_OPTIONS)


def find_input_files(values: Iterable[Any], folders: Folders) -> list[InputFile]:
    """Return the files among the values of inputs that may name one, each once.

    Raises:
        InputFileError: A file is too large or cannot be read, or there are too many.
    """
    found: dict[str, InputFile] = {}
    looked_at: set[str] = set()
    total = 0
    for value in values:
        if not isinstance(value, str) or value in looked_at:
            continue
        looked_at.add(value)
        path = _existing(value, folders)
        if path is None:
            continue
        if len(found) == MAX_SWEEP_INPUT_FILES:
            raise InputFileError(f"the jobs name more than {MAX_SWEEP_INPUT_FILES} input files; split the sweep")
        try:
            data = _read(path, value)
        except OSError as error:
            raise InputFileError(f"the input file {show(value)} cannot be read: {error.strerror}") from error
        found[value] = InputFile(value, hashlib.sha256(data).hexdigest(), len(data))
        total += len(data)
        if total > MAX_SWEEP_INPUT_BYTES:
            raise InputFileError(
                f"the jobs name input files of more than {MAX_SWEEP_INPUT_BYTES >> 20} MiB; split the sweep"
            )
    return list(found.values())


def _existing(name: str, folders: Folders) -> Path | None:
    try:
        path = folders.resolve(name)
        return path if path.is_file() else None
    except (ValueError, OSError):  # a name that leaves its folder, or that no file can have
        return None


def _read(path: Path, name: str) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_UPLOAD_BYTES + 1)
    if len(data) > MAX_UPLOAD_BYTES:
        raise InputFileError(f"the input file {show(name)} has more than {MAX_UPLOAD_BYTES >> 20} MiB")
    return data
