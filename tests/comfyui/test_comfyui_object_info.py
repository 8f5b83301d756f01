"""Workflows of stock nodes, read and checked by a real ComfyUI's own description of its nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.engines.object_info import registry_from
from host.packs import Registry, input_types, visible_inputs
from host.validation import validate
from host.workflows import read_workflow
from host.workflows.editor_widgets import widget_values

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
LATENT = {"width": 512, "height": 512, "batch_size": 1}
SAMPLING = {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
TEXT_TO_IMAGE = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "some.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": LATENT},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a bottle", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["4", 1]}},
    "3": {
        "class_type": "KSampler",
        "inputs": {**SAMPLING, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]},
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
}


@pytest.fixture(scope="module")
def described(server: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/object_info")
    return found


@pytest.fixture(scope="module")
def registry(described: dict[str, Any]) -> Registry:
    return registry_from(described)


def test_every_class_is_known_with_its_inputs(described: dict[str, Any], registry: Registry) -> None:
    assert registry.nodes.keys() == described.keys() and len(described) > 400
    for name, info in described.items():
        node = registry.nodes[name]
        assert len(node.RETURN_TYPES) == len(info["output"])
        inputs = visible_inputs(input_types(node))
        growing = {
            key for each in info["input"].values() for key, spec in each.items() if spec[0] == "COMFY_AUTOGROW_V3"
        }
        listed = {*info["input"].get("required", {}), *info["input"].get("optional", {})}
        assert inputs.keys() == listed - growing
        widget_values(node, [])


def test_every_class_is_described_again_as_it_was(described: dict[str, Any], registry: Registry) -> None:
    told = registry.all_object_info()
    assert told.keys() == described.keys()
    for name, info in described.items():
        assert told[name]["output"] == ["*" if each == "COMFY_MATCHTYPE_V3" else each for each in info["output"]]
        if not any(word in json.dumps(info["input"]) for word in ("COMFY_", '"remote"')):
            assert told[name]["input"] == info["input"], name


def test_the_stock_prompt_is_accepted_and_its_faults_are_those_that_comfyui_finds(
    server: Any, registry: Registry
) -> None:
    assert validate(TEXT_TO_IMAGE, registry).ok
    faults = [
        ("5", "width", 1),
        ("3", "steps", 0),
        ("3", "sampler_name", "eulr"),
        ("3", "cfg", "high"),
        ("3", "model", ["5", 0]),
    ]
    for node_id, name, value in faults:
        prompt = json.loads(json.dumps(TEXT_TO_IMAGE))
        prompt[node_id]["inputs"][name] = value
        ours = validate(prompt, registry).node_errors
        theirs = server.post("/prompt", {"prompt": prompt})["node_errors"]
        assert [error["type"] for error in ours[node_id]["errors"]] == [
            error["type"] for error in theirs[node_id]["errors"] if error["extra_info"].get("input_name") == name
        ], (name, value)


def test_the_stock_workflow_of_the_editor_becomes_the_stock_prompt(registry: Registry) -> None:
    def node(node_id: int, kind: str, values: list[Any], *inputs: tuple[str, str, int]) -> dict[str, Any]:
        slots = [{"name": name, "type": kind, "link": link} for name, kind, link in inputs]
        return {"id": node_id, "type": kind, "mode": 0, "inputs": slots, "outputs": [], "widgets_values": values}

    workflow = {
        "nodes": [
            node(7, "CLIPTextEncode", ["text, watermark"], ("clip", "CLIP", 5)),
            node(6, "CLIPTextEncode", ["a bottle"], ("clip", "CLIP", 3)),
            node(5, "EmptyLatentImage", [512, 512, 1]),
            node(3, "KSampler", [5, "randomize", 20, 8, "euler", "normal", 1], ("model", "MODEL", 1),
                 ("positive", "CONDITIONING", 4), ("negative", "CONDITIONING", 6), ("latent_image", "LATENT", 2)),
            node(8, "VAEDecode", [], ("samples", "LATENT", 7), ("vae", "VAE", 8)),
            node(9, "SaveImage", ["ComfyUI"], ("images", "IMAGE", 9)),
            node(4, "CheckpointLoaderSimple", ["some.safetensors"]),
        ],
        "links": [
            [1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"],
            [4, 6, 0, 3, 1, "CONDITIONING"], [5, 4, 1, 7, 0, "CLIP"],
            [6, 7, 0, 3, 2, "CONDITIONING"], [7, 3, 0, 8, 0, "LATENT"], [8, 4, 2, 8, 1, "VAE"],
            [9, 8, 0, 9, 0, "IMAGE"],
        ],
    }  # fmt: skip
    prompt = read_workflow(json.dumps(workflow).encode(), registry).prompt
    assert {
        key: {"class_type": each["class_type"], "inputs": each["inputs"]} for key, each in prompt.items()
    } == TEXT_TO_IMAGE


@pytest.mark.parametrize("path", sorted((ROOT / "example_workflows").glob("*.json")), ids=lambda path: path.stem)
def test_the_example_workflows_are_accepted(path: Path, registry: Registry) -> None:
    checked = validate(read_workflow(path, registry).prompt, registry)
    assert checked.ok, checked


def test_comfyuis_own_templates_are_accepted_but_for_missing_models(comfyui_path: Path, registry: Registry) -> None:
    """Hundreds of workflows of the editor, with subgraphs and every kind of widget."""
    paths = [path for path in comfyui_path.rglob("comfyui_workflow_templates*/templates/*.json")]
    if not paths:
        pytest.skip("this ComfyUI has no workflow templates")
    accepted, refused = 0, {}
    for path in paths:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("nodes"), list):
            continue  # the list of templates
        prompt = read_workflow(path, registry).prompt
        if any(node["class_type"] not in registry.nodes for node in prompt.values()):
            continue  # made for a pack, or another version
        errors = [
            f"{entry['class_type']}: {error['message']}, {error['details']}"
            for entry in validate(prompt, registry).node_errors.values()
            for error in entry["errors"]
            if error["type"] != "value_not_in_list"  # models are not installed here
        ]
        accepted += not errors
        refused |= {path.name: errors} if errors else {}
    assert accepted > 100 and len(refused) < accepted / 40, refused
