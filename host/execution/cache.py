"""Results kept between runs: what the next prompt can use again, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

__all__ = ["Cache", "Entry"]


@dataclass(frozen=True)
class Entry:
    """What a node gave.

    Attributes:
        outputs: For each output, the list of its values.
        ui: What the node showed, or None.
        owner: For a node that another one put into the graph: that queued node, as (id, class).
    """

    outputs: list[list]
    ui: dict[str, list] | None
    owner: tuple[str, str] | None = None


class Cache:
    """Outputs by signature and node objects by (id, class), until a prompt comes that has no use for them."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._objects: dict[tuple[str, str], Any] = {}

    def keep_only(self, signatures: Collection[str], nodes: Collection[tuple[str, str]]) -> None:
        """Drop what a prompt with these signatures and (id, class) pairs has no use for."""
        self._entries = {
            key: entry for key, entry in self._entries.items() if key in signatures or entry.owner in nodes
        }
        self._objects = {key: obj for key, obj in self._objects.items() if key in nodes}

    def keep_owned(self, owner: tuple[str, str], signatures: Collection[str]) -> None:
        """Drop results of nodes that `owner` put into the graph in an earlier run and does not now."""
        self._entries = {
            key: entry for key, entry in self._entries.items() if entry.owner != owner or key in signatures
        }

    def get(self, signature: str) -> Entry | None:
        """Return what the node with this signature gave, if it is kept."""
        return self._entries.get(signature)

    def put(self, signature: str, entry: Entry) -> None:
        """Keep what a node gave."""
        self._entries[signature] = entry

    def object_for(self, key: tuple[str, str], make: Callable[[], Any]) -> Any:
        """Return the object of a node, the same in every run as long as prompts name it."""
        if key not in self._objects:
            self._objects[key] = make()
        return self._objects[key]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._objects.clear()
