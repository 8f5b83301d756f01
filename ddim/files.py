"""Atomic file writing."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_atomically"]

_MAX_NAME_PART = 60  # characters of the target's name in the temporary name; file systems allow 255 bytes in all


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Create or replace a file, so that other processes see either the old content or the complete new content.

    The content goes to a hidden temporary file in the same folder, is flushed to disk, and the file is then renamed. It
    gets the permissions of any new file, as set by the process's umask.

    Args:
        target: The file to write. Its folder must exist.
        write: Called with the path of an empty file, which it fills.

    Raises:
        OSError: If the file cannot be written. An existing file stays unchanged and the temporary file is removed, as
            they do for any exception in ``write``.
    """
    temporary = target.with_name(f".{target.name[:_MAX_NAME_PART]}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        write(temporary)
        temporary.chmod(mode)  # safetensors puts another file in its place, which only the owner can read
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("r+b") as file:  # writable, because Windows cannot flush a file that is open for reading only
        os.fsync(file.fileno())
