"""Signatures of nodes: a string for all that a node's outputs depend on. Equal signatures may share a cached result."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from host.execution.dynamic_prompt import DynamicPrompt
from host.packs import NodeClass, input_types
from host.prompt_format import is_link

__all__ = ["Signatures"]


class Signatures:
    """The signatures of the nodes of one run.

    A node's signature covers its class, its constants, the result of IS_CHANGED, and the signatures of the nodes that
    it is linked to. For a class that depends on the node's id, or that says NOT_IDEMPOTENT, it covers the id too.

    Args:
        graph: The prompt.
        classes: {node id: class}.
        changed: {node id: the result of IS_CHANGED}; filled before a signature is asked for.
    """

    def __init__(self, graph: DynamicPrompt, classes: Mapping[str, NodeClass], changed: Mapping[str, Any]) -> None:
        self._graph = graph
        self._classes = classes
        self._changed = changed
        self._known: dict[str, str] = {}

    def of(self, node_id: str) -> str:
        """Return the signature of a node. Iterative, because graphs may be deeper than the stack."""
        stack = [node_id]
        open_nodes: set[str] = set()
        while stack:
            current = stack[-1]
            missing = [source for source in self._unsigned_sources(current) if source not in open_nodes]
            if missing:
                open_nodes.add(current)
                stack += missing
                continue
            stack.pop()
            open_nodes.discard(current)
            if current not in self._known:
                self._known[current] = self._sign(current)
        return self._known[node_id]

    def _unsigned_sources(self, node_id: str) -> list[str]:
        """Return the nodes whose signatures a node's own one still needs."""
        if node_id in self._known or not self._graph.has_node(node_id):
            return []
        inputs = self._graph.get_node(node_id)["inputs"].values()
        return [value[0] for value in inputs if is_link(value) and value[0] not in self._known]

    def _sign(self, node_id: str) -> str:
        """Hash one node whose sources are signed. A source that is not is part of a cycle, and is never cached."""
        if not self._graph.has_node(node_id):
            return uuid.uuid4().hex
        node = self._graph.get_node(node_id)
        inputs = [[name, self._stable_input(value)] for name, value in sorted(node["inputs"].items())]
        own_id = node_id if _depends_on_id(self._classes[node_id]) else None
        text = json.dumps([node["class_type"], _stable(self._changed.get(node_id)), own_id, inputs])
        return hashlib.sha256(text.encode()).hexdigest()

    def _stable_input(self, value: Any) -> list[Any]:
        if is_link(value):
            return ["link", self._known.get(value[0]) or uuid.uuid4().hex, value[1]]
        return ["value", _stable(value)]


def _depends_on_id(node: NodeClass) -> bool:
    """Return whether two equal nodes of this class may give different results."""
    return bool(getattr(node, "NOT_IDEMPOTENT", False)) or "UNIQUE_ID" in input_types(node).get("hidden", {}).values()


def _stable(value: Any) -> Any:
    """Return JSON that is equal for equal values. NaN, and objects of unknown types, never equal anything."""
    if isinstance(value, float) and value != value:
        return ["never", uuid.uuid4().hex]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, Mapping):
        items = ([str(key), _stable(item)] for key, item in value.items())
        return ["map", sorted(items, key=lambda pair: pair[0])]
    if isinstance(value, (list, tuple)):
        return ["list", [_stable(item) for item in value]]
    return ["never", uuid.uuid4().hex]
