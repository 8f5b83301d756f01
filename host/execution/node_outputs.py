"""The outputs of a run's nodes, from this run or an earlier one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from host.error_format import show
from host.execution.cache import Cache, CacheEntry, NodeKey
from host.execution.calls import Inputs, await_tasks
from host.execution.dynamic_prompt import DynamicPrompt
from host.execution.node_inputs import gather_inputs, hidden_inputs
from host.execution.shown_files import shown_files
from host.execution.signatures import Signatures
from host.packs import Registry, is_output_node
from host.prompt_format import Prompt

__all__ = ["CallMethod", "NodeOutputs"]

log = logging.getLogger(__name__)

# call(node id, method, inputs) -> one result per call, unfinished ones as tasks
CallMethod = Callable[[str, Any, Inputs], Awaitable[list[Any]]]


class NodeOutputs:
    """The outputs of the nodes of one graph, looked up in the cache by signature.

    Args:
        registry: The classes.
        cache: Holds the results of earlier runs, and receives those of this one.
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

    async def open(self, call: CallMethod) -> list[str]:
        """Sign the queued nodes, drop what they cannot use, and return those whose results are cached."""
        queued = list(self._graph.get_original_prompt())
        await self._call_is_changed(queued, call)
        self._cache.keep_only({self._signatures.of(node_id) for node_id in queued}, set(map(self._key, queued)))
        return [node_id for node_id in queued if self.get(node_id) is not None]

    async def add_nodes(self, nodes: Prompt, parent_id: str, call: CallMethod) -> None:
        """Add nodes to the graph on behalf of `parent_id`, and sign them."""
        for node_id, node in nodes.items():
            if node.get("class_type") not in self._registry.nodes:
                raise ValueError(f"the expansion adds a node of the unknown class {show(node.get('class_type'))}")
            self._graph.add_node(node_id, node, parent_id)
            self.classes[node_id] = self._registry.nodes[node["class_type"]]
        await self._call_is_changed(list(nodes), call)
        owner = self._key(self._graph.get_real_node_id(parent_id))
        self._cache.keep_owned(owner, {self._signatures.of(node_id) for node_id in nodes})

    def get(self, node_id: str) -> CacheEntry | None:
        """Return a node's result, or None if it has to run."""
        return self._cache.get(self._signatures.of(node_id))

    def fetch(self, node_id: str, slot: int) -> list[Any] | None:
        """Return an output's values, or None if its node has not run or has no such output."""
        entry = self.get(node_id)
        return entry.outputs[slot] if entry is not None and slot < len(entry.outputs) else None

    def put(self, node_id: str, outputs: list[list[Any]], ui: dict[str, list[Any]] | None) -> None:
        """Store a node's result."""
        real_id = self._graph.get_real_node_id(node_id)
        owner = None if real_id == node_id else self._key(real_id)
        writes = is_output_node(self.classes[node_id]) or any(file.type == "output" for file in shown_files(ui))
        self._cache.put(self._signatures.of(node_id), CacheEntry(outputs, ui, owner, writes))

    def object_of(self, node_id: str) -> Any:
        """Return the node's object, which lives as long as prompts contain the node."""
        return self._cache.object_for(self._key(node_id), self.classes[node_id])

    def _key(self, node_id: str) -> NodeKey:
        return node_id, self._graph.get_node(node_id)["class_type"]

    async def _call_is_changed(self, node_ids: Sequence[str], call: CallMethod) -> None:
        """Call each node's IS_CHANGED: what the result depends on besides the inputs. Links are None in it."""
        for node_id in node_ids:
            node = self.classes[node_id]
            method = getattr(node, "IS_CHANGED", None)
            if method is None:
                continue
            inputs, _ = gather_inputs(node, self._graph.get_node(node_id)["inputs"], lambda source, slot: None)
            inputs |= hidden_inputs(node, node_id, None, {})
            try:
                self._changed[node_id] = await await_tasks(await call(node_id, method, inputs))
            except Exception as error:
                log.warning("IS_CHANGED of node %s raised, so the node runs again: %s", node_id, error)
                self._changed[node_id] = float("nan")
