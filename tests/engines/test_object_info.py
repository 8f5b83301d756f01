"""Node classes made from an engine's description: what is judged, what is left to the engine, hostile descriptions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import context
from host.engines.contract import EngineError
from host.engines.object_info import registry_from
from host.folders import default_folders
from host.packs import Registry, load_pack
from host.validation import validate
from host.workflows import apply_overrides, read_workflow
from host.workflows.editor_widgets import widget_values

ROOT = Path(__file__).resolve().parents[2]


def described(module: str = "nodes", output: bool = True, **inputs: Any) -> dict[str, Any]:
    """A class with required inputs."""
    return {"input": {"required": inputs}, "output": ["IMAGE"], "output_node": output, "python_module": module}


RESIZE = {
    "input": {
        "required": {
            "input": ["COMFY_MATCHTYPE_V3", {"template": {"template_id": "t", "allowed_types": "IMAGE,MASK"}}],
            "resize": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {
                            "key": "size",
                            "inputs": {
                                "required": {
                                    "width": ["INT", {"default": 512, "min": 1, "max": 100}],
                                    "crop": ["COMBO", {"options": ["none", "center"]}],
                                }
                            },
                        },
                        {"key": "like", "inputs": {"required": {"other": ["IMAGE,MASK", {}]}}},
                        {
                            "key": "nested",
                            "inputs": {
                                "required": {
                                    "how": [
                                        "COMFY_DYNAMICCOMBO_V3",
                                        {
                                            "options": [
                                                {"key": "a", "inputs": {}},
                                                {
                                                    "key": "b",
                                                    "inputs": {"required": {"x": ["FLOAT", {"default": 2.5}]}},
                                                },
                                            ]
                                        },
                                    ]
                                }
                            },
                        },
                    ]
                },
            ],
            "method": ["COMBO", {"options": ["area", "nearest"]}],
        }
    },
    "output": ["COMFY_MATCHTYPE_V3"],
    "output_node": True,
    "python_module": "comfy_extras.nodes_post_processing",
}
BATCH = {
    "input": {
        "required": {
            "images": [
                "COMFY_AUTOGROW_V3",
                {"template": {"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image", "min": 2, "max": 50}},
            ]
        }
    },
    "output": ["IMAGE"],
    "output_node": True,
    "python_module": "comfy_extras.x",
}
PICTURE = described(output=False, level=["FLOAT", {"min": 0.0, "max": 1.0}])


def check(classes: dict[str, Any], *nodes: tuple[str, dict[str, Any]]) -> Any:
    """Validate nodes "1", "2", ..."""
    prompt = {str(index): {"class_type": kind, "inputs": inputs} for index, (kind, inputs) in enumerate(nodes, 1)}
    return validate(prompt, registry_from(classes))


def errors(result: Any) -> list[str]:
    return [error["type"] for entry in result.node_errors.values() for error in entry["errors"]]


# -- what is judged


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (["INT", {"min": 1, "max": 5}], 5, 6),
        (["FLOAT", {"min": 0.5}], "0.5", "x"),
        ([["a", "b"], {}], "a", "c"),
        (["COMBO", {"options": ["a", "b"]}], "b", ""),
        (["COMBO", {"options": [1, 2]}], 2, 3),
        ([["model.safetensors"]], "model.safetensors", "modle.safetensors"),
    ],
)
def test_wrong_values_are_found(spec: list[Any], good: Any, bad: Any) -> None:
    assert check({"N": described(x=spec)}, ("N", {"x": good})).ok
    assert len(errors(check({"N": described(x=spec)}, ("N", {"x": bad})))) == 1


def test_missing_inputs_wrong_links_and_unknown_classes_are_found() -> None:
    classes = {"P": PICTURE, "N": described(image=["IMAGE"]), "M": described(model=["MODEL", {}])}
    assert errors(check(classes, ("N", {}))) == ["required_input_missing"]
    assert errors(check(classes, ("M", {"model": ["2", 0]}), ("P", {"level": 0.5}))) == ["return_type_mismatch"]
    assert errors(check(classes, ("N", {"image": ["2", 1]}), ("P", {"level": 0.5}))) == ["bad_linked_input"]
    assert errors(check(classes, ("N", {"image": ["2", 0]}), ("P", {"level": 2}))) == ["value_bigger_than_max"]
    assert check(classes, ("Other", {})).error["type"] == "missing_node_type"
    assert check(classes, ("N", {"image": ["2", 0]}), ("P", {"level": "0.5"})).prompt["2"]["inputs"]["level"] == 0.5


# -- what is left to the engine


@pytest.mark.parametrize(
    ("module", "spec", "value"),
    [
        ("nodes", [["a.png"], {"image_upload": True}], "folder/b.png"),
        ("nodes", ["COMBO", {"video_upload": True, "options": ["a.mp4"]}], "b.mp4"),
        ("nodes", ["COMBO", {"image_upload": True, "remote": {"route": "/internal/files/output"}}], "x [output]"),
        ("nodes", ["COMBO", {"remote": {"route": "/x"}, "options": ["a"]}], "b"),
        ("nodes", [[]], "anything"),
        ("nodes", ["COMBO", {}], "anything"),
        ("custom_nodes.any_pack", [["a", "b"], {}], "c"),
        ("custom_nodes.any_pack", ["COMBO", {"options": ["a"]}], "c"),
        ("nodes", ["IMAGE", {}], "a constant for a socket"),
        ("nodes", ["CURVE_OF_SOME_PACK", {}], {"points": [[0, 1]]}),
        ("nodes", ["INT", {"min": "low", "max": None}], 10**18),
        ("nodes", ["INT,FLOAT", {}], 5),
    ],
)
def test_what_only_the_engine_can_judge_is_not_refused(module: str, spec: list[Any], value: Any) -> None:
    classes = {"N": described(module, x=spec), "P": PICTURE, "C": {**PICTURE, "output": ["CURVE_OF_SOME_PACK"]}}
    result = check(classes, ("N", {"x": value}))
    assert result.ok, result.node_errors
    assert result.prompt["1"]["inputs"]["x"] == value


def test_a_file_that_will_be_uploaded_is_a_choice(tmp_path: Path) -> None:
    before = context.use_folders(default_folders(tmp_path))
    try:
        (tmp_path / "input").mkdir()
        (tmp_path / "input/mine.latent").write_bytes(b"x")
        classes = {"N": described(latent=[["listed.latent"], {}])}
        assert check(classes, ("N", {"latent": "mine.latent"})).ok
        assert not check(classes, ("N", {"latent": "missing.latent"})).ok
    finally:
        context.use_folders(before)


# -- inputs of ComfyUI's V3 nodes


def test_the_inputs_of_a_choice_are_checked() -> None:
    classes = {"R": RESIZE, "P": PICTURE}
    picture = ("P", {"level": 0.5})
    given = {"input": ["2", 0], "method": "area"}
    good = {**given, "resize": "size", "resize.width": "64", "resize.crop": "center"}
    result = check(classes, ("R", good), picture)
    assert result.ok, result.node_errors
    assert result.prompt["1"]["inputs"]["resize.width"] == 64
    assert errors(check(classes, ("R", {**good, "resize.width": 101}), picture)) == ["value_bigger_than_max"]
    assert errors(check(classes, ("R", {**good, "resize.crop": "x"}), picture)) == ["value_not_in_list"]
    assert errors(check(classes, ("R", {**given, "resize": "size"}), picture)) == ["required_input_missing"] * 2
    like = {**given, "resize": "like", "resize.other": ["3", 0]}
    assert check(classes, ("R", like), picture, picture).ok
    assert errors(check(classes, ("R", like), picture, ("P", {"level": 9}))) == ["value_bigger_than_max"]
    assert check(classes, ("R", {**given, "resize": "nested", "resize.how": "b", "resize.how.x": 1}), picture).ok


def test_the_links_of_a_growing_list_are_checked() -> None:
    classes = {"B": BATCH, "P": PICTURE}
    links = {"images.image0": ["2", 0], "images.image1": ["3", 0]}
    assert check(classes, ("B", links), ("P", {"level": 0}), ("P", {"level": 1})).ok
    assert errors(check(classes, ("B", links), ("P", {"level": 0}), ("P", {"level": 7}))) == ["value_bigger_than_max"]
    assert errors(check(classes, ("B", {"images.image0": ["2", 0]}), ("P", {"level": 0}))) == ["required_input_missing"]


def test_overrides_reach_the_inputs_of_a_choice() -> None:
    registry = registry_from({"R": RESIZE, "P": PICTURE})
    prompt = {"1": {"class_type": "R", "inputs": {"resize": "size", "resize.width": 64}}}
    assert apply_overrides(prompt, ["R.resize.width=32"], registry)["1"]["inputs"]["resize.width"] == 32
    assert apply_overrides(prompt, ["R.resize=like"], registry)["1"]["inputs"]["resize"] == "like"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            ["size", 64, "center", "nearest"],
            {"resize": "size", "resize.width": 64, "resize.crop": "center", "method": "nearest"},
        ),
        (["like", "nearest"], {"resize": "like", "method": "nearest"}),
        (["nested", "b", 1.5, "area"], {"resize": "nested", "resize.how": "b", "resize.how.x": 1.5, "method": "area"}),
        (["nested", "a", "area"], {"resize": "nested", "resize.how": "a", "method": "area"}),
        ([], {"resize": "size", "resize.width": 512, "resize.crop": "none", "method": "area"}),
        (
            {"resize": "nested", "resize.how": "b"},
            {"resize": "nested", "resize.how": "b", "resize.how.x": 2.5, "method": "area"},
        ),
    ],
)  # fmt: skip
def test_the_editors_values_are_read_with_the_widgets_that_a_choice_adds(values: Any, expected: dict[str, Any]) -> None:
    assert widget_values(registry_from({"R": RESIZE}).nodes["R"], values) == expected


# -- this project's own nodes, described and read back


@pytest.fixture(scope="module")
def own() -> Registry:
    return load_pack(ROOT)


@pytest.mark.parametrize("path", sorted((ROOT / "example_workflows").glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_read_the_same_from_a_description(path: Path, own: Registry) -> None:
    described_registry = registry_from(json.loads(json.dumps(own.all_object_info())))
    here = read_workflow(path, own).prompt
    known = {node_id: node for node_id, node in here.items() if node["class_type"] in own.nodes}
    there = read_workflow(path, described_registry).prompt
    assert {node_id: there[node_id] for node_id in known} == known
    if len(known) == len(here):
        ours, theirs = validate(here, own), validate(there, described_registry)
        assert theirs.ok == ours.ok and theirs.prompt == ours.prompt


def test_a_description_of_the_classes_is_the_one_that_they_were_made_from(own: Registry) -> None:
    told = json.loads(json.dumps(own.all_object_info()))
    assert json.loads(json.dumps(registry_from(told).all_object_info())) == told


# -- hostile descriptions


@pytest.mark.parametrize("told", [None, [], {}, "x", {"N": 5}, {"N": {}}, {"N": {"input": []}}, {5: described()}])
def test_what_is_no_description_is_a_sentence(told: Any) -> None:
    with pytest.raises(EngineError, match="description"):
        registry_from(told)


def test_a_description_that_nests_too_deeply_or_is_too_long_is_refused() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(EngineError, match="nests too deeply"):
        registry_from({"N": described(x=["COMBO", {"options": deep}])})
    with pytest.raises(EngineError, match="at most 50000"):
        registry_from(dict.fromkeys(map(str, range(50_001)), described()))


def test_a_growing_list_does_not_grow_without_end() -> None:
    huge = copy.deepcopy(BATCH)
    huge["input"]["required"]["images"][1]["template"]["max"] = 10**12
    assert len(errors(check({"B": huge}, ("B", {})))) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
spec_values = st.one_of(
    json_values,
    st.tuples(
        st.sampled_from(["INT", "COMBO", "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3"]),
        st.dictionaries(
            st.sampled_from(["options", "template", "inputs", "slotType", "min", "max", "default", "image_upload"]),
            json_values
            | st.fixed_dictionaries({"input": json_values, "prefix": json_values, "min": json_values})
            | st.lists(st.fixed_dictionaries({"key": st.sampled_from(["a", "b"]), "inputs": json_values})),
        ),
    ).map(list),
)


@given(spec=spec_values, value=json_values, outputs=json_values)
def test_no_description_makes_reading_or_checking_raise(spec: Any, value: Any, outputs: Any) -> None:
    info = {"input": {"required": {"x": spec}, "optional": {"y": spec}}, "output": outputs, "output_node": True}
    registry = registry_from({"N": info})
    validate({"1": {"class_type": "N", "inputs": {"x": value, "x.a": value, "y": "a"}}}, registry)
    widget_values(registry.nodes["N"], [value, value, value])
    registry.all_object_info()
