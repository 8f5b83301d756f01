"""From a description to the editor's format: places, slots, links, groups, App mode."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from bench.templates.described import Box, Group, Template
from bench.templates.specs import Spec, spec_of
from ddim.version import __version__

__all__ = ["NAMESPACE", "box_node", "box_slots", "workflow_of"]

TITLE = 36  # height of a node's title in the renderer with the larger one
GAP = 28  # between nodes
MARGIN = 16  # of a group around its nodes
GROUP_TITLE = 44
BETWEEN_GROUPS = 28
NOTE_WIDTH = 360
NOTE_COLOR, NOTE_GROUND = "#223", "#2b3548"
VIEW = (1470, 820)  # of the canvas in a window of 1600 x 950, without the bars
NAMESPACE = uuid.UUID("7de7e9ee-78c9-4395-8256-7103bd85547b")


def workflow_of(template: Template) -> dict[str, Any]:
    """Return what the editor would save for a template."""
    boxes = [box for each in template.groups for column in each.columns for box in column]
    ids = {box.key: number for number, box in enumerate(boxes, start=1)}
    note = len(boxes) + 1
    places, frames, (width, height) = _layout(template)
    links = list(_links(boxes, ids))
    nodes = [box_node(box, ids[box.key], places[box.key], links) for box in boxes]
    nodes.append(_note(template, note, height))
    scale = round(min(1.0, VIEW[0] / width, VIEW[1] / height), 3)
    return {
        "id": str(uuid.uuid5(NAMESPACE, template.name)),
        "revision": 0,
        "last_node_id": note,
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": frames,
        "config": {},
        "extra": {
            "ds": {"scale": scale, "offset": [round(72 / scale), round(88 / scale)]},
            "frontendVersion": "1.58.1",
            "linearData": {
                "inputs": [[ids[key], widget, {"description": words}] for key, widget, words in template.form],
                "outputs": [ids[key] for key in template.results],
            },
        },
        "version": 0.4,
    }


def _layout(template: Template) -> tuple[dict[str, list[int]], list[dict[str, Any]], tuple[int, int]]:
    """Return the place of every box, the groups' frames, and width and height of all of it."""
    places: dict[str, list[int]] = {}
    frames: list[dict[str, Any]] = []
    left, bottom = NOTE_WIDTH + BETWEEN_GROUPS, 0
    for number, each in enumerate(template.groups, start=1):
        right, lowest = _place(each, left, places)
        bounding = [left, 0, right - left, lowest]
        frames.append(
            {"id": number, "title": each.title, "bounding": bounding, "color": each.color, "font_size": 24, "flags": {}}
        )
        left, bottom = right + BETWEEN_GROUPS, max(bottom, lowest)
    for frame in frames:
        frame["bounding"][3] = bottom
    return places, frames, (left - BETWEEN_GROUPS, bottom)


def _place(each: Group, left: int, places: dict[str, list[int]]) -> tuple[int, int]:
    """Place the boxes of a group; returns its right edge and its bottom."""
    x, lowest = left + MARGIN, 0
    for column in each.columns:
        y, widest = GROUP_TITLE + TITLE, 0
        for box in column:
            spec = spec_of(box.kind)
            places[box.key] = [x, y]
            y += (TITLE if box.folded else spec.height) + GAP
            widest = max(widest, spec.width)
        x += widest + GAP + MARGIN
        lowest = max(lowest, y - GAP - TITLE + MARGIN)
    return x - GAP, lowest


def _links(boxes: list[Box], ids: dict[str, int]) -> Iterator[list[Any]]:
    kinds = {box.key: box.kind for box in boxes}
    number = 0
    for box in boxes:
        slots = box_slots(box)
        for name, source in box.wires.items():
            key, _, output = source.partition(".")
            outputs = list(spec_of(kinds[key]).outputs)
            origin = outputs.index(output) if output else 0
            if not output and len(outputs) > 1 and kinds[key] != "SaveImage":
                raise ValueError(f"{box.key}.{name}: {source} must name one of {outputs}")
            number += 1
            type_ = spec_of(kinds[key]).outputs[outputs[origin]]
            yield [number, ids[key], origin, ids[box.key], slots.index(name), type_]


def box_slots(box: Box) -> list[str]:
    """Return the names of the input slots: all without a widget, then the linked widgets."""
    spec = spec_of(box.kind)
    return [*spec.links, *(name for name in spec.widgets if name in box.wires)]


def box_node(box: Box, number: int, place: list[int], links: list[list[Any]]) -> dict[str, Any]:
    """Return a node as the editor saves it; ``links`` are those of its graph."""
    spec = spec_of(box.kind)
    incoming = {link[4]: link[0] for link in links if link[3] == number}
    values = _values(box, spec)
    properties: dict[str, Any] = {"Node name for S&R": box.kind, "cnr_id": spec.pack}
    if spec.pack != "comfy-core":
        properties["ver"] = __version__
    if box.model is not None:
        named = {"name": box.model.name, "url": box.model.url, "directory": box.model.directory}
        properties["models"] = [named]
    node = {
        "id": number,
        "type": box.kind,
        "pos": place,
        "size": [spec.width, spec.height - TITLE],
        "flags": {"collapsed": True} if box.folded else {},
        "order": number - 1,
        "mode": 0,
        "inputs": [_input(name, spec, incoming.get(slot)) for slot, name in enumerate(box_slots(box))],
        "outputs": [
            {"name": name, "type": type_, "links": _outgoing(links, number, slot)}
            for slot, (name, type_) in enumerate(spec.outputs.items())
        ],
        **({"title": box.title} if box.title else {}),
        "properties": properties,
    }
    if values:
        node["widgets_values"] = list(values.values())
        node["widgets_values_named"] = values
    return node


def _values(box: Box, spec: Spec) -> dict[str, Any]:
    unknown = set(box.values) - set(spec.widgets)
    if unknown:
        raise ValueError(f"{box.key}: {box.kind} has no widget {', '.join(sorted(unknown))}")
    return {name: box.values.get(name, default) for name, (_, default) in spec.widgets.items()}


def _input(name: str, spec: Spec, link: int | None) -> dict[str, Any]:
    if name in spec.links:
        type_, optional = spec.links[name]
        return {"name": name, "type": type_, "link": link, **({"shape": 7} if optional else {})}
    return {"name": name, "type": spec.widgets[name][0], "link": link, "widget": {"name": name}}


def _outgoing(links: list[list[Any]], number: int, slot: int) -> list[int] | None:
    return [link[0] for link in links if link[1:3] == [number, slot]] or None


def _note(template: Template, number: int, height: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": [0, GROUP_TITLE],
        "size": [NOTE_WIDTH, min(height - GROUP_TITLE, _note_height(template.note))],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "What it shows",
        "properties": {},
        "widgets_values": [template.note],
        "color": NOTE_COLOR,
        "bgcolor": NOTE_GROUND,
    }


def _note_height(text: str) -> int:
    """Return about the height of a text in the note: 40 characters a line."""
    lines = sum(max(1, -(-len(line) // 40)) + 0.5 for line in text.splitlines() if line.strip())
    return round(80 + 22 * lines)
