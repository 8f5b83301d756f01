"""Converts the editor's format to a prompt, as the frontend does when a user queues a graph.

Muted nodes are removed; bypassed nodes pass a matching input through; reroutes and subgraphs are resolved; a
primitive's value and a subgraph's own widgets become constants. Node ids inside subgraphs are paths, e.g. "4:2".
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from host.folders import format_date
from host.limits import MAX_EDITOR_NODES, MAX_SUBGRAPH_DEPTH
from host.packs import Registry
from host.prompt_format import Prompt, types_match, wrap_constant
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
from host.workflows.editor_subgraphs import SubgraphWidgets
from host.workflows.editor_widgets import widget_inputs, widget_values

__all__ = ["to_prompt"]

_NOTES = frozenset({"Note", "MarkdownNote"})
_VIRTUAL = frozenset({"Reroute", "PrimitiveNode"}) | _NOTES
_MAX_HOPS = 200  # reroutes, bypassed nodes and subgraph boundaries on the way from an input to its source
_SAVING = frozenset({"SaveImage"})  # nodes whose file name may refer to widgets, as in %KSampler.seed%
_FORBIDDEN_IN_FILE_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')


@dataclass(frozen=True)
class _Constant:
    """An input's value that comes from a widget of another node."""

    value: Any


Source = list[Any] | _Constant | None  # where an input's value comes from: a link [id, slot], a constant, or nowhere


def to_prompt(workflow: Mapping[str, Any], registry: Registry) -> Prompt:
    """Return the prompt that queueing the workflow in the editor would send.

    Args:
        workflow: What the editor saves.
        registry: The node classes, which tell what the widgets mean. A node of unknown class keeps only its links.

    Raises:
        WorkflowError: The file is malformed: a link from nowhere, a loop of reroutes, subgraphs inside themselves.
    """
    return _Converter(read_subgraphs(workflow), registry).convert(read_graph(workflow))


class _Converter:
    """Converts a graph, given the subgraph definitions and the node classes."""

    def __init__(self, subgraphs: dict[str, EditorGraph], registry: Registry) -> None:
        self._subgraphs = subgraphs
        self._registry = registry
        self._subgraph_widgets = SubgraphWidgets(subgraphs, registry)

    def convert(self, graph: EditorGraph) -> Prompt:
        everywhere = list(self._expand(Scope((), graph)))
        prompt: Prompt = {}
        for scope, node in everywhere:
            if node.class_type not in _VIRTUAL:
                title = node.title or self._registry.display_names.get(node.class_type, node.class_type)
                prompt[scope.execution_id(node)] = {
                    "inputs": self._inputs(scope, node, everywhere),
                    "class_type": node.class_type,
                    "_meta": {"title": title},
                }
        for entry in prompt.values():
            entry["inputs"] = {
                name: value
                for name, value in entry["inputs"].items()
                if not isinstance(value, list) or value[0] in prompt
            }
        return prompt

    def _expand(self, scope: Scope, count: list[int] | None = None) -> Iterator[tuple[Scope, EditorNode]]:
        """Yield every node that is not muted or bypassed, with subgraphs replaced by their contents."""
        count = [0] if count is None else count
        if len(scope.path) > MAX_SUBGRAPH_DEPTH:
            raise WorkflowError(f"subgraphs nest more than {MAX_SUBGRAPH_DEPTH} deep, at node {':'.join(scope.path)}")
        for node in scope.graph.nodes.values():
            count[0] += 1
            if count[0] > MAX_EDITOR_NODES:
                raise WorkflowError(f"with its subgraphs expanded the workflow has more than {MAX_EDITOR_NODES} nodes")
            if node.mode in (MUTED, BYPASSED):
                continue
            if node.class_type in self._subgraphs:
                yield from self._expand(self._enter(scope, node), count)
            else:
                yield scope, node

    def _enter(self, scope: Scope, node: EditorNode) -> Scope:
        return Scope((*scope.path, node.id), self._subgraphs[node.class_type], node, scope)

    # -- the inputs of a node

    def _inputs(self, scope: Scope, node: EditorNode, everywhere: list[tuple[Scope, EditorNode]]) -> dict[str, Any]:
        inputs = self._widget_values(scope, node)
        if node.class_type in _SAVING and isinstance(inputs.get("filename_prefix"), str):
            inputs["filename_prefix"] = self._fill_references(inputs["filename_prefix"], everywhere)
        inputs = {name: wrap_constant(value) for name, value in inputs.items()}
        for slot in node.inputs:
            source = self._resolve_slot(scope, node, slot) if slot.link is not None else None
            if source is not None:
                inputs[slot.name] = wrap_constant(source.value) if isinstance(source, _Constant) else source
        return inputs

    def _widget_values(self, scope: Scope, node: EditorNode) -> dict[str, Any]:
        """Return the values of the node's widgets, as the subgraph nodes around it set them."""
        cls = self._registry.nodes.get(node.class_type)
        if cls is None:
            return {}
        values = widget_values(cls, node.values)
        if scope.instance is not None and scope.parent is not None:
            proxies = self._subgraph_widgets.values(scope.parent, scope.instance)[1]
            values |= {name: proxies[node.id, name] for name in values if (node.id, name) in proxies}
        return values

    def _fill_references(self, text: str, everywhere: list[tuple[Scope, EditorNode]]) -> str:
        """Replace %date:...%, and %node.widget% by the widget's value; a node is named by its S&R name or title."""

        def value(match: re.Match[str]) -> str:
            if match[1].startswith("date:"):
                return format_date(match[1].removeprefix("date:"), time.localtime())
            name, _, widget = match[1].partition(".")
            by_name = [pair for pair in everywhere if pair[1].properties.get("Node name for S&R") == name]
            found = by_name or [pair for pair in everywhere if pair[1].title == name]
            values = self._widget_values(*found[0]) if found else {}
            return _FORBIDDEN_IN_FILE_NAMES.sub("_", str(values[widget])) if widget in values else match[0]

        return re.sub("%([^%]+)%", value, text)

    # -- following links

    def _resolve_slot(self, scope: Scope, node: EditorNode, slot: Slot, wanted: Any = None, hops: int = 0) -> Source:
        """Return where an input's value comes from."""
        if hops > _MAX_HOPS:
            raise WorkflowError(f"{node.label}: the links into its input '{slot.name}' form a circle")
        if slot.link is None:
            return None
        link = scope.graph.links.get(slot.link)
        if link is None:
            raise WorkflowError(f"{node.label}: its input '{slot.name}' has link {slot.link}, which does not exist")
        if link.origin == INPUT_NODE and scope.instance is not None and scope.parent is not None:
            return self._resolve_boundary(scope, link.origin_slot, hops + 1)
        origin = scope.graph.nodes.get(link.origin)
        if origin is None:
            raise WorkflowError(
                f"{node.label}: its input '{slot.name}' is linked to node {link.origin}, which does not exist"
            )
        return self._resolve_output(scope, origin, link.origin_slot, slot.type if wanted is None else wanted, hops + 1)

    def _resolve_boundary(self, scope: Scope, index: int, hops: int) -> Source:
        """Follow a link out of a subgraph, to the source of its node's input or to the widget shown there."""
        assert scope.instance is not None and scope.parent is not None
        _check_slot(index, f"the input of the subgraph {scope.instance.label}")
        name = scope.graph.inputs[index] if index < len(scope.graph.inputs) else ""
        outside = next((slot for slot in scope.instance.inputs if slot.name == name), None)
        found = None if outside is None else self._resolve_slot(scope.parent, scope.instance, outside, hops=hops)
        if found is not None:
            return found
        values = self._subgraph_widgets.values(scope.parent, scope.instance)[0]
        return _Constant(values[name]) if name in values else None

    def _resolve_output(self, scope: Scope, node: EditorNode, index: int, wanted: Any, hops: int) -> Source:
        """Return where an output's value comes from."""
        _check_slot(index, node.label)
        if node.mode == MUTED or node.class_type in _NOTES:
            return None
        if node.mode == BYPASSED:
            slot = self._passed_through(node, index, wanted)
            return None if slot is None else self._resolve_slot(scope, node, slot, hops=hops)
        if node.class_type in self._subgraphs:
            return self._resolve_inside(self._enter(scope, node), index, wanted, hops)
        if node.class_type == "Reroute":
            return self._resolve_slot(scope, node, node.inputs[0], wanted, hops) if node.inputs else None
        if node.class_type == "PrimitiveNode":
            return _Constant(node.values[0]) if isinstance(node.values, list) and node.values else None
        return [scope.execution_id(node), index]

    def _resolve_inside(self, inner: Scope, index: int, wanted: Any, hops: int) -> Source:
        """Follow a link into a subgraph, to the node that feeds its output."""
        link = inner.graph.to_output(index)
        if link is None:
            return None
        if link.origin == INPUT_NODE:
            return self._resolve_boundary(inner, link.origin_slot, hops + 1)
        origin = inner.graph.nodes.get(link.origin)
        if origin is None:
            raise WorkflowError(
                f"subgraph {':'.join(inner.path)}: its output {index} is linked to node {link.origin}, "
                "which does not exist"
            )
        if hops > _MAX_HOPS:
            raise WorkflowError(f"{origin.label}: the links out of it form a circle")
        return self._resolve_output(inner, origin, link.origin_slot, wanted, hops + 1)

    def _passed_through(self, node: EditorNode, index: int, wanted: Any) -> Slot | None:
        """Return the input that a bypassed node passes on: the one at the output's index, else the first match."""
        slots = self._all_slots(node)
        if wanted in ("*", "", None):
            return slots[index if index < len(slots) else 0] if slots else None
        given = node.outputs[index] if index < len(node.outputs) else "*"

        def matches(slot: Slot) -> bool:
            return _compatible(slot.type, given) and _compatible(slot.type, wanted)

        if index < len(slots) and matches(slots[index]):
            return slots[index]
        return next((slot for slot in slots if slot.type == wanted), None) or next(filter(matches, slots), None)

    def _all_slots(self, node: EditorNode) -> list[Slot]:
        """Return a node's inputs in the editor's order: sockets first, then widgets; files omit unlinked widgets."""
        cls = self._registry.nodes.get(node.class_type)
        if cls is None:
            return list(node.inputs)
        listed = {slot.name: slot for slot in node.inputs}
        widgets = {
            name: Slot(name, "COMBO" if isinstance(spec.type, list) else spec.type, None, True)
            for name, spec in widget_inputs(cls, widget_values(cls, node.values)).items()
        }
        sockets = [slot for slot in node.inputs if slot.name not in widgets]
        return sockets + [listed.get(name, slot) for name, slot in widgets.items()]


def _check_slot(index: int, origin: str) -> None:
    if index < 0:
        raise WorkflowError(f"a link comes from slot {index} of {origin}; slots are numbered from 0")


def _compatible(left: Any, right: Any) -> bool:
    """Return whether the editor would connect two types; 0 and "" mean any type."""
    left, right = (name.upper() if isinstance(name, str) else name for name in (left, right))
    return left in (0, "") or right in (0, "") or types_match(left, right)
