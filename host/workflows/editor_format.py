"""From the editor's format to the API's: what the frontend does when a person queues a graph.

Muted nodes vanish; bypassed ones pass a fitting input through; reroutes and subgraphs dissolve; a primitive's
value and a subgraph's own widget become constants. Node ids inside of subgraphs are paths, e.g. "4:2".
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from host.checking.values import types_match
from host.folders import format_date
from host.registry import Registry
from host.workflows.editor_graph import (
    BYPASSED,
    INPUT_NODE,
    MUTED,
    EditorGraph,
    EditorNode,
    Scope,
    Slot,
    WorkflowError,
    read_graph,
    read_subgraphs,
)
from host.workflows.editor_subgraphs import HostWidgets
from host.workflows.editor_widgets import widget_inputs, widget_values

__all__ = ["to_prompt"]

_NOTES = frozenset({"Note", "MarkdownNote"})
_VIRTUAL = frozenset({"Reroute", "PrimitiveNode"}) | _NOTES
_MAX_HOPS = 200  # reroutes, bypassed nodes and subgraph borders in one line
_MAX_DEPTH = 20  # subgraphs in subgraphs
_MAX_NODES = 20_000  # with every subgraph unfolded
_SAVING = frozenset({"SaveImage"})  # nodes whose file name may quote other nodes' widgets, as in %KSampler.seed%
_UNFIT_FOR_FILES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')


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
        self._hosts = HostWidgets(subgraphs, registry)

    def convert(self, graph: EditorGraph) -> dict[str, dict]:
        everywhere = list(self._unfold(Scope((), graph)))
        prompt: dict[str, dict[str, Any]] = {}
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

    def _unfold(self, scope: Scope, count: list[int] | None = None) -> Iterator[tuple[Scope, EditorNode]]:
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

    def _enter(self, scope: Scope, node: EditorNode) -> Scope:
        return Scope((*scope.path, node.id), self._subgraphs[node.kind], node, scope)

    # -- the inputs of a node

    def _inputs(self, scope: Scope, node: EditorNode, everywhere: list[tuple[Scope, EditorNode]]) -> dict[str, Any]:
        inputs = self._own_values(scope, node)
        if node.kind in _SAVING and isinstance(inputs.get("filename_prefix"), str):
            inputs["filename_prefix"] = self._quote_widgets(inputs["filename_prefix"], everywhere)
        inputs = {name: _wrapped(value) for name, value in inputs.items()}
        for slot in node.inputs:
            source = self._resolve_slot(scope, node, slot) if slot.link is not None else None
            if source is not None:
                inputs[slot.name] = _wrapped(source.value) if isinstance(source, _Constant) else source
        return inputs

    def _own_values(self, scope: Scope, node: EditorNode) -> dict[str, Any]:
        """Return what the node's widgets hold, as the subgraph nodes around it set them."""
        kind = self._registry.nodes.get(node.kind)
        if kind is None:
            return {}
        values = widget_values(kind, node.values)
        if scope.host is not None and scope.outer is not None:
            proxies = self._hosts.values(scope.outer, scope.host)[1]
            values |= {name: proxies[node.id, name] for name in values if (node.id, name) in proxies}
        return values

    def _quote_widgets(self, text: str, everywhere: list[tuple[Scope, EditorNode]]) -> str:
        """Replace %node.widget% by the widget's value, the node named by its S&R name or its title; and %date:...%."""

        def value(match: re.Match[str]) -> str:
            if match[1].startswith("date:"):
                return format_date(match[1].removeprefix("date:"), time.localtime())
            name, _, widget = match[1].partition(".")
            by_name = [pair for pair in everywhere if pair[1].properties.get("Node name for S&R") == name]
            found = by_name or [pair for pair in everywhere if pair[1].title == name]
            values = self._own_values(*found[0]) if found else {}
            return _UNFIT_FOR_FILES.sub("_", str(values[widget])) if widget in values else match[0]

        return re.sub("%([^%]+)%", value, text)

    # -- following links

    def _resolve_slot(
        self,
        scope: Scope,
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

    def _resolve_border(self, scope: Scope, index: int, hops: int) -> list | _Constant | None:
        """Follow a line out of a subgraph, to what feeds its node's input or to the widget shown there."""
        assert scope.host is not None and scope.outer is not None
        name = scope.graph.inputs[index] if index < len(scope.graph.inputs) else ""
        outside = next((slot for slot in scope.host.inputs if slot.name == name), None)
        found = None if outside is None else self._resolve_slot(scope.outer, scope.host, outside, hops=hops)
        if found is not None:
            return found
        values = self._hosts.values(scope.outer, scope.host)[0]
        return _Constant(values[name]) if name in values else None

    def _resolve_output(
        self,
        scope: Scope,
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

    def _resolve_inside(self, inner: Scope, index: int, wanted: Any, hops: int) -> list | _Constant | None:
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


def _compatible(left: Any, right: Any) -> bool:
    """Say whether the editor would connect two types; 0 and "" stand for any."""
    left, right = (kind.upper() if isinstance(kind, str) else kind for kind in (left, right))
    return left in (0, "") or right in (0, "") or types_match(left, right)


def _wrapped(value: Any) -> Any:
    """Return a constant as prompts carry it: a bare list would be a link."""
    return {"__value__": value} if isinstance(value, list) else value
