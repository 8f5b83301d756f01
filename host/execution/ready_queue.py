"""Which node runs next, in a graph that grows while it runs.

`graphlib` orders a graph that is known in advance; here lazy inputs and expansions add edges and nodes during the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from host.execution.dynamic_prompt import DynamicPrompt
from host.packs import NodeClass, find_input, input_types, is_output_node
from host.prompt_format import is_link

__all__ = ["ReadyQueue"]


class ReadyQueue:
    """The nodes still to run, each with the nodes that it waits for.

    Args:
        graph: The prompt.
        classes: {node id: class}.
        is_done: Returns whether a node's outputs are available, so that no node needs to wait for it.
    """

    def __init__(self, graph: DynamicPrompt, classes: Mapping[str, NodeClass], is_done: Callable[[str], bool]) -> None:
        self._graph = graph
        self._classes = classes
        self._is_done = is_done
        self._sources: dict[str, set[str]] = {}  # insertion order is the order in which nodes became known
        self._consumers: dict[str, dict[str, None]] = {}
        self._held: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._sources)

    def add(self, node_id: str) -> None:
        """Add a node and everything it needs; lazy inputs are left out until the node asks for them."""
        stack, edges = [node_id], []
        while stack:
            current = stack.pop()
            if current in self._sources:
                continue
            self._sources[current] = set()
            self._consumers.setdefault(current, {})
            for source in self._eager_sources(current):
                if not self._is_done(source):
                    stack.append(source)
                    edges.append((source, current))
        for source, current in edges:
            self._connect(source, current)

    def require(self, node_id: str, source: str) -> None:
        """Make a queued node wait for one more source."""
        if not self._is_done(source):
            self.add(source)
            self._connect(source, node_id)

    def hold(self, node_id: str) -> None:
        """Keep a node from being picked until `release`: it waits for something outside of the graph."""
        self._held.add(node_id)

    def release(self, node_id: str) -> None:
        """Let a held node be picked again."""
        self._held.discard(node_id)

    def finish(self, node_id: str) -> None:
        """Remove a node whose outputs are available now."""
        del self._sources[node_id]
        for consumer in self._consumers.pop(node_id):
            self._sources[consumer].discard(node_id)

    def pick(self) -> str | None:
        """Return the node to run next, or None if all of them wait.

        Output nodes and async nodes come first, then nodes that feed an output, directly or through one other node:
        pictures appear as early as possible, and slow requests start early. ComfyUI picks in the same order.
        """
        ready = [node_id for node_id, sources in self._sources.items() if not sources and node_id not in self._held]
        ranks = (self._is_urgent, self._feeds_output, self._nearly_feeds_output, lambda node_id: True)
        return next((node_id for rank in ranks for node_id in ready if rank(node_id)), None)

    def stuck(self) -> list[str]:
        """Return the nodes of the cycle that keeps every node waiting, and those between cycles."""
        left = {node_id: set(sources) for node_id, sources in self._sources.items()}
        free = [node_id for node_id, sources in left.items() if not sources]
        while free:
            for node_id in free:
                del left[node_id]
            for sources in left.values():
                sources.difference_update(free)
            free = [node_id for node_id, sources in left.items() if not sources]
        return list(left)

    def _eager_sources(self, node_id: str) -> list[str]:
        """Return the nodes that a node's inputs come from, without those of lazy inputs."""
        if not self._graph.has_node(node_id):
            raise ValueError(f"an input is linked to node {node_id}, which does not exist")
        declared = input_types(self._classes[node_id])
        sources = []
        for name, value in self._graph.get_node(node_id)["inputs"].items():
            spec = find_input(declared, name)
            if is_link(value) and spec is not None and not spec.options.get("lazy", False):
                sources.append(value[0])
        return sources

    def _connect(self, source: str, consumer: str) -> None:
        self._sources[consumer].add(source)
        self._consumers[source][consumer] = None

    def _is_output(self, node_id: str) -> bool:
        return is_output_node(self._classes[node_id])

    def _is_urgent(self, node_id: str) -> bool:
        node = self._classes[node_id]
        return self._is_output(node_id) or inspect.iscoroutinefunction(getattr(node, node.FUNCTION, None))

    def _feeds_output(self, node_id: str) -> bool:
        return any(map(self._is_output, self._consumers[node_id]))

    def _nearly_feeds_output(self, node_id: str) -> bool:
        return any(map(self._feeds_output, self._consumers[node_id]))
