"""Workflows come from files of three kinds, and mean the same in each."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from host.error_format import show
from host.limits import MAX_PROMPT_DEPTH
from host.workflows import OverrideError, WorkflowError, apply_overrides, read_workflow

API = {
    "1": {"class_type": "ToyNumber", "inputs": {"value": 2.0, "seed": 7, "mode": "plain"}},
    "2": {"class_type": "ToyShow", "inputs": {"value": ["1", 0]}},
}
EDITOR = {
    "nodes": [
        {"id": 1, "type": "ToyNumber", "outputs": [{"type": "FLOAT"}], "widgets_values": [2.0, 7, "fixed", "plain"]},
        {"id": 2, "type": "ToyShow", "inputs": [{"name": "value", "type": "*", "link": 1}]},
    ],
    "links": [[1, 1, 0, 2, 0, "FLOAT"]],
}


def picture(**texts: str) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def dumped(value) -> bytes:
    return json.dumps(value).encode()


def test_the_apis_format(registry, tmp_path):
    (tmp_path / "x.json").write_bytes(dumped(API))
    assert read_workflow(tmp_path / "x.json", registry) == (API, {})
    assert read_workflow(dumped(API), registry) == (API, {})


def test_the_body_of_a_request(registry):
    body = {"prompt": API, "client_id": "x", "extra_data": {"extra_pnginfo": {"workflow": EDITOR}}}
    assert read_workflow(dumped(body), registry) == (API, {"workflow": EDITOR})
    assert read_workflow(dumped({"prompt": API}), registry) == (API, {})


def test_the_editors_format(registry):
    prompt, extra = read_workflow(dumped(EDITOR), registry)
    assert extra == {"workflow": EDITOR}
    assert prompt["1"]["inputs"] == API["1"]["inputs"] | {"label": "x", "negate": False}
    assert prompt["2"]["inputs"] == API["2"]["inputs"]


def test_a_picture_with_a_prompt_is_run_as_it_was_made(registry):
    both = picture(prompt=json.dumps(API), workflow=json.dumps(EDITOR))
    assert read_workflow(both, registry) == (API, {"workflow": EDITOR})
    assert read_workflow(picture(prompt=json.dumps(API)), registry) == (API, {})


def test_a_picture_with_the_editors_graph_alone(registry):
    prompt, extra = read_workflow(picture(workflow=json.dumps(EDITOR)), registry)
    assert prompt == read_workflow(dumped(EDITOR), registry).prompt
    assert extra == {"workflow": EDITOR}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty; expected a workflow"),
        (b" \n", "the file is empty"),
        (b"{", "the file, line 1, column 2: not valid JSON: Expecting property name"),
        (b'{\n  "1": {,\n', "the file, line 2, column 9: not valid JSON: Expecting property name"),
        (b"\xff\xfe\x00\x01", "neither JSON nor a PNG|not valid JSON"),
        (b"[1, 2]", "a workflow is a JSON object, got list"),
        (b'{"a": ' + b"9" * 5000 + b"}", "the file is not valid JSON"),
        (b"{}", "the JSON is not a workflow"),
        (b'{"a": 1}', "the JSON is not a workflow"),
        (b"[" * 100_000, "nests too deeply|not valid JSON"),
        (b'{"a":' * 100_000, "nests too deeply|not valid JSON"),
        (b"\x89PNG\r\n\x1a\n" + b"rubbish" * 9, "the PNG cannot be read"),
        (picture(), "the picture contains no workflow"),
        (picture(prompt="9" * 5000), "the file, its text 'prompt' is not valid JSON"),
        (picture(prompt="{"), "the file, its text 'prompt', line 1, column 2: not valid JSON"),
        (picture(prompt="[]", workflow="3"), "the picture contains no workflow"),
    ],
)
def test_what_is_no_workflow_is_refused_in_a_sentence(registry, data, message):
    with pytest.raises(WorkflowError, match=message):
        read_workflow(data, registry)


def test_a_file_that_is_not_there_or_is_a_folder(registry, tmp_path):
    with pytest.raises(WorkflowError, match="there is no file"):
        read_workflow(tmp_path / "none.json", registry)
    with pytest.raises(WorkflowError, match="cannot be read"):
        read_workflow(tmp_path, registry)
    with pytest.raises(WorkflowError, match="cannot be read"):
        read_workflow("a\0b", registry)


def test_a_file_that_is_too_large_is_not_read(registry, tmp_path):
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(WorkflowError, match="larger than 64 MiB"):
        read_workflow(tmp_path / "big.json", registry)


keys = st.sampled_from(
    ["nodes", "links", "id", "type", "inputs", "outputs", "link", "name", "mode", "widgets_values", "definitions",
     "subgraphs", "prompt", "class_type", "properties", "proxyWidgets"]
)  # fmt: skip
leaves = (
    st.none() | st.booleans() | st.integers(-25, 5) | st.floats() | st.sampled_from(["ToyAdd", "Reroute", "s", "*"])
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5))
slots = st.fixed_dictionaries({"name": st.sampled_from(["a", "b", "value"]), "type": leaves, "link": st.integers(0, 4)})
boxes = st.fixed_dictionaries(
    {
        "id": st.integers(1, 4),
        "type": st.sampled_from(["ToyAdd", "ToyShow", "Reroute", "PrimitiveNode", "s"]),
        "mode": st.sampled_from([0, 2, 4]),
        "inputs": st.lists(slots, max_size=2),
        "outputs": st.lists(st.fixed_dictionaries({"type": leaves}), max_size=2),
        "widgets_values": values,
        "properties": st.fixed_dictionaries({"proxyWidgets": values}) | values,
    }
)
ends = st.sampled_from([-20, -10, 1, 2, 3, 4])
lines = st.tuples(st.integers(0, 4), ends, st.integers(-1, 2), ends, st.integers(-1, 2)).map(list)
graphs = st.fixed_dictionaries({"nodes": st.lists(boxes, max_size=4), "links": st.lists(lines, max_size=5)})
definitions = st.builds(
    lambda g, n: {"subgraphs": [{**g, "id": "s", "inputs": n}]}, graphs, st.lists(slots, max_size=2)
)
workflows = st.builds(lambda graph, inner: {**graph, "definitions": inner}, graphs, definitions | values)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values | workflows)
def test_anything_is_read_or_refused(registry, value):
    try:
        prompt, _ = read_workflow(dumped(value), registry)
    except WorkflowError:
        return
    assert isinstance(prompt, dict)


LONG = "x" * 50_000
NESTED = "[" * 100_000


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "override",
    [LONG, f"{LONG}.value=1", f"1.{LONG}=1", f"1.value={LONG}", f"1.seed={'9' * 5000}", f"{LONG}.{LONG}={LONG}"],
    ids=["no equals sign", "node", "input", "number", "digits", "everything"],
)
def test_an_override_is_quoted_in_part(registry, override):
    with pytest.raises(OverrideError) as refused:
        apply_overrides(API, [override], registry)
    assert str(refused.value).startswith("--set") and len(str(refused.value)) < 700


def test_an_override_of_a_prompt_with_long_and_many_names(registry):
    prompt = {f"{i}{LONG}": {"class_type": f"{i}{LONG}", "inputs": {}} for i in range(50)}
    with pytest.raises(OverrideError, match="there are node 0x") as refused:
        apply_overrides(prompt, ["none.value=1"], registry)
    assert len(str(refused.value)) < 2100


def test_an_override_that_nests_too_deeply(registry, monkeypatch):
    """It may be given where an input's type is the editor's own, and is then read as JSON."""

    class Curved:
        RETURN_TYPES = ()
        FUNCTION = "run"
        OUTPUT_NODE = True

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"curve": ("CURVE",)}}

    monkeypatch.setitem(registry.nodes, "Curved", Curved)
    prompt = {"1": {"class_type": "Curved", "inputs": {}}}
    with pytest.raises(OverrideError, match="nests too deeply"):
        apply_overrides(prompt, [f"1.curve={NESTED}"], registry)
    assert apply_overrides(prompt, ["1.curve=[[1]]"], registry)["1"]["inputs"] == {"curve": [[1]]}


@pytest.mark.parametrize("depth", [100, 100_000])
def test_overrides_of_a_prompt_that_nests_too_deeply(registry, depth):
    prompt = {"1": {"class_type": "ToyNumber", "inputs": {"value": nested(depth)}}}
    with pytest.raises(OverrideError, match=f"at most {MAX_PROMPT_DEPTH} deep"):
        apply_overrides(prompt, ["1.seed=3"], registry)


@pytest.mark.parametrize(
    "workflow",
    [
        {"nodes": [{"id": LONG}]},
        {"nodes": [{"id": LONG, "type": LONG, "inputs": 3}]},
        {"nodes": [{"id": LONG, "type": LONG, "inputs": [{"name": LONG, "link": LONG}]}]},
        {"nodes": [{"id": 1, "type": LONG, "inputs": [{"name": LONG, "link": 1}]}], "links": [[1, LONG, 0, 1, 0]]},
        {"nodes": [], "links": [[LONG]]},
    ],
    ids=["type", "inputs", "link", "origin", "links"],
)
def test_a_malformed_workflow_is_quoted_in_part(registry, workflow):
    with pytest.raises(WorkflowError) as refused:
        read_workflow(dumped(workflow), registry)
    assert len(str(refused.value)) < 2100


@pytest.mark.parametrize("broken", [10**5000, nested(100_000), object()], ids=["digits", "depth", "object"])
def test_any_value_can_be_quoted(broken):
    assert 5 < len(show(broken)) <= 83
