"""The widgets that a subgraph node shows: values of widgets inside of it, one set for each use of the subgraph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.registry import Registry
from host.workflows.editor_graph import EditorGraph, EditorNode, Scope
from host.workflows.editor_widgets import widget_inputs

__all__ = ["HostWidgets"]

_MAX_DEPTH = 20


class HostWidgets:
    """Looks up what subgraph nodes hold.

    Args:
        subgraphs: The definitions by id.
        registry: The node classes, which say what is a widget.
    """

    def __init__(self, subgraphs: Mapping[str, EditorGraph], registry: Registry) -> None:
        self._subgraphs = subgraphs
        self._registry = registry

    def values(self, scope: Scope, host: EditorNode) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
        """Return what a subgraph node's own widgets hold.

        Returns:
            {input name: value}, for widgets that are inputs of the subgraph, and {(inner node, widget):
            value}, for those that older frontends list in the property `proxyWidgets`.
        """
        graph = self._subgraphs[host.kind]
        by_input: dict[str, Any] = {}
        by_widget: dict[tuple[str, str], Any] = {}
        proxies = host.properties.get("proxyWidgets")
        if isinstance(host.values, dict):
            by_input |= host.values
        elif isinstance(proxies, list) and proxies:
            by_widget = _proxy_values(proxies, host.values or [])
            by_input |= {name: value for (inner, name), value in by_widget.items() if inner == "-1"}
        elif host.values:
            names = [name for index, name in enumerate(graph.inputs) if self._widget_behind(graph, index)]
            by_input |= {name: value for name, value in zip(names, host.values, strict=False) if value is not None}
        by_input |= self._linked_proxies(graph, by_widget)
        if scope.host is not None and scope.outer is not None:
            outer = self.values(scope.outer, scope.host)[1]
            by_input |= {name: value for (inner, name), value in outer.items() if inner == host.id}
        return by_input, by_widget

    def _linked_proxies(self, graph: EditorGraph, by_widget: dict[tuple[str, str], Any]) -> dict[str, Any]:
        """Return the values of proxies whose widget is also fed by an input of the subgraph, by that input."""
        found = {}
        for index, name in enumerate(graph.inputs):
            behind = self._widget_behind(graph, index) if by_widget else None
            if behind in by_widget:
                found[name] = by_widget[behind]
        return found

    def _widget_behind(self, graph: EditorGraph, index: int, depth: int = 0) -> tuple[str, str] | None:
        """Return (node, widget) that a subgraph's input number `index` feeds, or None if it feeds sockets only."""
        for link in graph.from_input(index):
            node = graph.nodes.get(link.target)
            if node is None or depth > _MAX_DEPTH:
                continue
            slot = next((slot for slot in node.inputs if graph.links.get(slot.link or "") == link), None)
            if slot is None:
                continue
            inner = self._subgraphs.get(node.kind)
            if inner is not None and slot.name in inner.inputs:
                if self._widget_behind(inner, inner.inputs.index(slot.name), depth + 1):
                    return node.id, slot.name
            elif slot.is_widget or slot.name in self._widgets(node):
                return node.id, slot.name
        return None

    def _widgets(self, node: EditorNode) -> Mapping[str, Any]:
        kind = self._registry.nodes.get(node.kind)
        return {} if kind is None else widget_inputs(kind)


def _proxy_values(proxies: list, values: list | dict) -> dict[tuple[str, str], Any]:
    """Return {(inner node, widget): value} of the entries [inner node, widget, ...] that have a value."""
    found = {}
    for entry, value in zip(proxies, values, strict=False):
        if isinstance(entry, list) and len(entry) >= 2 and value is not None:
            found[str(entry[0]), str(entry[1])] = value
    return found
