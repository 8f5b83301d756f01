"""Replacing files atomically."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_replacement"]


@contextmanager
def atomic_replacement(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``target``; what is written there replaces ``target`` at the end.

    A reader, or a machine that loses power, sees the old file or the new one, never a part of it. Where the body
    raises, the temporary file is removed and ``target`` stays as it was.

    Args:
        target: the file to write, new or existing; its folder must exist.

    Raises:
        OSError: if the file cannot be written.
    """
    # A name of its own length: one that contained the target's could be longer than the file system allows.
    temporary = target.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    # Opened for writing, which Windows needs to flush a file.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
