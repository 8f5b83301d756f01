"""The names of a job's files: its index and its varying values, safe on every file system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MAX_STEM_BYTES", "file_stem", "safe_name", "short_names", "value_text"]

MAX_STEM_BYTES = 120  # leaves room in the 255 of a file system for what is added, and in Windows' 260 of a path
_MAX_VALUE_BYTES = 40
_MAX_NAME_BYTES = 40
_UNSAFE = re.compile(r"[^\w.+,-]+")  # also what Windows does not allow, and what a shell or a URL reads as its own


def short_names(targets: Sequence[str]) -> list[str]:
    """Return what each NODE.INPUT is called in names and on sheets: INPUT, or all of it where two share the input."""
    inputs = [target.rpartition(".")[2] for target in targets]
    return [name if inputs.count(name) == 1 else target for name, target in zip(inputs, targets, strict=True)]


def file_stem(index: int, count: int, values: Mapping[str, Any]) -> str:
    """Return the beginning of a job's file names, such as `0007_seed=7_cfg=1.5`.

    The index alone makes it unique; values are shortened, and left out where they are too many.

    Args:
        index: The job.
        count: The number of jobs, whose last index gives the width.
        values: {NODE.INPUT: value}.
    """
    stem = f"{index:0{len(str(count - 1))}}"
    for name, value in zip(short_names(list(values)), values.values(), strict=True):
        part = f"_{safe_name(name, _MAX_NAME_BYTES)}={safe_name(value_text(value), _MAX_VALUE_BYTES)}"
        if len((stem + part).encode()) > MAX_STEM_BYTES:
            break
        stem += part
    return stem.rstrip(".")  # Windows removes dots at the end


def value_text(value: Any) -> str:
    """Return a value as one would write it on the command line: 3 for 3.0, true for True."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def safe_name(text: str, limit: int) -> str:
    """Return a text with everything unusual replaced by a dash, and at most `limit` bytes of it."""
    plain = unicodedata.normalize("NFC", text[: 4 * limit].encode(errors="replace").decode())
    safe = _UNSAFE.sub("-", plain).strip("-")
    return safe.encode()[:limit].decode(errors="ignore")
