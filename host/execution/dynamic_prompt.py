"""A prompt while it runs: its nodes, and those that other nodes put into it on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["DynamicPrompt"]


class DynamicPrompt:
    """What a node gets for the hidden input DYNPROMPT, with ComfyUI's methods.

    A node that returns {"expand": {...}} adds nodes. Each remembers which node added it (its parent), and
    under which node of the editor its progress and results are shown (its display id).
    """

    def __init__(self, original: Mapping[str, dict]) -> None:
        self._original = original
        self._added: dict[str, dict] = {}
        self._parents: dict[str, str] = {}
        self._display: dict[str, str] = {}

    def get_original_prompt(self) -> Mapping[str, dict]:
        """Return the prompt as it was queued."""
        return self._original

    def get_node(self, node_id: str) -> dict:
        """Return {"class_type", "inputs"} of a node. Raises KeyError for an unknown id."""
        return self._added[node_id] if node_id in self._added else self._original[node_id]

    def has_node(self, node_id: str) -> bool:
        """Say whether there is such a node, queued or added."""
        return node_id in self._added or node_id in self._original

    def all_node_ids(self) -> set[str]:
        """Return the ids of all nodes, queued and added."""
        return {*self._original, *self._added}

    def get_parent_node_id(self, node_id: str) -> str | None:
        """Return the node that added this one, or None for a queued node."""
        return self._parents.get(node_id)

    def get_real_node_id(self, node_id: str) -> str:
        """Return the queued node that this one stems from."""
        while node_id in self._parents:
            node_id = self._parents[node_id]
        return node_id

    def get_display_node_id(self, node_id: str) -> str:
        """Return the node of the editor that shows what this one does."""
        while node_id in self._display:
            node_id = self._display[node_id]
        return node_id

    def add_node(self, node_id: str, node: dict[str, Any], parent_id: str) -> None:
        """Put a node into the graph on behalf of `parent_id`."""
        self._added[node_id] = {**node, "inputs": node.get("inputs", {})}
        self._parents[node_id] = parent_id
        self._display[node_id] = node.get("override_display_id", parent_id)
