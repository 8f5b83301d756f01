"""What a node's outputs depend on, as one string: equal signatures may share a cached result."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from host.checking.links import is_link
from host.execution.graph import DynamicPrompt
from host.object_info import NodeClass, input_types

__all__ = ["Signatures"]


class Signatures:
    """The signatures of the nodes of one run.

    A node's signature covers its class, its constants, what IS_CHANGED said, and the signatures of the nodes
    that its links come from. A node that depends on its own id, or says NOT_IDEMPOTENT, carries the id too.

    Args:
        graph: The prompt.
        classes: {node id: class}.
        changed: {node id: what IS_CHANGED said}; filled before a signature is asked for.
    """

    def __init__(self, graph: DynamicPrompt, classes: Mapping[str, NodeClass], changed: Mapping[str, Any]) -> None:
        self._graph = graph
        self._classes = classes
        self._changed = changed
        self._known: dict[str, str] = {}

    def of(self, node_id: str) -> str:
        """Return the signature of a node."""
        stack = [node_id]
        open_nodes: set[str] = set()
        while stack:
            current = stack[-1]
            missing = (
                []
                if current in self._known
                else [
                    source
                    for source in self._sources(current)
                    if source not in self._known and source not in open_nodes
                ]
            )
            if missing:
                open_nodes.add(current)
                stack += missing
                continue
            stack.pop()
            open_nodes.discard(current)
            if current not in self._known:
                self._known[current] = self._sign(current)
        return self._known[node_id]

    def _sources(self, node_id: str) -> list[str]:
        if not self._graph.has_node(node_id):
            return []
        return [value[0] for value in self._graph.get_node(node_id)["inputs"].values() if is_link(value)]

    def _sign(self, node_id: str) -> str:
        """Hash one node whose sources are signed. One that is not is part of a cycle: never cached."""
        if not self._graph.has_node(node_id):
            return uuid.uuid4().hex
        node = self._graph.get_node(node_id)
        inputs = [
            [
                name,
                ["link", self._known.get(value[0]) or uuid.uuid4().hex, value[1]]
                if is_link(value)
                else ["value", _stable(value)],
            ]
            for name, value in sorted(node["inputs"].items())
        ]
        kind = self._classes[node_id]
        own = node_id if _depends_on_id(kind) else None
        text = json.dumps([node["class_type"], _stable(self._changed.get(node_id)), own, inputs])
        return hashlib.sha256(text.encode()).hexdigest()


def _depends_on_id(node: NodeClass) -> bool:
    """Say whether two equal nodes of this class may give different results."""
    return bool(getattr(node, "NOT_IDEMPOTENT", False)) or "UNIQUE_ID" in input_types(node).get("hidden", {}).values()


def _stable(value: Any) -> Any:
    """Return JSON that is equal for equal values. NaN and objects of unknown kind equal nothing at all."""
    if isinstance(value, float) and value != value:
        return ["never", uuid.uuid4().hex]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, Mapping):
        return [
            "map",
            sorted(([str(key), _stable(item)] for key, item in value.items()), key=lambda pair: pair[0]),
        ]
    if isinstance(value, (list, tuple)):
        return ["list", [_stable(item) for item in value]]
    return ["never", uuid.uuid4().hex]
