"""The running prompt, including nodes added by expansion."""

from __future__ import annotations

from typing import Any

from host.prompt_format import Prompt, PromptNode

__all__ = ["DynamicPrompt"]


class DynamicPrompt:
    """What a node gets for the hidden input DYNPROMPT, with ComfyUI's methods.

    A node that returns {"expand": {...}} adds nodes. Each of them has a parent, the node that added it, and a display
    id, the node of the editor that shows its progress and results.
    """

    def __init__(self, original: Prompt) -> None:
        self._original = original
        self._added: Prompt = {}
        self._parents: dict[str, str] = {}
        self._display: dict[str, str] = {}

    def get_original_prompt(self) -> Prompt:
        """Return the prompt as it was queued."""
        return self._original

    def get_node(self, node_id: str) -> PromptNode:
        """Return {"class_type", "inputs"} of a node. Raises KeyError for an unknown id."""
        return self._added[node_id] if node_id in self._added else self._original[node_id]

    def has_node(self, node_id: str) -> bool:
        """Return whether the node exists, queued or added."""
        return node_id in self._added or node_id in self._original

    def all_node_ids(self) -> set[str]:
        """Return the ids of all nodes, queued and added."""
        return {*self._original, *self._added}

    def get_parent_node_id(self, node_id: str) -> str | None:
        """Return the node that added this one, or None for a queued node."""
        return self._parents.get(node_id)

    def get_real_node_id(self, node_id: str) -> str:
        """Return the queued node that this one originates from."""
        while node_id in self._parents:
            node_id = self._parents[node_id]
        return node_id

    def get_display_node_id(self, node_id: str) -> str:
        """Return the node of the editor that shows this one's progress and results."""
        while node_id in self._display:
            node_id = self._display[node_id]
        return node_id

    def add_node(self, node_id: str, node: dict[str, Any], parent_id: str) -> None:
        """Add a node on behalf of `parent_id`."""
        self._added[node_id] = {**node, "inputs": node.get("inputs", {})}
        self._parents[node_id] = parent_id
        self._display[node_id] = node.get("override_display_id", parent_id)
