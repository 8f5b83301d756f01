"""Measurements in fresh processes.

The cost of a new tensor depends on the history of the process: the C library either returns freed memory to the system
and fetches it again page by page, or keeps it. Both occur in practice, so both are measured, each in a fresh process.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing.context import ForkServerContext
from typing import Any, TypeVar

__all__ = ["ALLOCATORS", "in_fresh_process"]

Result = TypeVar("Result")

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of glibc's mallopt


def _keep_freed_memory() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        raise RuntimeError("keeping freed memory needs glibc (mallopt); run this measurement on Linux with glibc")
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


ALLOCATORS: dict[str, Callable[[], None]] = {
    "freed memory is returned to the system, with the C library's defaults": lambda: None,
    "freed memory is kept": _keep_freed_memory,
}


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.speed"])  # torch and diffusers are imported once
    return context


def in_fresh_process(allocator: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Run ``function(*arguments)`` in a process that has only done imports, and return its result.

    Args:
        allocator: A key of ``ALLOCATORS``.
        function: A function at the top level of a module.
        *arguments: Its arguments, which must be picklable.
    """
    with ProcessPoolExecutor(1, _context(), _prepare, (allocator,)) as pool:
        return pool.submit(function, *arguments).result()


def _prepare(allocator: str) -> None:
    import torch

    torch.set_num_threads(1)
    ALLOCATORS[allocator]()
