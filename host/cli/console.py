"""What a command says on stderr beside its errors: notes, progress, and what it waits for. `--quiet` leaves all out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_quiet", "say", "set_quiet", "told_if_slow"]

_PATIENCE = 1.0  # seconds without a word

_quiet = threading.Event()  # set: only errors and results are written


def set_quiet(quiet: bool) -> None:
    """Choose whether this process's command says anything beside its errors and results."""
    if quiet:
        _quiet.set()
    else:
        _quiet.clear()


def is_quiet() -> bool:
    """Return whether only errors and results are written."""
    return _quiet.is_set()


def say(text: str) -> None:
    """Write a line to stderr, unless the command is quiet."""
    if not is_quiet():
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@contextmanager
def told_if_slow(text: str, seconds: float = _PATIENCE) -> Iterator[None]:
    """Say `text` if the block takes longer than `seconds`, while it does."""
    timer = threading.Timer(seconds, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
