"""Freed memory goes back to the system, so that one large request does not make the host large for good."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["return_freed_memory", "return_large_blocks"]

_M_MMAP_THRESHOLD = -3  # from glibc's malloc.h
_LARGE_BLOCK = 4 << 20  # bytes; Pillow stores a picture in blocks of 16 MiB


def return_large_blocks() -> None:
    """Make the GNU C library return each large block when it is freed.

    By default its idea of a large block grows to 32 MiB, and smaller ones are kept, in every thread separately.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    except (AttributeError, OSError):  # another C library
        return


def return_freed_memory() -> None:
    """Free what only a failed node's traceback still holds, and return what the C library keeps for later."""
    gc.collect()
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        return
