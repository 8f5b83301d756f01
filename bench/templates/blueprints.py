"""Two stages that are offered as nodes: sampling at zero SNR, and an inversion with its edit."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from bench.templates.described import Box
from bench.templates.specs import spec_of
from bench.templates.written import NAMESPACE, box_node, box_slots

__all__ = ["BLUEPRINTS", "Blueprint", "blueprint_of"]

INPUT_NODE, OUTPUT_NODE = -10, -20
GAP = 60


@dataclass(frozen=True)
class Blueprint:
    """A subgraph.

    Attributes:
        name: Name of the file and of the node.
        description: Shown in the editor's library.
        aliases: Words that find it.
        boxes: From left to right.
        inputs: ``{name: ("box.input", ...)}``: what a slot or widget of the node is wired to inside.
        outputs: ``{name: "box.output"}``.
    """

    name: str
    description: str
    aliases: tuple[str, ...]
    boxes: tuple[Box, ...]
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, str]


ZERO_SNR = Blueprint(
    "Zero-SNR sampling",
    "Samples a v-prediction model that was trained for zero terminal SNR: trailing steps from pure noise, with "
    "guidance rescale, so that dark pictures are dark.",
    ("ddim", "zero snr", "ztsnr", "v-pred", "noobai", "black"),
    (
        Box(
            "schedule",
            "DDIMSchedule",
            {"steps": 28, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        ),
        Box("sample", "DDIMSample", {"cfg": 5.0, "guidance_rescale": 0.7}, {"schedule": "schedule.schedule"}),
    ),
    {
        "model": ("schedule.model", "sample.model"),
        "positive": ("sample.positive",),
        "negative": ("sample.negative",),
        "latent_image": ("sample.latent_image",),
        "steps": ("schedule.steps",),
        "seed": ("sample.seed",),
        "cfg": ("sample.cfg",),
        "guidance_rescale": ("sample.guidance_rescale",),
    },
    {"latent": "sample.latent"},
)

EDIT = Blueprint(
    "Invert and edit",
    "Takes a picture's latent apart with one prompt and puts it together with another. What the prompts do not speak "
    "of stays: the noise of every step is recorded and used again.",
    ("ddim inversion", "edit", "cyclediffusion", "edit friendly", "unsampler"),
    (
        Box("invert", "DDIMInvert", {"method": "variance_noise", "noise_path": "edit_friendly", "steps": 30}),
        Box(
            "sample",
            "DDIMSample",
            {"cfg": 2.0},
            {"latent_image": "invert.latent", "variance_noise": "invert.variance_noise"},
        ),
    ),
    {
        "model": ("invert.model", "sample.model"),
        "source": ("invert.positive",),
        "edited": ("sample.positive",),
        "negative": ("invert.negative", "sample.negative"),
        "latent_image": ("invert.latent_image",),
        "steps": ("invert.steps",),
        "cfg": ("sample.cfg",),
    },
    {"latent": "sample.latent", "error": "invert.error"},
)

BLUEPRINTS = (ZERO_SNR, EDIT)


def blueprint_of(blueprint: Blueprint) -> dict[str, Any]:
    """Return the file of a blueprint: one node, and the subgraph that it stands for."""
    key = str(uuid.uuid5(NAMESPACE, blueprint.name))
    inside = _inside(blueprint, key)
    widgets = {
        each["name"]: _default(blueprint, each["name"]) for each in inside["inputs"] if _is_widget(blueprint, each)
    }
    slots = [
        {"name": each["name"], "type": each["type"], "link": None}
        | ({"widget": {"name": each["name"]}} if each["name"] in widgets else {})
        for each in inside["inputs"]
    ]
    node = {
        "id": 1,
        "type": key,
        "pos": [0, 0],
        "size": [320, 60 + 26 * len(slots)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": each["name"], "type": each["type"], "links": None} for each in inside["outputs"]],
        "title": blueprint.name,
        "properties": {"proxyWidgets": [["-1", name] for name in widgets], "cnr_id": "ddim-nodes"},
        "widgets_values": list(widgets.values()),
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [inside]},
        "extra": {
            "BlueprintDescription": blueprint.description,
            "BlueprintSearchAliases": list(blueprint.aliases),
        },
    }


def _inside(blueprint: Blueprint, key: str) -> dict[str, Any]:
    ids = {box.key: number for number, box in enumerate(blueprint.boxes, start=2)}
    boxes = {box.key: box for box in blueprint.boxes}
    # What is wired to the node's own widgets needs a slot, as a linked widget has one.
    wired = {box.key: dict(box.wires) for box in blueprint.boxes}
    for name, targets in blueprint.inputs.items():
        for key_, _, input_ in (target.partition(".") for target in targets):
            wired[key_][input_] = name
    open_boxes = {each: Box(box.key, box.kind, box.values, wired[each], box.title) for each, box in boxes.items()}
    links = _wires(blueprint, open_boxes, ids)
    nodes, left = [], 240
    for box in open_boxes.values():
        as_lists = [[each["id"], *(each[name] for name in _ENDS), each["type"]] for each in links]
        nodes.append(box_node(box, ids[box.key], [left, 40], as_lists))
        left += spec_of(box.kind).width + GAP
    return {
        "id": key,
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": max(ids.values()), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": blueprint.name,
        "inputNode": {"id": INPUT_NODE, "bounding": [0, 40, 160, 40 + 20 * len(blueprint.inputs)]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [left, 40, 120, 40 + 20 * len(blueprint.outputs)]},
        "inputs": [
            _boundary(blueprint, name, slot, INPUT_NODE, links, 140, "origin")
            for slot, name in enumerate(blueprint.inputs)
        ],
        "outputs": [
            _boundary(blueprint, name, slot, OUTPUT_NODE, links, left + 20, "target")
            for slot, name in enumerate(blueprint.outputs)
        ],
        "widgets": [],
        "nodes": nodes,
        "groups": [],
        "links": links,
        "extra": {},
        "category": "DDIM",
        "description": blueprint.description,
    }


_ENDS = ("origin_id", "origin_slot", "target_id", "target_slot")


def _wires(blueprint: Blueprint, boxes: dict[str, Box], ids: dict[str, int]) -> list[dict[str, Any]]:
    ends = []
    for slot, targets in enumerate(blueprint.inputs.values()):
        for key, _, name in (target.partition(".") for target in targets):
            ends.append((INPUT_NODE, slot, ids[key], box_slots(boxes[key]).index(name), _type_of(boxes[key], name)))
    for box in blueprint.boxes:
        for name, source in box.wires.items():
            key, _, output = source.partition(".")
            outputs = list(spec_of(boxes[key].kind).outputs)
            target = box_slots(boxes[box.key]).index(name)
            ends.append(
                (ids[key], outputs.index(output), ids[box.key], target, spec_of(boxes[key].kind).outputs[output])
            )
    for slot, source in enumerate(blueprint.outputs.values()):
        key, _, output = source.partition(".")
        outputs = list(spec_of(boxes[key].kind).outputs)
        ends.append((ids[key], outputs.index(output), OUTPUT_NODE, slot, spec_of(boxes[key].kind).outputs[output]))
    return [
        {"id": number, **dict(zip(_ENDS, end[:4], strict=True)), "type": end[4]} for number, end in enumerate(ends, 1)
    ]


def _boundary(
    blueprint: Blueprint, name: str, slot: int, node: int, links: list[dict[str, Any]], left: int, end: str
) -> dict[str, Any]:
    own = [each for each in links if (each[f"{end}_id"], each[f"{end}_slot"]) == (node, slot)]
    return {
        "id": str(uuid.uuid5(NAMESPACE, f"{blueprint.name}/{end}/{name}")),
        "name": name,
        "type": own[0]["type"],
        "linkIds": [each["id"] for each in own],
        "pos": [left, 60 + 20 * slot],
    }


def _target(blueprint: Blueprint, name: str) -> tuple[Box, str]:
    key, _, input_ = blueprint.inputs[name][0].partition(".")
    return next(box for box in blueprint.boxes if box.key == key), input_


def _is_widget(blueprint: Blueprint, entry: dict[str, Any]) -> bool:
    box, name = _target(blueprint, entry["name"])
    return name in spec_of(box.kind).widgets


def _default(blueprint: Blueprint, name: str) -> Any:
    box, input_ = _target(blueprint, name)
    return box.values.get(input_, spec_of(box.kind).widgets[input_][1])


def _type_of(box: Box, name: str) -> str:
    spec = spec_of(box.kind)
    return spec.links[name][0] if name in spec.links else spec.widgets[name][0]
