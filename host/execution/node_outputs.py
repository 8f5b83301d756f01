"""What the nodes of a run have given, now or in an earlier run."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from host.execution.cache import Cache, Entry
from host.execution.calls import finished
from host.execution.graph import DynamicPrompt
from host.execution.node_inputs import gather_inputs, hidden_inputs
from host.execution.signatures import Signatures
from host.registry import Registry

__all__ = ["Call", "Results"]

log = logging.getLogger(__name__)

# call(node id, method, inputs) -> one result for each call, tasks among them
Call = Callable[[str, Any, dict[str, list]], Awaitable[list[Any]]]


class Results:
    """The outputs of the nodes of one graph, found by signature in the cache.

    Args:
        registry: The classes.
        cache: What earlier runs left, and this one leaves.
        graph: The prompt.

    Attributes:
        classes: {node id: class}, of queued and of added nodes.
    """

    def __init__(self, registry: Registry, cache: Cache, graph: DynamicPrompt) -> None:
        prompt = graph.get_original_prompt()
        self.classes = {node_id: registry.nodes[node["class_type"]] for node_id, node in prompt.items()}
        self._registry, self._cache, self._graph = registry, cache, graph
        self._changed: dict[str, Any] = {}
        self._signatures = Signatures(graph, self.classes, self._changed)

    async def open(self, call: Call) -> list[str]:
        """Sign the queued nodes, drop what they have no use for, and return those whose results are at hand."""
        queued = list(self._graph.get_original_prompt())
        await self._ask_changed(queued, call)
        self._cache.keep_only({self._signatures.of(node_id) for node_id in queued}, set(map(self._key, queued)))
        return [node_id for node_id in queued if self.get(node_id) is not None]

    async def add_nodes(self, nodes: Mapping[str, dict], parent_id: str, call: Call) -> None:
        """Put nodes into the graph on behalf of `parent_id`, and sign them."""
        for node_id, node in nodes.items():
            if node.get("class_type") not in self._registry.nodes:
                raise ValueError(f"the expansion adds a node of the unknown class {node.get('class_type')!r}")
            self._graph.add_node(node_id, node, parent_id)
            self.classes[node_id] = self._registry.nodes[node["class_type"]]
        await self._ask_changed(list(nodes), call)
        owner = self._key(self._graph.get_real_node_id(parent_id))
        self._cache.keep_owned(owner, {self._signatures.of(node_id) for node_id in nodes})

    def get(self, node_id: str) -> Entry | None:
        """Return what a node gave, or None if it has to run."""
        return self._cache.get(self._signatures.of(node_id))

    def fetch(self, node_id: str, slot: int) -> list | None:
        """Return the values of an output, or None if its node has not run or gave no such output."""
        entry = self.get(node_id)
        return entry.outputs[slot] if entry is not None and slot < len(entry.outputs) else None

    def put(self, node_id: str, outputs: list[list], ui: dict[str, list] | None) -> None:
        """Keep what a node gave."""
        real_id = self._graph.get_real_node_id(node_id)
        owner = None if real_id == node_id else self._key(real_id)
        self._cache.put(self._signatures.of(node_id), Entry(outputs, ui, owner))

    def object_of(self, node_id: str) -> Any:
        """Return the node's object, which lives as long as prompts name it."""
        return self._cache.object_for(self._key(node_id), self.classes[node_id])

    def _key(self, node_id: str) -> tuple[str, str]:
        return node_id, self._graph.get_node(node_id)["class_type"]

    async def _ask_changed(self, node_ids: Sequence[str], call: Call) -> None:
        """Ask each node's IS_CHANGED for what its result depends on beside its inputs. Links are None to it."""
        for node_id in node_ids:
            node = self.classes[node_id]
            method = getattr(node, "IS_CHANGED", None)
            if method is None:
                continue
            inputs, _ = gather_inputs(node, self._graph.get_node(node_id)["inputs"], lambda source, slot: None)
            inputs |= hidden_inputs(node, node_id, None, {})
            try:
                self._changed[node_id] = await finished(await call(node_id, method, inputs))
            except Exception as error:
                log.warning("IS_CHANGED of node %s raised, so it runs anew: %s", node_id, error)
                self._changed[node_id] = float("nan")
