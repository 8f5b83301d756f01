"""Measurements in processes of their own.

What a new tensor costs depends on what the process did before: the C library hands freed memory back to the system, and
fetches it again page by page, or keeps it. Either is seen in practice, so both are measured, each from a clean start.
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


def _keep_what_is_freed() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        raise RuntimeError("only glibc can be told to keep freed memory")
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


ALLOCATORS: dict[str, Callable[[], None]] = {
    "freed memory goes back to the system, as the C library decides": lambda: None,
    "freed memory is kept": _keep_what_is_freed,
}


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.speed"])  # torch and diffusers are imported once
    return context


def in_fresh_process(allocator: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """What ``function(*arguments)`` returns in a process that has done nothing but import.

    Args:
        allocator: one of :data:`ALLOCATORS`.
        function: of a module.
        arguments: to be pickled.
    """
    with ProcessPoolExecutor(1, _context(), _prepare, (allocator,)) as pool:
        return pool.submit(function, *arguments).result()


def _prepare(allocator: str) -> None:
    import torch

    torch.set_num_threads(1)
    ALLOCATORS[allocator]()
