"""The editor's format: what old editors saved, and files that are broken or hostile."""

from __future__ import annotations

import pytest

from host.workflows import WorkflowError
from host.workflows.editor_format import to_prompt
from host.workflows.editor_widgets import widget_values


def box(node_id, kind, inputs=(), outputs=("FLOAT",), values=None, **more):
    slots = [
        {"name": name, "type": kind_, "link": link, **extra}
        for name, kind_, link, *rest in inputs
        for extra in [rest[0] if rest else {}]
    ]
    ends = [{"name": end, "type": end, "links": []} for end in outputs]
    return {"id": node_id, "type": kind, "mode": 0, "inputs": slots, "outputs": ends, "widgets_values": values, **more}


def show(link, node_id=9):
    return box(node_id, "ToyShow", [("value", "*", link)], ())


NUMBER = box(1, "ToyNumber", values=[2.0, 7, "fixed", "double", "text", True])


@pytest.fixture
def convert(registry):
    return lambda nodes, links, **more: to_prompt({"nodes": nodes, "links": links, **more}, registry)


@pytest.mark.parametrize(
    "values",
    [
        [2.0, 7, "fixed", "double", "text", True],
        [2.0, 7, "double", "text", True],  # without the widget that steers the seed
        [2.0, 7, "fixed", "double", "text", True, ""],  # with the trailing value of a DOM widget
        {"value": 2.0, "seed": 7, "mode": "double", "label": "text", "negate": True},
    ],
)
def test_widget_values_find_their_inputs(registry, values):
    found = widget_values(registry.nodes["ToyNumber"], values)
    assert found == {"value": 2.0, "seed": 7, "mode": "double", "label": "text", "negate": True}


def test_widgets_that_the_file_does_not_know_get_their_defaults(registry):
    found = widget_values(registry.nodes["ToyNumber"], [5.0])
    assert found == {"value": 5.0, "seed": 0, "mode": "plain", "label": "x", "negate": False}
    assert widget_values(registry.nodes["ToyNumber"], None)["value"] == 1.0


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_file_from_before_inputs_were_added_keeps_its_places(registry, count):
    saved = [2.0, 7, "randomize", "double", "text", True][:count]
    found = widget_values(registry.nodes["ToyNumber"], saved)
    whole = {"value": 2.0, "seed": 7, "mode": "double", "label": "text", "negate": False}
    defaults = {"mode": "plain", "label": "x"}
    known = {3: ["value", "seed"], 4: ["value", "seed", "mode"], 5: list(whole)}[count]
    assert found == {name: value if name in known else defaults.get(name, value) for name, value in whole.items()}


def test_values_of_inputs_that_lost_their_widget_are_skipped(registry):
    assert widget_values(registry.nodes["ToyAdd"], [0.25, 4.0]) == {"b": 4.0}
    assert widget_values(registry.nodes["ToyAdd"], [4.0]) == {"b": 4.0}


def test_an_upload_button_has_a_place_among_the_values(registry):
    assert widget_values(registry.nodes["LoadImage"], ["a.png", "image"]) == {"image": "a.png"}


def test_names_alone_are_enough(convert):
    named = {**box(1, "ToyNumber"), "widgets_values_named": {"value": 3.0, "seed": 1, "mode": "plain"}}
    assert convert([named, show(1)], [[1, 1, 0, 9, 0, "FLOAT"]])["1"]["inputs"]["value"] == 3.0


def test_an_input_that_an_old_editor_converted_from_a_widget_takes_its_link(convert):
    target = box(2, "ToyNumber", [("seed", "INT", 5, {"widget": {"name": "seed"}})], values=[1.0, 3, "fixed", "plain"])
    source = box(3, "ToyList", outputs=["INT"], values=[2])
    prompt = convert([target, source, show(6)], [[5, 3, 0, 2, 0, "INT"], [6, 2, 0, 9, 0, "FLOAT"]])
    assert prompt["2"]["inputs"]["seed"] == ["3", 0]
    assert prompt["2"]["inputs"]["mode"] == "plain"


def test_a_primitive_gives_its_value_wherever_it_leads(convert):
    primitive = {**box(3, "PrimitiveNode", outputs=["INT"], values=[42, "fixed"])}
    reroute = box(4, "Reroute", [("", "*", 7)], ["INT"])
    target = box(2, "ToyNumber", [("seed", "INT", 5, {"widget": {"name": "seed"}})], values=[1.0, 3, "fixed", "plain"])
    links = [[5, 4, 0, 2, 0, "INT"], [7, 3, 0, 4, 0, "INT"], [6, 2, 0, 9, 0, "FLOAT"]]
    prompt = convert([target, primitive, reroute, show(6)], links)
    assert prompt["2"]["inputs"]["seed"] == 42
    assert set(prompt) == {"2", "9"}


def test_lists_in_widgets_travel_wrapped(convert):
    prompt = convert([{**NUMBER, "widgets_values": [1.0, 0, "fixed", ["a", "b"], "", False]}, show(None)], [])
    assert prompt["1"]["inputs"]["mode"] == {"__value__": ["a", "b"]}


def test_titles_and_unknown_classes_are_kept(convert):
    prompt = convert([{**NUMBER, "title": "Mine"}, box(2, "Unknown", [("x", "FLOAT", 1)])], [[1, 1, 0, 2, 0, "FLOAT"]])
    assert prompt["1"]["_meta"] == {"title": "Mine"}
    assert prompt["2"] == {"inputs": {"x": ["1", 0]}, "class_type": "Unknown", "_meta": {"title": "Unknown"}}


def test_links_may_be_objects(convert):
    link = {"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 9, "target_slot": 0, "type": "FLOAT"}
    assert convert([NUMBER, show(1)], [link])["9"]["inputs"] == {"value": ["1", 0]}


def test_a_bypassed_node_without_a_fitting_input_gives_nothing(convert):
    bypassed = box(2, "ToyPass", [("image", "IMAGE", 3)], ["MASK", "IMAGE"], mode=4)
    prompt = convert([box(1, "ToyImage", outputs=["IMAGE"], values=[0.5, 8, 1]), bypassed,
                      box(5, "ToyPass", [("mask", "MASK", 4)], ["MASK", "IMAGE"])],
                     [[3, 1, 0, 2, 0, "IMAGE"], [4, 2, 0, 5, 1, "MASK"]])  # fmt: skip
    assert prompt["5"]["inputs"] == {}


def inside(nodes, links, inputs=(), outputs=("out",), name="sub"):
    return {"id": name, "name": name, "nodes": nodes, "links": links, "inputs": [{"name": n} for n in inputs],
            "outputs": [{"name": n} for n in outputs]}  # fmt: skip


def line(link_id, origin, slot, target, target_slot):
    return {"id": link_id, "origin_id": origin, "origin_slot": slot, "target_id": target, "target_slot": target_slot}


def test_a_line_straight_through_a_subgraph(convert):
    definition = inside([], [line(1, -10, 0, -20, 0)], ["x"])
    nodes = [NUMBER, box(2, "sub", [("x", "FLOAT", 1)], ["FLOAT"]), show(2)]
    prompt = convert(
        nodes, [[1, 1, 0, 2, 0, "FLOAT"], [2, 2, 0, 9, 0, "FLOAT"]], definitions={"subgraphs": [definition]}
    )
    assert prompt["9"]["inputs"] == {"value": ["1", 0]}


def test_a_negative_slot_at_the_border_of_a_subgraph_is_refused(convert):
    definition = inside([], [line(1, -10, -5, -20, 0)], ["x"])
    nodes = [NUMBER, box(2, "sub", [("x", "FLOAT", 1)], ["FLOAT"]), show(2)]
    links = [[1, 1, 0, 2, 0, "FLOAT"], [2, 2, 0, 9, 0, "FLOAT"]]
    with pytest.raises(WorkflowError, match="slot -5"):
        convert(nodes, links, definitions={"subgraphs": [definition]})


def test_a_negative_slot_behind_a_bypassed_node_is_refused(convert):
    bypassed = box(2, "ToyPass", [("image", "IMAGE", None)], ["IMAGE"], mode=4)
    with pytest.raises(WorkflowError, match="slot -9"):
        convert([bypassed, show(2)], [[2, 2, -9, 9, 0, "FLOAT"]])


@pytest.mark.parametrize(
    ("nodes", "links", "message"),
    [
        ([show(7)], [], r"node 9 \(ToyShow\): its input 'value' has link 7, which does not exist"),
        ([show(7)], [[7, 55, 0, 9, 0, "FLOAT"]], r"node 9 \(ToyShow\): its input 'value' is linked to node 55"),
        (
            [show(1), box(2, "Reroute", [("", "*", 2)]), box(3, "Reroute", [("", "*", 3)])],
            [[1, 2, 0, 9, 0, "*"], [2, 3, 0, 2, 0, "*"], [3, 2, 0, 3, 0, "*"]],
            "form a circle",
        ),
        ([{"id": 1}], [], "a node needs an id and a type"),
        ([{"id": 1, "type": 5}], [], "a node needs an id and a type"),
        (["x"], [], "'nodes' must be a list of objects"),
        ([NUMBER], [[1, 2]], "a link needs an id"),
        ([NUMBER], ["x"], "a link needs an id"),
        ([NUMBER], 5, "'links' must be a list"),
        ([{**NUMBER, "inputs": "x"}], [], r"'inputs of node 1 \(ToyNumber\)' must be a list"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(convert, nodes, links, message):
    with pytest.raises(WorkflowError, match=message):
        convert(nodes, links)


def test_a_subgraph_within_itself_is_refused(convert):
    definition = inside([box(1, "sub")], [])
    with pytest.raises(WorkflowError, match="more than 20 deep"):
        convert([box(1, "sub")], [], definitions={"subgraphs": [definition]})


def test_a_bomb_of_subgraphs_is_refused(convert):
    levels = [inside([box(i, f"s{depth + 1}") for i in range(10)], [], name=f"s{depth}") for depth in range(9)]
    levels.append(inside([box(i, "ToyNumber") for i in range(10)], [], name="s9"))
    with pytest.raises(WorkflowError, match="more than 20000 nodes"):
        convert([box(1, "s0")], [], definitions={"subgraphs": levels})


def test_a_proxy_loop_is_refused(convert):
    definition = inside([box(1, "Reroute", [("", "*", 1)])], [line(1, 1, 0, 1, 0), line(2, 1, 0, -20, 0)])
    with pytest.raises(WorkflowError, match="form a circle"):
        convert([box(2, "sub"), show(2)], [[2, 2, 0, 9, 0, "*"]], definitions={"subgraphs": [definition]})
