"""The files that nodes say they wrote, in their ui results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["ShownFile", "shown_files"]


class ShownFile(NamedTuple):
    """A file reference of a ui result: `{"filename", "subfolder", "type"}`."""

    filename: str
    subfolder: str
    type: str


def shown_files(ui: Mapping[str, Any] | None) -> Iterator[ShownFile]:
    """Yield the files that a node's ui result names, in order, whatever the node calls the list of them."""
    for values in (ui or {}).values():
        for value in values if isinstance(values, (list, tuple)) else ():
            if isinstance(value, Mapping):
                parts = (value.get("filename"), value.get("subfolder", ""), value.get("type"))
                if all(isinstance(part, str) for part in parts):
                    yield ShownFile(*map(str, parts))
