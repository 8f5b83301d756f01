"""From the editor's format to the API's: what the frontend does when a person queues a graph.

Muted nodes vanish; bypassed ones pass a fitting input through; reroutes and subgraphs dissolve; a primitive's
value and a subgraph's own widget become constants. Node ids inside of subgraphs are paths, e.g. "4:2".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from host.editor_graph import (
    BYPASSED,
    INPUT_NODE,
    MUTED,
    EditorGraph,
    EditorNode,
    Slot,
    WorkflowError,
    read_graph,
    read_subgraphs,
)
from host.editor_widgets import widget_inputs, widget_values
from host.registry import Registry
from host.values import types_match

__all__ = ["to_prompt"]

_NOTES = frozenset({"Note", "MarkdownNote"})
_VIRTUAL = frozenset({"Reroute", "PrimitiveNode"}) | _NOTES
_MAX_HOPS = 200  # reroutes, bypassed nodes and subgraph borders in one line
_MAX_DEPTH = 20  # subgraphs in subgraphs
_MAX_NODES = 20_000  # with every subgraph unfolded
_SAVING = frozenset({"SaveImage"})  # nodes whose file name may quote other nodes' widgets, as in %KSampler.seed%


@dataclass(frozen=True)
class _Scope:
    """One use of a graph: the path of subgraph nodes that leads here, and the node it is the inside of."""

    path: tuple[str, ...]
    graph: EditorGraph
    host: EditorNode | None = None
    outer: _Scope | None = None

    def execution_id(self, node: EditorNode) -> str:
        return ":".join((*self.path, node.id))


@dataclass(frozen=True)
class _Constant:
    """An input's value that comes from a widget elsewhere."""

    value: Any


def to_prompt(workflow: Mapping[str, Any], registry: Registry) -> dict[str, dict]:
    """Return the prompt that queueing the workflow in the editor would send.

    Args:
        workflow: What the editor saves.
        registry: The node classes, which say what the widgets mean. A node of unknown class keeps its links
            only.

    Raises:
        WorkflowError: The file is broken: a link to nowhere, a loop of reroutes, subgraphs within themselves.
    """
    return _Converter(read_subgraphs(workflow), registry).convert(read_graph(workflow))


class _Converter:
    """The definitions that a conversion looks things up in."""

    def __init__(self, subgraphs: dict[str, EditorGraph], registry: Registry) -> None:
        self._subgraphs = subgraphs
        self._registry = registry

    def convert(self, graph: EditorGraph) -> dict[str, dict]:
        everywhere = list(self._unfold(_Scope((), graph)))
        prompt = {}
        for scope, node in everywhere:
            if node.kind not in _VIRTUAL:
                prompt[scope.execution_id(node)] = {
                    "inputs": self._inputs(scope, node, everywhere),
                    "class_type": node.kind,
                    "_meta": {"title": node.title or self._registry.display_names.get(node.kind, node.kind)},
                }
        for entry in prompt.values():
            entry["inputs"] = {
                name: value
                for name, value in entry["inputs"].items()
                if not isinstance(value, list) or value[0] in prompt
            }
        return prompt

    def _unfold(self, scope: _Scope, count: list[int] | None = None) -> Iterator[tuple[_Scope, EditorNode]]:
        """Yield every node that is not muted or bypassed, subgraphs replaced by what is in them."""
        count = [0] if count is None else count
        if len(scope.path) > _MAX_DEPTH:
            raise WorkflowError(f"subgraphs nest more than {_MAX_DEPTH} deep, at node {':'.join(scope.path)}")
        for node in scope.graph.nodes.values():
            count[0] += 1
            if count[0] > _MAX_NODES:
                raise WorkflowError(f"with its subgraphs unfolded the workflow has more than {_MAX_NODES} nodes")
            if node.mode in (MUTED, BYPASSED):
                continue
            if node.kind in self._subgraphs:
                yield from self._unfold(self._enter(scope, node), count)
            else:
                yield scope, node

    def _enter(self, scope: _Scope, node: EditorNode) -> _Scope:
        return _Scope((*scope.path, node.id), self._subgraphs[node.kind], node, scope)

    # -- the inputs of a node

    def _inputs(self, scope: _Scope, node: EditorNode, everywhere: list[tuple[_Scope, EditorNode]]) -> dict[str, Any]:
        inputs = self._own_values(scope, node)
        if node.kind in _SAVING and isinstance(inputs.get("filename_prefix"), str):
            inputs["filename_prefix"] = self._quote_widgets(inputs["filename_prefix"], everywhere)
        inputs = {name: _wrapped(value) for name, value in inputs.items()}
        for slot in node.inputs:
            source = self._resolve_slot(scope, node, slot) if slot.link is not None else None
            if source is not None:
                inputs[slot.name] = _wrapped(source.value) if isinstance(source, _Constant) else source
        return inputs

    def _own_values(self, scope: _Scope, node: EditorNode) -> dict[str, Any]:
        """Return what the node's widgets hold, as the subgraph nodes around it set them."""
        kind = self._registry.nodes.get(node.kind)
        if kind is None:
            return {}
        values = widget_values(kind, node.values)
        if scope.host is not None and scope.outer is not None:
            proxies = self._host_values(scope.outer, scope.host)[1]
            values |= {name: proxies[node.id, name] for name in values if (node.id, name) in proxies}
        return values

    def _quote_widgets(self, text: str, everywhere: list[tuple[_Scope, EditorNode]]) -> str:
        """Replace %node.widget% by the widget's value; the node is named by its S&R name, then by its title."""

        def value(match: re.Match[str]) -> str:
            name, _, widget = match[1].rpartition(".")
            found = [pair for pair in everywhere if pair[1].properties.get("Node name for S&R") == name] or [
                pair for pair in everywhere if pair[1].title == name
            ]
            values = self._own_values(*found[0]) if found else {}
            return re.sub(r'[/?<>\\:*|"\x00-\x1f\x7f]', "_", str(values[widget])) if widget in values else match[0]

        return re.sub(r"%([^%]+\.[^%.]+)%", value, text)

    # -- following links

    def _resolve_slot(
        self,
        scope: _Scope,
        node: EditorNode,
        slot: Slot,
        wanted: Any = None,
        hops: int = 0,
    ) -> list | _Constant | None:
        """Return where an input's value comes from: a link [id, slot], a constant, or None for nothing."""
        if hops > _MAX_HOPS:
            raise WorkflowError(f"{node.label}: the line into its input '{slot.name}' goes round in a circle")
        if slot.link is None:
            return None
        link = scope.graph.links.get(slot.link)
        if link is None:
            raise WorkflowError(f"{node.label}: its input '{slot.name}' has link {slot.link}, which does not exist")
        if link.origin == INPUT_NODE and scope.host is not None and scope.outer is not None:
            return self._resolve_border(scope, link.origin_slot, hops + 1)
        origin = scope.graph.nodes.get(link.origin)
        if origin is None:
            raise WorkflowError(
                f"{node.label}: its input '{slot.name}' is linked to node {link.origin}, which does not exist"
            )
        return self._resolve_output(scope, origin, link.origin_slot, slot.type if wanted is None else wanted, hops + 1)

    def _resolve_border(self, scope: _Scope, index: int, hops: int) -> list | _Constant | None:
        """Follow a line out of a subgraph, to what feeds its node's input or to the widget shown there."""
        assert scope.host is not None and scope.outer is not None
        name = scope.graph.inputs[index] if index < len(scope.graph.inputs) else ""
        outside = next((slot for slot in scope.host.inputs if slot.name == name), None)
        if outside is not None and outside.link is not None:
            return self._resolve_slot(scope.outer, scope.host, outside, hops=hops)
        values = self._host_values(scope.outer, scope.host)[0]
        return _Constant(values[name]) if name in values else None

    def _resolve_output(
        self,
        scope: _Scope,
        node: EditorNode,
        index: int,
        wanted: Any,
        hops: int,
    ) -> list | _Constant | None:
        """Return where an output's value comes from."""
        if node.mode == MUTED or node.kind in _NOTES:
            return None
        if node.mode == BYPASSED:
            slot = self._passed_through(node, index, wanted)
            return None if slot is None else self._resolve_slot(scope, node, slot, hops=hops)
        if node.kind in self._subgraphs:
            return self._resolve_inside(self._enter(scope, node), index, wanted, hops)
        if node.kind == "Reroute":
            return self._resolve_slot(scope, node, node.inputs[0], wanted, hops) if node.inputs else None
        if node.kind == "PrimitiveNode":
            return _Constant(node.values[0]) if isinstance(node.values, list) and node.values else None
        return [scope.execution_id(node), index]

    def _resolve_inside(self, inner: _Scope, index: int, wanted: Any, hops: int) -> list | _Constant | None:
        """Follow a line into a subgraph, to the node that feeds its output."""
        link = inner.graph.to_output(index)
        if link is None:
            return None
        if link.origin == INPUT_NODE:
            return self._resolve_border(inner, link.origin_slot, hops + 1)
        origin = inner.graph.nodes.get(link.origin)
        if origin is None:
            raise WorkflowError(
                f"subgraph {':'.join(inner.path)}: its output {index} is linked to node {link.origin}, "
                "which does not exist"
            )
        if hops > _MAX_HOPS:
            raise WorkflowError(f"{origin.label}: the line out of it goes round in a circle")
        return self._resolve_output(inner, origin, link.origin_slot, wanted, hops + 1)

    def _passed_through(self, node: EditorNode, index: int, wanted: Any) -> Slot | None:
        """Return the input that a bypassed node passes to its output: the same place, else the first that fits."""
        slots = self._all_slots(node)
        if wanted in ("*", "", None):
            return slots[index if index < len(slots) else 0] if slots else None
        given = node.outputs[index] if index < len(node.outputs) else "*"

        def fits(slot: Slot) -> bool:
            return _compatible(slot.type, given) and _compatible(slot.type, wanted)

        if index < len(slots) and fits(slots[index]):
            return slots[index]
        return next((slot for slot in slots if slot.type == wanted), None) or next(filter(fits, slots), None)

    def _all_slots(self, node: EditorNode) -> list[Slot]:
        """Return a node's inputs as the editor shows them: sockets first, then widgets; files omit idle widgets."""
        kind = self._registry.nodes.get(node.kind)
        if kind is None:
            return list(node.inputs)
        listed = {slot.name: slot for slot in node.inputs}
        widgets = {
            name: Slot(name, "COMBO" if isinstance(spec[0], list) else spec[0], None, True)
            for name, spec in widget_inputs(kind).items()
        }
        sockets = [slot for slot in node.inputs if slot.name not in widgets]
        return sockets + [listed.get(name, slot) for name, slot in widgets.items()]

    # -- widgets of subgraph nodes

    def _host_values(self, scope: _Scope, host: EditorNode) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
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
            outer = self._host_values(scope.outer, scope.host)[1]
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


def _compatible(left: Any, right: Any) -> bool:
    """Say whether the editor would connect two types; 0 and "" stand for any."""
    left, right = (kind.upper() if isinstance(kind, str) else kind for kind in (left, right))
    return left in (0, "") or right in (0, "") or types_match(left, right)


def _wrapped(value: Any) -> Any:
    """Return a constant as prompts carry it: a bare list would be a link."""
    return {"__value__": value} if isinstance(value, list) else value
