"""Parses the editor's file format into nodes, links and subgraph definitions.

The frontend saves `nodes` with `inputs`, `outputs`, `mode` and `widgets_values`; `links`; and `definitions.subgraphs`,
graphs that are used as nodes whose type is the definition's id. A file is untrusted input: this module checks it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from host.error_format import shorten, show
from host.limits import MAX_EDITOR_NODES

__all__ = [
    "BYPASSED",
    "INPUT_NODE",
    "MUTED",
    "OUTPUT_NODE",
    "EditorGraph",
    "EditorLink",
    "EditorNode",
    "Scope",
    "Slot",
    "WorkflowError",
    "read_graph",
    "read_subgraphs",
]

MUTED, BYPASSED = 2, 4  # values of a node's `mode`; with any other value it runs
_MAX_LABEL_CHARACTERS = 120

INPUT_NODE, OUTPUT_NODE = "-10", "-20"  # the ids of a subgraph's own input and output ends


class WorkflowError(ValueError):
    """A file is not a workflow, or a malformed one. The message says where, and how long it may get is limited."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))


@dataclass(frozen=True)
class Slot:
    """An input of a node: its name, type, link, and whether a widget holds its value if there is no link."""

    name: str
    type: Any
    link: str | None
    is_widget: bool = False


@dataclass(frozen=True)
class EditorLink:
    """A link between an output and an input."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class EditorNode:
    """A node in the editor.

    Attributes:
        id: Unique within its graph.
        class_type: The node class, a virtual node of the editor, or the id of a subgraph definition.
        mode: MUTED, BYPASSED, or anything else.
        title: The title that the user gave it, or "".
        inputs: The inputs that the file lists; widgets without a link may be missing.
        outputs: The types of the outputs.
        values: The widgets' values, in order or by name.
        properties: The editor's other data about the node.
    """

    id: str
    class_type: str
    mode: int
    title: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Any, ...]
    values: list[Any] | dict[str, Any] | None
    properties: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The node's name in error messages."""
        return shorten(f"node {self.id} ({self.class_type})", _MAX_LABEL_CHARACTERS)


@dataclass(frozen=True)
class EditorGraph:
    """A graph, or the content of a subgraph.

    Attributes:
        nodes: The nodes by id, in the order of the file.
        links: The links by id.
        inputs: The names of the subgraph's own inputs; () for the outermost graph.
    """

    nodes: dict[str, EditorNode]
    links: dict[str, EditorLink]
    inputs: tuple[str, ...] = ()

    def from_input(self, index: int) -> list[EditorLink]:
        """Return the links from the subgraph's own input number `index` to nodes inside."""
        return self._boundary_links[INPUT_NODE, index]

    def to_output(self, index: int) -> EditorLink | None:
        """Return the link into the subgraph's own output number `index`."""
        return next(iter(self._boundary_links[OUTPUT_NODE, index]), None)

    @cached_property
    def _boundary_links(self) -> defaultdict[tuple[str, int], list[EditorLink]]:
        """The links from the subgraph's own inputs and to its own outputs, by end and slot."""
        found: defaultdict[tuple[str, int], list[EditorLink]] = defaultdict(list)
        for link in self.links.values():
            if link.origin == INPUT_NODE:
                found[INPUT_NODE, link.origin_slot].append(link)
            if link.target == OUTPUT_NODE:
                found[OUTPUT_NODE, link.target_slot].append(link)
        return found


@dataclass(frozen=True)
class Scope:
    """One use of a graph.

    Attributes:
        path: The ids of the subgraph nodes that lead here.
        graph: The graph.
        instance: The subgraph node that contains the graph; None for the outermost graph.
        parent: The scope of `instance`; None for the outermost graph.
    """

    path: tuple[str, ...]
    graph: EditorGraph
    instance: EditorNode | None = None
    parent: Scope | None = None

    def execution_id(self, node: EditorNode) -> str:
        """Return the id of one of the graph's nodes in a prompt."""
        return ":".join((*self.path, node.id))


def read_subgraphs(workflow: Mapping[str, Any]) -> dict[str, EditorGraph]:
    """Return the subgraph definitions of a workflow by id."""
    definitions = workflow.get("definitions")
    entries = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {}
    for entry in _object_list(entries or [], "definitions.subgraphs"):
        if not isinstance(entry.get("id"), str):
            raise WorkflowError("a subgraph definition has no id")
        subgraphs[entry["id"]] = read_graph(entry)
    return subgraphs


def read_graph(graph: Mapping[str, Any]) -> EditorGraph:
    """Read one graph in the editor's format. Raises WorkflowError if it is malformed."""
    entries = _object_list(graph.get("nodes"), "nodes")
    if len(entries) > MAX_EDITOR_NODES:
        raise WorkflowError(f"a graph has at most {MAX_EDITOR_NODES} nodes, got {len(entries)}")
    nodes = [_read_node(entry) for entry in entries]
    links = graph.get("links") or []
    if not isinstance(links, list):
        raise WorkflowError(f"'links' must be a list, got {type(links).__name__}")
    inputs = tuple(str(entry.get("name", "")) for entry in _object_list(graph.get("inputs") or [], "inputs"))
    return EditorGraph({node.id: node for node in nodes}, dict(map(_read_link, links)), inputs)


def _object_list(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise WorkflowError(f"'{name}' must be a list of objects")
    return value


def _read_node(entry: dict[str, Any]) -> EditorNode:
    if "id" not in entry or not isinstance(entry.get("type"), str):
        raise WorkflowError(f"a node needs an id and a type, got {show(entry, 100)}")
    node_id, class_type = str(entry["id"]), entry["type"]
    values, properties = entry.get("widgets_values"), entry.get("properties")
    if values is None:
        values = entry.get("widgets_values_named")
    mode = entry.get("mode", 0)
    inputs = _object_list(entry.get("inputs") or [], f"inputs of node {node_id} ({class_type})")
    outputs = _object_list(entry.get("outputs") or [], f"outputs of node {node_id}")
    return EditorNode(
        id=node_id,
        class_type=class_type,
        mode=mode if isinstance(mode, int) else 0,
        title=str(entry.get("title") or ""),
        inputs=tuple(map(_read_slot, inputs)),
        outputs=tuple(slot.get("type") for slot in outputs),
        values=values if isinstance(values, (list, dict)) else None,
        properties=properties if isinstance(properties, dict) else {},
    )


def _read_slot(entry: dict[str, Any]) -> Slot:
    link = entry.get("link")
    return Slot(
        str(entry.get("name", "")),
        entry.get("type", "*"),
        None if link is None else str(link),
        isinstance(entry.get("widget"), dict),
    )


def _read_link(entry: Any) -> tuple[str, EditorLink]:
    """Read [id, origin, origin slot, target, target slot, type], or the same as an object."""
    if isinstance(entry, dict):
        entry = [entry.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    if not isinstance(entry, list) or len(entry) < 5 or not all(isinstance(entry[i], int) for i in (2, 4)):
        raise WorkflowError(f"a link needs an id, an origin, a target and their slots, got {show(entry, 100)}")
    return str(entry[0]), EditorLink(str(entry[1]), entry[2], str(entry[3]), entry[4])
