"""Results kept between runs: exactly those that the next prompt can use."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

__all__ = ["Cache", "CacheEntry", "NodeKey"]

NodeKey = tuple[str, str]  # (node id, class)


@dataclass(frozen=True)
class CacheEntry:
    """The result of a node.

    Attributes:
        outputs: For each output, the list of its values.
        ui: What the node showed, or None.
        owner: For a node that another node's expansion added: the queued node that it belongs to.
        writes: Whether the node ends a graph or wrote files that are kept.
    """

    outputs: list[list[Any]]
    ui: dict[str, list[Any]] | None
    owner: NodeKey | None = None
    writes: bool = False


class Cache:
    """Outputs by signature and node objects by (id, class), kept until a prompt comes that cannot use them."""

    def __init__(self) -> None:
        self._entries: dict[str, CacheEntry] = {}
        self._objects: dict[NodeKey, Any] = {}

    def keep_only(self, signatures: Collection[str], nodes: Collection[NodeKey]) -> None:
        """Drop everything except the results of these signatures and what belongs to these nodes."""
        self._entries = {
            key: entry for key, entry in self._entries.items() if key in signatures or entry.owner in nodes
        }
        self._objects = {key: obj for key, obj in self._objects.items() if key in nodes}

    def keep_owned(self, owner: NodeKey, signatures: Collection[str]) -> None:
        """Drop the results of nodes that `owner` added in an earlier run and does not add now."""
        self._entries = {
            key: entry for key, entry in self._entries.items() if entry.owner != owner or key in signatures
        }

    def drop_written(self) -> None:
        """Drop the results of nodes that wrote files: the next run writes them again."""
        if any(entry.writes and entry.owner is not None for entry in self._entries.values()):
            self._entries.clear()  # such a node runs again only if the one that added it does
        self._entries = {key: entry for key, entry in self._entries.items() if not entry.writes}

    def get(self, signature: str) -> CacheEntry | None:
        """Return the result for a signature, or None."""
        return self._entries.get(signature)

    def put(self, signature: str, entry: CacheEntry) -> None:
        """Store a node's result."""
        self._entries[signature] = entry

    def object_for(self, key: NodeKey, make: Callable[[], Any]) -> Any:
        """Return a node's object: the same one in every run, as long as prompts contain the node."""
        if key not in self._objects:
            self._objects[key] = make()
        return self._objects[key]

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self._objects.clear()
