"""The widgets of a subgraph node: they set widgets of nodes inside, separately for each use of the subgraph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.limits import MAX_SUBGRAPH_DEPTH
from host.packs import Registry
from host.workflows.editor_graph import EditorGraph, EditorNode, Scope
from host.workflows.editor_widgets import widget_inputs

__all__ = ["SubgraphWidgets"]

WidgetKey = tuple[str, str]  # (inner node, widget)


class SubgraphWidgets:
    """Looks up the values of subgraph nodes' widgets.

    Args:
        subgraphs: The definitions by id.
        registry: The node classes, which tell which inputs have widgets.
    """

    def __init__(self, subgraphs: Mapping[str, EditorGraph], registry: Registry) -> None:
        self._subgraphs = subgraphs
        self._registry = registry

    def values(self, scope: Scope, instance: EditorNode) -> tuple[dict[str, Any], dict[WidgetKey, Any]]:
        """Return the values of a subgraph node's own widgets.

        Returns:
            {input name: value}, for widgets that are inputs of the subgraph, and {(inner node, widget): value}, for
            those that older frontends list in the property `proxyWidgets`.
        """
        graph = self._subgraphs[instance.class_type]
        by_input: dict[str, Any] = {}
        by_widget: dict[WidgetKey, Any] = {}
        proxies = instance.properties.get("proxyWidgets")
        if isinstance(instance.values, dict):
            by_input |= instance.values
        elif isinstance(proxies, list) and proxies:
            by_widget = _proxy_values(proxies, instance.values or [])
            by_input |= {name: value for (inner, name), value in by_widget.items() if inner == "-1"}
        elif instance.values:
            names = [name for index, name in enumerate(graph.inputs) if self._widget_behind(graph, index)]
            by_input |= {name: value for name, value in zip(names, instance.values, strict=False) if value is not None}
        by_input |= self._linked_proxies(graph, by_widget)
        if scope.instance is not None and scope.parent is not None:
            outer = self.values(scope.parent, scope.instance)[1]
            by_input |= {name: value for (inner, name), value in outer.items() if inner == instance.id}
        return by_input, by_widget

    def _linked_proxies(self, graph: EditorGraph, by_widget: dict[WidgetKey, Any]) -> dict[str, Any]:
        """Return the values of proxies whose widget is also linked to an input of the subgraph, by that input."""
        found = {}
        for index, name in enumerate(graph.inputs):
            behind = self._widget_behind(graph, index) if by_widget else None
            if behind is not None and behind in by_widget:
                found[name] = by_widget[behind]
        return found

    def _widget_behind(self, graph: EditorGraph, index: int, depth: int = 0) -> WidgetKey | None:
        """Return the widget that a subgraph's input number `index` sets, or None if it feeds only sockets."""
        for link in graph.from_input(index):
            node = graph.nodes.get(link.target)
            if node is None or depth > MAX_SUBGRAPH_DEPTH:
                continue
            slot = next((slot for slot in node.inputs if graph.links.get(slot.link or "") == link), None)
            if slot is None:
                continue
            inner = self._subgraphs.get(node.class_type)
            if inner is not None and slot.name in inner.inputs:
                if self._widget_behind(inner, inner.inputs.index(slot.name), depth + 1):
                    return node.id, slot.name
            elif slot.is_widget or slot.name in self._widget_names(node):
                return node.id, slot.name
        return None

    def _widget_names(self, node: EditorNode) -> set[str]:
        cls = self._registry.nodes.get(node.class_type)
        return set() if cls is None else set(widget_inputs(cls))


def _proxy_values(proxies: list[Any], values: list[Any]) -> dict[WidgetKey, Any]:
    """Return {(inner node, widget): value} of the entries [inner node, widget, ...] that have a value."""
    found = {}
    for entry, value in zip(proxies, values, strict=False):
        if isinstance(entry, list) and len(entry) >= 2 and value is not None:
            found[str(entry[0]), str(entry[1])] = value
    return found
