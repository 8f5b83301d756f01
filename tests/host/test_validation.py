"""Every problem of a prompt at once, in ComfyUI's shapes."""

from __future__ import annotations

import pytest

from host.limits import MAX_PROMPT_DEPTH, MAX_PROMPT_NODES
from host.strict_json import dumps
from host.validation import validate


@pytest.fixture
def check(registry, folders):
    return lambda prompt, targets=None: validate(prompt, registry, targets)


@pytest.fixture
def errors_of(check, node):
    """The errors of one node that feeds an output."""

    def errors(kind, **inputs):
        found = check({"1": node(kind, **inputs), "2": node("ToyShow", value=["1", 0])})
        return found.node_errors.get("1", {"errors": []})["errors"]

    return errors


NUMBER = {"value": 1.0, "seed": 0, "mode": "plain"}
CONFIG = ["FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.1, "tooltip": "The value."}]


def test_a_good_prompt_passes_and_its_values_are_converted(check, node):
    inputs = {"value": "2.5", "seed": "7", "mode": "plain", "label": 3, "negate": 1}
    prompt = {"1": node("ToyNumber", **inputs), "2": node("ToyShow", value=["1", 0])}
    found = check(prompt)
    assert found.ok and found.outputs == ("2",)
    assert found.prompt["1"]["inputs"] == {"value": 2.5, "seed": 7, "mode": "plain", "label": "3", "negate": True}
    assert prompt["1"]["inputs"] == inputs  # the client's own is left alone


def test_a_missing_input(errors_of):
    assert errors_of("ToyNumber", value=1.0, seed=0) == [
        {
            "type": "required_input_missing",
            "message": "Required input is missing",
            "details": "mode",
            "extra_info": {"input_name": "mode"},
        }
    ]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (-11, "value_smaller_than_min", "Value -11.0 smaller than min of -10.0"),
        (10.5, "value_bigger_than_max", "Value 10.5 bigger than max of 10.0"),
    ],
)
def test_a_value_out_of_range(errors_of, value, kind, message):
    assert errors_of("ToyNumber", **NUMBER | {"value": value}) == [
        {
            "type": kind,
            "message": message,
            "details": "value",
            "extra_info": {"input_name": "value", "input_config": CONFIG, "received_value": float(value)},
        }
    ]


def test_a_value_of_the_wrong_type(errors_of):
    (error,) = errors_of("ToyNumber", **NUMBER | {"value": "much"})
    text = "could not convert string to float: 'much'"
    assert error == {
        "type": "invalid_input_type",
        "message": "Failed to convert an input value to a FLOAT value",
        "details": f"value, much, {text}",
        "extra_info": {
            "input_name": "value",
            "input_config": CONFIG,
            "received_value": "much",
            "exception_message": text,
        },
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", 1e400])
def test_a_number_must_be_finite(errors_of, value):
    assert [error["type"] for error in errors_of("ToyNumber", **NUMBER | {"value": value})] == ["invalid_input_type"]


def test_a_value_that_is_no_choice(errors_of):
    assert errors_of("ToyNumber", **NUMBER | {"mode": "triple"}) == [
        {
            "type": "value_not_in_list",
            "message": "Value not in list",
            "details": "mode: 'triple' not in ['plain', 'double']",
            "extra_info": {
                "input_name": "mode",
                "input_config": [["plain", "double"], {}],
                "received_value": "triple",
            },
        }
    ]


def test_all_problems_are_named_at_once(check, node):
    prompt = {
        "1": node("ToyNumber", value=99, seed=-1, mode="no"),
        "2": node("ToyAdd", b="x"),
        "3": node("ToyShow", value=["1", 0]),
        "4": node("ToyShow", value=["2", 0]),
    }
    found = check(prompt)
    assert found.error["type"] == "prompt_outputs_failed_validation"
    kinds = {node_id: [error["type"] for error in entry["errors"]] for node_id, entry in found.node_errors.items()}
    assert kinds == {
        "1": ["value_bigger_than_max", "value_smaller_than_min", "value_not_in_list"],
        "2": ["required_input_missing", "invalid_input_type"],
    }
    assert {node_id: entry["dependent_outputs"] for node_id, entry in found.node_errors.items()} == {
        "1": ["3"],
        "2": ["4"],
    }
    assert found.node_errors["1"]["class_type"] == "ToyNumber"


def test_good_outputs_run_although_another_is_bad(check, node):
    prompt = {"1": node("ToyNumber", **NUMBER), "2": node("ToyNumber", **NUMBER | {"seed": -1})}
    prompt |= {"3": node("ToyShow", value=["1", 0]), "4": node("ToyShow", value=["2", 0])}
    found = check(prompt)
    assert found.error is None and not found.ok
    assert found.outputs == ("3",)
    assert list(found.node_errors) == ["2"]


def test_types_must_agree_along_a_link(errors_of, check, node):
    prompt = {"1": node("ToyNumber", **NUMBER), "2": node("ToyPass", image=["1", 0])}
    (error,) = check(prompt | {"3": node("ToyShow", value=["2", 1])}).node_errors["2"]["errors"]
    assert error == {
        "type": "return_type_mismatch",
        "message": "Return type mismatch between linked nodes",
        "details": "image, received_type(FLOAT) mismatch input_type(IMAGE)",
        "extra_info": {
            "input_name": "image",
            "input_config": ["IMAGE", {}],
            "received_type": "FLOAT",
            "linked_node": ["1", 0],
        },
    }


@pytest.mark.parametrize(
    ("link", "named"),
    [
        (["99", 0], "node '99', which is not in the prompt"),
        (["1", 5], "output 5 of node '1', but ToyNumber has 1 outputs"),
        (["1", -1], "output -1"),
        (["1"], "length-2 list"),
        ([1, 0], "length-2 list"),
        (["1", "0"], "length-2 list"),
        ([], "length-2 list"),
        (["1", 0, 0], "length-2 list"),
        ([["1", 0], 0], "length-2 list"),
    ],
)
def test_a_link_to_nowhere(check, node, link, named):
    prompt = {"1": node("ToyNumber", **NUMBER), "2": node("ToyAdd", a=link, b=0.0)}
    (error,) = check(prompt | {"3": node("ToyShow", value=["2", 0])}).node_errors["2"]["errors"]
    assert error["type"] == "bad_linked_input"
    assert named in error["message"]
    assert error["extra_info"]["input_name"] == "a"
    assert error["extra_info"]["received_value"] == link


def test_a_cycle_is_reported_at_each_of_its_nodes(check, node):
    prompt = {"1": node("ToyAdd", a=["2", 0], b=0.0), "2": node("ToyAdd", a=["1", 0], b=0.0)}
    found = check(prompt | {"3": node("ToyShow", value=["1", 0])})
    assert set(found.node_errors) == {"1", "2"}
    for node_id, entry in found.node_errors.items():
        assert entry["errors"] == [
            {
                "type": "dependency_cycle",
                "message": "Dependency cycle detected",
                "details": "1 (ToyAdd) -> 2 (ToyAdd) -> 1 (ToyAdd)",
                "extra_info": {"node_id": node_id, "cycle_nodes": ["1", "2"]},
            }
        ]


def test_a_node_linked_to_itself(check, node):
    found = check({"1": node("ToyAdd", a=["1", 0], b=0.0), "2": node("ToyShow", value=["1", 0])})
    assert [error["type"] for error in found.node_errors["1"]["errors"]] == ["dependency_cycle"]


def test_a_knot_of_cycles_gets_a_short_answer(check, node):
    knot = {str(i): node("ToyAdd", a=[str((i + 1) % 2000), 0], b=["0", 0]) for i in range(2000)}
    found = check(knot | {"x": node("ToyShow", value=["0", 0])})
    assert len(found.node_errors) == 2000
    assert all(len(entry["errors"]) == 1 for entry in found.node_errors.values())
    assert len(dumps(found.node_errors)) < 10_000_000


def test_a_diamond_is_no_cycle(check, node):
    prompt = {"1": node("ToyNumber", **NUMBER), "2": node("ToyAdd", a=["1", 0], b=["1", 0])}
    prompt |= {"3": node("ToyAdd", a=["2", 0], b=["1", 0]), "4": node("ToyShow", value=["3", 0])}
    assert check(prompt).ok


def test_a_class_validates_its_own_input_and_only_that(errors_of):
    assert errors_of("ToyEven", value=6, other=3) == []  # above max, but the class says yes
    (error,) = errors_of("ToyEven", value=3, other=3)
    assert error == {
        "type": "custom_validation_failed",
        "message": "Custom validation failed for node",
        "details": "value - 3 is odd",
        "extra_info": {"input_name": "value"},
    }
    assert [error["type"] for error in errors_of("ToyEven", value=3, other=9)] == [
        "value_bigger_than_max",
        "custom_validation_failed",
    ]


def test_a_class_whose_own_code_raises_becomes_an_error_of_the_node(errors_of, registry, monkeypatch):
    def boom(cls, value):
        raise RuntimeError("boom")

    monkeypatch.setattr(registry.nodes["ToyEven"], "VALIDATE_INPUTS", classmethod(boom))
    (error,) = errors_of("ToyEven", value=2, other=1)
    assert (error["type"], error["details"]) == ("exception_during_validation", "boom")
    assert error["extra_info"]["exception_type"] == "RuntimeError"


def test_an_async_validator_is_awaited(errors_of, registry, monkeypatch):
    async def later(cls, value):
        return "later"

    monkeypatch.setattr(registry.nodes["ToyEven"], "VALIDATE_INPUTS", classmethod(later))
    assert errors_of("ToyEven", value=2, other=1)[0]["details"] == "value - later"


def test_a_constant_in_the_place_of_a_picture_is_refused(check, node):
    found = check({"1": node("ToyPass", image="a.png"), "2": node("ToyShow", value=["1", 1])})
    (error,) = found.node_errors["1"]["errors"]
    assert error["type"] == "invalid_input_type"
    assert "a IMAGE comes from another node" in error["details"]


def test_a_list_travels_wrapped(check, node, registry, monkeypatch):
    found = check(
        {"1": node("ToyNumber", **NUMBER | {"label": {"__value__": "y"}}), "2": node("ToyShow", value=["1", 0])}
    )
    assert found.prompt["1"]["inputs"]["label"] == "y"


def test_an_unknown_class(check, node):
    found = check({"1": node("Nope", "My Node"), "2": node("ToyShow", value=["1", 0])})
    assert found.error == {
        "type": "missing_node_type",
        "message": "Node 'My Node' not found. The custom node may not be installed.",
        "details": "Node ID '#1'",
        "extra_info": {"node_id": "1", "class_type": "Nope", "node_title": "My Node"},
    }
    assert (found.node_errors, found.outputs) == ({}, ())


def test_a_node_without_a_class(check):
    found = check({"1": {"inputs": {}}})
    assert found.error["type"] == "missing_node_type"
    assert "has no class_type" in found.error["message"]
    assert found.error["extra_info"] == {"node_id": "1", "class_type": None, "node_title": None}


def test_no_outputs(check, node):
    expected = {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}}
    assert check({"1": node("ToyNumber", **NUMBER)}).error == expected
    assert check({}).error == expected
    prompt = {"1": node("ToyNumber", **NUMBER), "2": node("ToyShow", value=["1", 0])}
    assert check(prompt, targets=[]).error == expected
    assert check(prompt | {"3": node("ToyShow", value=["1", 0])}, targets=["3"]).outputs == ("3",)


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        3,
        "x",
        [],
        {"1": None},
        {"1": []},
        {1: {}},
        {"1": {"class_type": ["a"], "inputs": {}}},
        {"1": {"class_type": {}}},
    ],
)
def test_what_is_no_prompt_is_refused(check, prompt):
    assert check(prompt).error["type"] in ("invalid_prompt", "missing_node_type")


@pytest.mark.parametrize("inputs", [None, [], "x", 3])
def test_inputs_that_are_no_object(check, node, inputs):
    broken = {"class_type": "ToyNumber", "inputs": inputs}
    found = check({"1": broken, "2": node("ToyShow", value=["1", 0])})
    assert found.node_errors["1"]["errors"][0]["type"] == "exception_during_validation"
    assert check({"1": {"class_type": "ToyNumber"}, "2": node("ToyShow", value=["1", 0])}).error is not None


def test_hostile_sizes_are_refused(check, node):
    deep = []
    for _ in range(MAX_PROMPT_DEPTH + 1000):
        deep = [deep]
    assert check({"1": node("ToyShow", value={"__value__": deep})}).error["type"] == "invalid_prompt"
    assert (
        check({str(i): node("ToyList", count=1) for i in range(MAX_PROMPT_NODES + 1)}).error["type"] == "invalid_prompt"
    )
    assert (
        check({"1": node("ToyShow", value="x")}, targets="not a list of ids" * 2).error["type"] == "prompt_no_outputs"
    )
    assert check({"1": node("ToyShow", value="x")}, targets=[3]).error["type"] == "invalid_prompt"


def test_a_long_chain_is_checked_without_recursion(check, node):
    prompt = {"0": node("ToyNumber", **NUMBER)}
    prompt |= {str(i): node("ToyAdd", a=[str(i - 1), 0], b=1.0) for i in range(1, 2900)}
    assert check(prompt | {"x": node("ToyShow", value=["2899", 0])}).ok
    prompt["0"] = node("ToyAdd", a=["2899", 0], b=1.0)
    assert len(check(prompt | {"x": node("ToyShow", value=["2899", 0])}).node_errors) == 2900


LONG = "x" * 50_000


@pytest.mark.parametrize(
    "prompt",
    [
        {LONG: 3},
        {LONG: {"inputs": {}}},
        {"1": {"class_type": LONG, "inputs": {}}},
        {"1": {"class_type": "ToyShow", "inputs": {"value": [LONG, 0]}}},
        {"1": {"class_type": "ToyNumber", "inputs": {"mode": LONG, "value": LONG, "seed": 1}}, "2": {
            "class_type": "ToyShow", "inputs": {"value": ["1", 0]}}},
        {"1": {"class_type": "LoadImage", "inputs": {"image": LONG}}, "2": {
            "class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}},
    ],
    ids=["node", "id", "class", "link", "values", "picture"],
)  # fmt: skip
def test_an_error_quotes_the_beginning_of_what_was_sent(check, prompt):
    found = check(prompt)
    assert found.error is not None
    errors = [found.error, *(error for entry in found.node_errors.values() for error in entry["errors"])]
    for error in errors:
        assert max(len(error["message"]), len(error["details"])) < 2100
        assert len(error["extra_info"].get("exception_message", "")) < 2100


def test_an_integer_of_thousands_of_digits(check, node):
    """It cannot be printed, also not in an error."""
    found = check({"1": node("ToyNumber", value=10**5000, seed=0, mode="plain"), "2": node("ToyShow", value=["1", 0])})
    assert found.node_errors["1"]["errors"]
