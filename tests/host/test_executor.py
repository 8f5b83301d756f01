"""What runs, in which order, what is cached, and what is told."""

from __future__ import annotations

import json
import math
import threading

import pytest

from host.execution.executor import Executor
from host.validation import validate


def number(node, value=1.0, **more):
    return node("ToyNumber", value=value, seed=0, mode="plain", **more)


def test_a_graph_runs_from_sources_to_outputs(play, node, calls):
    told = play({"3": node("ToyShow", value=["2", 0]), "2": node("ToyAdd", a=["1", 0], b=2.0), "1": number(node)})
    assert told.result.status == "success"
    assert told.texts == {"3": ["3.0"]}
    assert calls == ["ToyNumber", "ToyAdd", "ToyShow"]


def test_the_events_come_in_comfyuis_order_and_shapes(play, node):
    told = play({"1": number(node), "2": node("ToyShow", value=["1", 0])})
    assert [event for event, _ in told.events] == [
        "execution_start",
        "execution_cached",
        *["progress_state", "executing", "progress_state"],
        *["progress_state", "executing", "executed", "progress_state"],
        "execution_success",
    ]
    assert told.of("executing")[0] == {"node": "1", "display_node": "1", "prompt_id": "run-1"}
    output = {"text": ["1.0"], "number": [1.0]}
    assert told.of("executed") == [{"node": "2", "display_node": "2", "output": output, "prompt_id": "run-1"}]
    state = told.of("progress_state")[0]
    assert state == {
        "prompt_id": "run-1",
        "nodes": {
            "1": {
                "value": 0.0,
                "max": 1.0,
                "state": "running",
                "node_id": "1",
                "prompt_id": "run-1",
                "display_node_id": "1",
                "parent_node_id": None,
                "real_node_id": "1",
            }
        },
    }
    assert [event for event, _ in told.result.messages] == ["execution_start", "execution_cached", "execution_success"]
    assert all(isinstance(data["timestamp"], int) for _, data in told.result.messages)
    assert told.result.meta["2"] == {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}


def test_progress_is_told_step_by_step(play, node):
    told = play({"1": node("ToySteps", steps=3), "2": node("ToyShow", value=["1", 0])})
    assert told.of("progress") == [{"value": n, "max": 3, "prompt_id": "run-1", "node": "1"} for n in (1, 2, 3)]
    running = [state["nodes"]["1"] for state in told.of("progress_state") if "1" in state["nodes"]]
    assert [(state["value"], state["state"]) for state in running[:5]] == [
        (0.0, "running"),
        (1, "running"),
        (2, "running"),
        (3, "running"),
        (3, "finished"),
    ]


def test_what_has_not_changed_is_not_run_again(play, node, calls):
    def prompt(value, b):
        add = node("ToyAdd", a=["1", 0], b=b)
        return {"1": number(node, value), "2": add, "3": node("ToyShow", value=["2", 0])}

    play(prompt(1.0, 2.0))
    calls.clear()
    again = play(prompt(1.0, 2.0))
    assert calls == []
    assert again.of("execution_cached")[0]["nodes"] == ["1", "2", "3"]
    assert again.of("executed")[0]["output"] == {"text": ["3.0"], "number": [3.0]}  # told anew: a page needs it
    assert again.result.outputs == {"3": {"text": ["3.0"], "number": [3.0]}}
    assert play(prompt(1.0, 5.0)).texts == {"3": ["6.0"]}
    assert calls == ["ToyAdd", "ToyShow"]
    play(prompt(2.0, 5.0))
    assert calls == ["ToyAdd", "ToyShow", "ToyNumber", "ToyAdd", "ToyShow"]


def test_what_the_next_prompt_cannot_use_is_forgotten(play, node, calls):
    one, two = ({"1": number(node, v), "2": node("ToyShow", value=["1", 0])} for v in (1.0, 2.0))
    play(one)
    play(two)
    calls.clear()
    play(one)
    assert calls == ["ToyNumber", "ToyShow"]


def test_renaming_nodes_does_not_lose_the_cache(play, node, calls):
    play({"1": number(node), "2": node("ToyShow", value=["1", 0])})
    calls.clear()
    play({"a": number(node), "b": node("ToyShow", value=["a", 0])})
    assert calls == []


def test_a_node_that_always_changes_runs_always_with_all_behind_it(play, node, calls):
    prompt = {"1": node("ToyClock", value=1.0), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": number(node)}
    prompt |= {"4": node("ToyShow", value=["2", 0]), "5": node("ToyShow", value=["3", 0])}
    play(prompt)
    calls.clear()
    play(prompt)
    assert calls == ["ToyClock", "ToyAdd", "ToyShow"]


def test_free_forgets_everything(registry, folders, node, calls):
    executor = Executor(registry)
    checked = validate({"1": number(node), "2": node("ToyShow", value=["1", 0])}, registry)
    for _ in range(2):
        executor.run(checked.prompt, "x", checked.outputs, {}, lambda event, data: None, threading.Event())
        executor.free()
    assert calls == ["ToyNumber", "ToyShow"] * 2


def test_a_failing_node_is_named_and_finished_outputs_stay(play, node):
    prompt = {"1": number(node), "2": node("ToyShow", value=["1", 0]), "3": node("ToyFail", value=["1", 0])}
    prompt["4"] = node("ToyShow", value=["3", 0])
    told = play(prompt)
    assert told.result.status == "error"
    assert told.texts == {"2": ["1.0"]}
    event, data = told.events[-1]
    assert event == "execution_error"
    assert data | {"traceback": None, "timestamp": None} == {
        "prompt_id": "run-1",
        "node_id": "3",
        "node_type": "ToyFail",
        "executed": ["1", "2"],
        "exception_message": "toy cannot take 1.0\n",
        "exception_type": "ValueError",
        "traceback": None,
        "current_inputs": {"value": [1.0]},
        "current_outputs": ["1", "2", "3", "4"],
        "timestamp": None,
    }
    assert any("toy_nodes.py" in line for line in data["traceback"])
    assert told.result.messages[-1] == (event, data)
    assert (told.result.failure.node_id, told.result.failure.class_type) == ("3", "ToyFail")
    assert str(told.result.failure.exception) == "toy cannot take 1.0"


def test_after_an_error_the_next_run_uses_what_was_finished(play, node, calls):
    prompt = {"1": number(node), "2": node("ToyFail", value=["1", 0]), "3": node("ToyShow", value=["2", 0])}
    play(prompt)
    play(prompt)
    assert calls == ["ToyNumber"]


def test_cancelling_stops_at_the_next_step(play, node):
    cancel = threading.Event()
    steps = []

    def listen(event, data):
        if event == "progress":
            steps.append(data["value"])
            if data["value"] == 5:
                cancel.set()

    prompt = {"1": node("ToySteps", steps=1000), "2": node("ToyShow", value=["1", 0])}
    told = play(prompt, cancel=cancel, listen=listen)
    assert told.result.status == "interrupted"
    assert steps == [1, 2, 3, 4, 5]
    event, data = told.events[-1]
    assert event == "execution_interrupted"
    assert {**data, "timestamp": 0} == {
        "prompt_id": "run-1",
        "node_id": "1",
        "node_type": "ToySteps",
        "executed": [],
        "timestamp": 0,
    }
    assert play(prompt).result.status == "success"


def test_a_run_that_is_cancelled_before_it_begins_runs_nothing(play, node, calls):
    cancel = threading.Event()
    cancel.set()
    told = play({"1": node("ToyClock", value=1.0), "2": node("ToyShow", value=["1", 0])}, cancel=cancel)
    assert told.result.status == "interrupted"
    assert calls == []


def test_no_message_holds_nan(play, node):
    told = play({"1": number(node), "2": node("ToyMiddle", value=["1", 0]), "3": node("ToyShow", value=["2", 0])})
    assert told.result.outputs["2"] == {"curve": [[1.0, None, None]]}
    for _, data in told.events:
        json.dumps(data, allow_nan=False)


def test_a_cached_node_in_the_middle_shows_its_result_again_where_its_class_asks_for_it(play, node):
    prompt = {"1": number(node), "2": node("ToyMiddle", value=["1", 0]), "3": node("ToyShow", value=["2", 0])}
    play(prompt)
    told = play(prompt)
    assert [data["node"] for data in told.of("executed")] == ["3", "2"]
    assert told.result.outputs["2"] == {"curve": [[1.0, None, None]]}


def test_hidden_inputs_are_filled(play, node):
    told = play({"7": node("ToyHidden"), "8": number(node)}, extra_data={"extra_pnginfo": {"workflow": {"a": 1}}})
    assert told.result.outputs["7"] == {
        "nodes": [["7", "8"]],
        "extra": [{"workflow": {"a": 1}}],
        "id": ["7"],
        "has": [True],
    }


def test_history_is_written_before_the_last_event_is_sent(registry, folders, node):
    checked = validate({"1": number(node), "2": node("ToyShow", value=["1", 0])}, registry)
    log = []
    Executor(registry).run(
        checked.prompt,
        "x",
        checked.outputs,
        {},
        lambda event, data: log.append(event),
        threading.Event(),
        before_end=lambda result: log.append((result.status, result.messages[-1][0])),
    )
    assert log[-2:] == [("success", "execution_success"), "execution_success"]


@pytest.mark.parametrize(("wrong", "message"), [(None, "returned NoneType"), (3, "returned int")])
def test_a_node_that_returns_no_tuple_is_told_so(registry, play, node, monkeypatch, wrong, message):
    monkeypatch.setattr(registry.nodes["ToyAdd"], "run", lambda self, a, b: wrong)
    told = play({"1": number(node), "2": node("ToyAdd", a=["1", 0], b=0.0), "3": node("ToyShow", value=["2", 0])})
    assert message in told.events[-1][1]["exception_message"]


def test_a_long_chain_and_a_wide_graph_run_without_recursion(play, node):
    prompt = {"0": number(node)}
    prompt |= {str(i): node("ToyAdd", a=[str(i - 1), 0], b=1.0) for i in range(1, 1500)}
    told = play(prompt | {"show": node("ToyShow", value=["1499", 0])})
    assert math.isclose(float(told.texts["show"][0]), 1500.0)
