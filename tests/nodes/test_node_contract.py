"""What saved workflows and the editor rely on: ids, inputs, order, defaults, words."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host.packs import stock_registry
from host.validation import validate

SNAPSHOT = Path(__file__).parent / "released_nodes.json"


def interface(node: type) -> dict[str, Any]:
    """The part of a node that a saved workflow depends on. Choices may grow; their default may not change."""
    given = node.INPUT_TYPES()
    inputs = [
        [group, name, "COMBO" if isinstance(kind, list) else kind, options.get("default")]
        for group in ("required", "optional")
        for name, (kind, options) in given.get(group, {}).items()
    ]
    return {"inputs": inputs, "outputs": list(node.RETURN_TYPES), "names": list(node.RETURN_NAMES)}


def test_released_ids_inputs_order_and_defaults_never_change(nodes: dict[str, type]) -> None:
    released = json.loads(SNAPSHOT.read_text())
    now = {node_id: interface(nodes[node_id]) for node_id in released if node_id in nodes}
    assert now == released


def test_every_node_is_in_the_snapshot(nodes: dict[str, type]) -> None:
    assert set(nodes) == set(json.loads(SNAPSHOT.read_text()))


def test_every_node_has_a_display_name(pack: Any, nodes: dict[str, type]) -> None:
    names = pack.NODE_DISPLAY_NAME_MAPPINGS
    assert set(names) == set(nodes)
    assert all(name.startswith("DDIM ") for name in names.values())
    assert len(set(names.values())) == len(names)


def test_every_node_explains_itself(nodes: dict[str, type]) -> None:
    for node_id, node in nodes.items():
        assert node_id.startswith("DDIM") and node.CATEGORY.startswith("DDIM/"), node_id
        assert len(node.DESCRIPTION) > 40 and node.SEARCH_ALIASES, node_id
        assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES), node_id
        assert callable(getattr(node, node.FUNCTION)), node_id


def test_every_input_explains_itself_and_admits_its_default(nodes: dict[str, type]) -> None:
    for node_id, node in nodes.items():
        for group in node.INPUT_TYPES().values():
            for name, (kind, options) in group.items():
                where = f"{node_id}.{name}"
                assert len(options["tooltip"]) > 10, where
                if kind in ("INT", "FLOAT"):
                    assert options["min"] <= options["default"] <= options["max"], where
                if isinstance(kind, list):
                    assert options["default"] in kind, where


def test_one_name_means_one_kind_everywhere(nodes: dict[str, type]) -> None:
    kinds: dict[str, set[str]] = {}
    for node in nodes.values():
        for group in node.INPUT_TYPES().values():
            for name, (kind, _) in group.items():
                kinds.setdefault(name, set()).add("COMBO" if isinstance(kind, list) else kind)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    "word",
    ["ddim", "zero snr", "ztsnr", "v-pred", "cfg rescale", "trailing", "variance noise", "scheduler_config.json"],
)
def test_the_words_that_people_know_find_a_node(nodes: dict[str, type], word: str) -> None:
    assert any(word in alias for node in nodes.values() for alias in node.SEARCH_ALIASES)


def test_every_example_workflow_has_a_picture_and_a_note(repo_root: Path) -> None:
    """The template browser shows <name>.jpg; a MarkdownNote says what to look at."""
    workflows = sorted((repo_root / "example_workflows").glob("*.json"))
    assert len(workflows) >= 6
    for path in workflows:
        kinds = [node["type"] for node in json.loads(path.read_text())["nodes"]]
        assert path.with_suffix(".jpg").is_file(), f"{path.name} has no thumbnail"
        assert {"MarkdownNote", "Note"} & set(kinds), f"{path.name} has no note"


def test_example_workflows_name_known_nodes_and_their_inputs(repo_root: Path, nodes: dict[str, type]) -> None:
    for path in sorted((repo_root / "example_workflows").glob("*.json")):
        for node in json.loads(path.read_text())["nodes"]:
            if not node["type"].startswith("DDIM"):
                continue
            given = nodes[node["type"]].INPUT_TYPES()
            declared = {name for group in ("required", "optional") for name in given.get(group, {})}
            told = set(node.get("widgets_values_named", {})) - {"control_after_generate", "upload"}
            assert told | {i["name"] for i in node["inputs"]} <= declared, f"{path.name}: {node['type']}"


def declared_inputs(node: type) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """(group, name, type, options) of every input."""
    for group, specs in node.INPUT_TYPES().items():
        for name, (kind, options) in specs.items():
            yield group, name, kind, options


def test_only_links_are_required(nodes: dict[str, type]) -> None:
    for node_id in nodes:
        for group, name, _, options in declared_inputs(nodes[node_id]):
            assert (group == "optional") or "default" not in options, f"{node_id}.{name}"


def test_a_missing_value_is_the_widget_s_default(nodes: dict[str, type]) -> None:
    """A prompt that leaves an input out runs as one in which the editor wrote the default."""
    for node_id in nodes:
        given = inspect.signature(getattr(nodes[node_id], nodes[node_id].FUNCTION)).parameters
        for group, name, _, options in declared_inputs(nodes[node_id]):
            default = options.get("default") if group == "optional" else inspect.Parameter.empty
            assert given[name].default == default, f"{node_id}.{name}"
            assert type(given[name].default) is type(default), f"{node_id}.{name}"


# Which node makes a value of a type, and in which output.
MAKERS = {
    "MODEL": ("DDIMDemoModel", 0),
    "CONDITIONING": ("DDIMDemoPrompt", 0),
    "LATENT": ("DDIMDemoLatent", 0),
    "IMAGE": ("DDIMDemoPicture", 0),
    "DDIM_SCHEDULE": ("DDIMSchedule", 0),
    "VARIANCE_NOISE": ("DDIMLoadNoise", 1),
    "DDIM_STEPS": ("DDIMSample", 2),
}


def test_a_prompt_of_links_alone_is_valid(nodes: dict[str, type]) -> None:
    """The smallest prompt of each node: its required links, and nothing else."""
    for node_id in nodes:
        target = type(node_id, (nodes[node_id],), {"OUTPUT_NODE": True})
        needed = [(name, kind) for group, name, kind, _ in declared_inputs(target) if group == "required"]
        prompt = {kind: {"class_type": maker, "inputs": {}} for kind, (maker, _) in MAKERS.items()}
        prompt["DDIM_STEPS"]["inputs"] = {
            name: [kind, MAKERS[kind][1]]
            for _, name, kind, _ in declared_inputs(nodes["DDIMSample"])
            if name in ("model", "positive", "negative", "latent_image")
        }
        prompt["0"] = {"class_type": "Target", "inputs": {name: [kind, MAKERS[kind][1]] for name, kind in needed}}
        stock = stock_registry()
        found = validate(prompt, replace(stock, nodes={**stock.nodes, **nodes, "Target": target}))
        assert found.ok and "0" in found.outputs, f"{node_id}: {found.node_errors}"
