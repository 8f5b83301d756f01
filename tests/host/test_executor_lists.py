"""Lists, lazy inputs, async nodes, blockers and nodes that add nodes."""

from __future__ import annotations

import threading
import time

import pytest

from host import context


def test_a_list_maps_the_nodes_behind_it(play, node):
    prompt = {"1": node("ToyList", count=3), "2": node("ToyAdd", a=["1", 0], b=10.0)}
    told = play(prompt | {"3": node("ToyShow", value=["2", 0])})
    assert told.texts == {"3": ["10.0", "11.0", "12.0"]}


def test_the_shorter_list_repeats_its_last_element(play, node):
    prompt = {"1": node("ToyList", count=4), "2": node("ToyList", count=2)}
    prompt["3"] = node("ToyAdd", a=["1", 0], b=["2", 0])
    assert play(prompt | {"4": node("ToyShow", value=["3", 0])}).texts == {"4": ["0.0", "2.0", "3.0", "4.0"]}


def test_a_node_that_wants_lists_is_called_once(play, node):
    prompt = {"1": node("ToyList", count=4), "2": node("ToySum", values=["1", 0], scale=2.0)}
    assert play(prompt | {"3": node("ToyShow", value=["2", 0])}).texts == {"3": ["12.0"]}


def test_an_empty_list_is_refused_in_a_sentence(play, node):
    told = play({"1": node("ToyList", count=0), "2": node("ToyShow", value=["1", 0])})
    assert told.result.status == "error"
    assert "the input value got an empty list" in told.events[-1][1]["exception_message"]


@pytest.mark.parametrize(("first", "ran"), [(True, 1.0), (False, 2.0)])
def test_only_the_lazy_input_that_is_asked_for_is_computed(play, node, calls, first, ran):
    prompt = {str(i): node("ToyNumber", value=float(i), seed=0, mode="plain") for i in (1, 2)}
    prompt["3"] = node("ToySwitch", first=first, a=["1", 0], b=["2", 0])
    told = play(prompt | {"4": node("ToyShow", value=["3", 0])})
    assert told.texts == {"4": [str(ran)]}
    assert calls == ["ToyNumber", "ToyShow"]
    assert [data["node"] for data in told.of("executing")] == ["3", "1" if first else "2", "3", "4"]


def test_async_nodes_run_side_by_side(play, node, calls):
    prompt = {str(i): node("ToyAsync", value=float(i), seconds=0.2) for i in (1, 2)}
    prompt["3"] = node("ToyAdd", a=["1", 0], b=["2", 0])
    assert play(prompt | {"4": node("ToyShow", value=["3", 0])}).texts == {"4": ["3.0"]}
    assert {call.split()[-1] for call in calls[:2]} == {"begins"}
    assert sorted(calls[2:4]) == ["ToyAsync 1.0 ends", "ToyAsync 2.0 ends"]


def test_an_async_node_that_waits_can_be_cancelled(play, node):
    cancel = threading.Event()
    prompt = {"1": node("ToyAsync", value=1.0, seconds=60.0), "2": node("ToyShow", value=["1", 0])}
    timer = threading.Timer(0.2, cancel.set)
    timer.start()
    began = time.monotonic()
    assert play(prompt, cancel=cancel).result.status == "interrupted"
    assert time.monotonic() - began < 30


def test_an_async_node_that_is_mapped_gives_all_results_in_order(play, node):
    prompt = {"1": node("ToyList", count=3), "2": node("ToyAsync", value=["1", 0], seconds=0.01)}
    assert play(prompt | {"3": node("ToyShow", value=["2", 0])}).texts == {"3": ["0.0", "1.0", "2.0"]}


def test_a_silent_blocker_skips_what_is_behind_it(play, node, calls):
    prompt = {"1": node("ToyBlock", message=""), "2": node("ToyAdd", a=["1", 0], b=1.0)}
    told = play(prompt | {"3": node("ToyShow", value=["2", 0])})
    assert told.result.status == "success"
    assert told.result.outputs == {}
    assert "ToyShow" not in calls


def test_a_blocker_with_a_message_tells_it_once(play, node):
    prompt = {"1": node("ToyBlock", message="not today"), "2": node("ToyAdd", a=["1", 0], b=1.0)}
    told = play(prompt | {"3": node("ToyShow", value=["2", 0])})
    assert told.result.status == "success"
    assert [data["exception_message"] for data in told.of("execution_error")] == ["Execution Blocked: not today"]


def test_a_node_may_become_other_nodes(play, node, calls):
    prompt = {"1": node("ToyNumber", value=1.0, seed=0, mode="plain"), "2": node("ToyExpand", value=["1", 0])}
    prompt["3"] = node("ToyShow", value=["2", 0])
    told = play(prompt)
    assert told.texts == {"3": ["12.0"]}
    inner = [data for data in told.of("executing") if data["node"].startswith("2.")]
    assert [(data["node"], data["display_node"]) for data in inner] == [("2.0.0.1", "2"), ("2.0.0.2", "2")]
    calls.clear()
    assert play(prompt).texts == {"3": ["12.0"]}
    assert calls == []


def test_added_nodes_are_cached_as_long_as_their_maker_is_queued(play, node, calls):
    def prompt(b):
        head = {"1": node("ToyNumber", value=1.0, seed=0, mode="plain"), "2": node("ToyAdd", a=["1", 0], b=b)}
        return head | {"3": node("ToyExpand", value=["2", 0]), "4": node("ToyShow", value=["3", 0])}

    play(prompt(0.0))
    calls.clear()
    assert play(prompt(1.0)).texts == {"4": ["13.0"]}
    assert calls == ["ToyAdd", "ToyAdd", "ToyAdd", "ToyShow"]


def test_an_expansion_that_leads_nowhere_is_an_error_of_its_node(registry, play, node, monkeypatch):
    prompt = {"1": node("ToyNumber", value=1.0, seed=0, mode="plain"), "2": node("ToyExpand", value=["1", 0])}
    prompt["3"] = node("ToyShow", value=["2", 0])
    added = {"class_type": "ToyAdd", "inputs": {"a": ["nowhere", 0], "b": 1.0}}
    for graph, result, message in (
        ({"x": added}, ["x", 0], "linked to node nowhere, which does not exist"),
        ({}, ["y", 0], "linked to node y, which does not exist"),
        ({"x": {"class_type": "Nope", "inputs": {}}}, ["x", 0], "unknown class 'Nope'"),
    ):
        expansion = {"expand": graph, "result": (result,)}
        monkeypatch.setattr(registry.nodes["ToyExpand"], "run", lambda self, value, own, e=expansion: e)
        told = play(prompt)
        assert told.result.failure.node_id == "2"
        assert message in str(told.result.failure.exception)


def test_an_error_in_an_added_node_is_told_of_the_queued_node(registry, play, node, monkeypatch):
    def fail(self, a, b):
        raise ArithmeticError("no")

    monkeypatch.setattr(registry.nodes["ToyAdd"], "run", fail)
    prompt = {"1": node("ToyNumber", value=1.0, seed=0, mode="plain"), "2": node("ToyExpand", value=["1", 0])}
    told = play(prompt | {"3": node("ToyShow", value=["2", 0])})
    assert told.result.failure.node_id == "2"
    assert told.events[-1][1]["node_type"] == "ToyExpand"


def test_outside_of_a_run_a_node_reports_to_nobody():
    context.progress(1, 2)
    context.check_cancelled()
    assert context.current() is None


def test_previews_come_with_the_ids_of_the_node(registry, play, node, monkeypatch):
    picture = object()

    def run(self, steps):
        context.progress(1, steps, ("PNG", picture, 64))
        context.progress(2, steps, picture)
        return (1.0,)

    monkeypatch.setattr(registry.nodes["ToySteps"], "run", run)
    told = play({"1": node("ToySteps", steps=2), "2": node("ToyShow", value=["1", 0])})
    ids = {"node_id": "1", "prompt_id": "run-1", "display_node_id": "1", "parent_node_id": None, "real_node_id": "1"}
    assert told.of("preview") == [
        {**ids, "format": "PNG", "image": picture, "max_size": 64},
        {**ids, "format": "JPEG", "image": picture, "max_size": None},
    ]
