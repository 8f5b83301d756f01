"""The event stream of a run: order, shapes, who hears it, previews."""

from __future__ import annotations

import io
import json
import time
import urllib.parse
import urllib.request
import uuid

import pytest
import websocket
from PIL import Image

from tests.server.support import FLAGS, failing_graph, graph


def run(server, prompt, flags=FLAGS):
    """Events and history of one run."""
    socket = server.socket(flags=flags)
    prompt_id = server.submit(prompt, socket.sid)
    events = socket.run_of(prompt_id)
    socket.close()
    return prompt_id, [event for event in events if event[0] != "status"]


def names(events):
    """Event names with runs of the same kind of progress drawn together."""
    kinds = ["progress" if kind in ("progress", "progress_state", "preview") else kind for kind, _ in events]
    return [kind for i, kind in enumerate(kinds) if i == 0 or kind != "progress" or kinds[i - 1] != kind]


def test_the_first_frame_tells_the_client_its_name_and_the_queue(server):
    socket = server.socket("my-sid")
    kind, data = socket.next()
    assert (kind, data["sid"]) == ("status", "my-sid")
    assert data["status"] == {"exec_info": {"queue_remaining": 0}}
    socket.close()


def test_a_client_without_a_name_gets_one(server):
    connection = websocket.create_connection(server.address.replace("http", "ws") + "/ws", timeout=10)
    assert len(json.loads(connection.recv())["data"]["sid"]) == 32
    connection.close()


def test_features_are_exchanged(server):
    socket = server.socket(flags=FLAGS)
    kind, data = socket.events[-1]
    assert kind == "feature_flags"
    assert data == server.get("/features").json
    assert data["supports_preview_metadata"] is True and data["max_upload_size"] > 0
    socket.close()


def test_order_of_a_run(server):
    prompt_id, events = run(server, graph(0.11))
    kinds = names(events)
    assert kinds[:2] == ["execution_start", "execution_cached"]
    assert kinds[-3:] == ["executed", "progress", "execution_success"] or kinds[-2:] == [
        "execution_success",
        "executing",
    ]
    assert [data["node"] for kind, data in events if kind == "executing"] == ["1", "2", "3", None]
    assert [data["value"] for kind, data in events if kind == "progress"] == [1, 2, 3]
    assert events[-2][0] == "execution_success" and events[-1] == (
        "executing",
        {"node": None, "prompt_id": prompt_id},
    )


def test_shapes_of_a_run(server):
    prompt_id, events = run(server, graph(0.12))
    first = {}
    for kind, data in events:
        first.setdefault(kind, data)
    assert set(first["execution_start"]) == {"prompt_id", "timestamp"}
    assert set(first["execution_cached"]) == {"nodes", "prompt_id", "timestamp"}
    assert set(first["executing"]) == {"node", "display_node", "prompt_id"}
    assert set(first["progress"]) == {"value", "max", "prompt_id", "node"}
    assert set(first["executed"]) == {"node", "display_node", "output", "prompt_id"}
    state = first["progress_state"]["nodes"]["1"]
    assert set(state) == {
        "value", "max", "state", "node_id", "prompt_id", "display_node_id", "parent_node_id", "real_node_id"
    }  # fmt: skip
    picture = first["executed"]["output"]["images"][0]
    assert set(picture) == {"filename", "subfolder", "type"} and picture["type"] == "output"


def test_history_is_there_when_the_client_is_told(server):
    socket = server.socket(flags=FLAGS)
    for level in (0.21, 0.22, 0.23):
        prompt_id = server.submit(graph(level), socket.sid)
        socket.until(lambda event: event[0] == "execution_success")
        assert server.get(f"/history/{prompt_id}").json[prompt_id]["status"]["completed"] is True
    socket.close()


def test_a_repeated_run_shows_its_cached_output_again(server):
    run(server, graph(0.31))
    prompt_id, events = run(server, graph(0.31))
    cached = next(data for kind, data in events if kind == "execution_cached")
    assert set(cached["nodes"]) == {"1", "2", "3"}
    assert [data["node"] for kind, data in events if kind == "executed"] == ["3"]
    assert server.finished(prompt_id)["outputs"]["3"]["images"]


@pytest.mark.parametrize("flags, kind", [(FLAGS, 4), ({}, 1), (None, 1)])
def test_previews_in_the_encoding_that_the_client_knows(server, flags, kind):
    prompt_id, events = run(server, graph(0.4 + kind / 100, mark=str(uuid.uuid4())), flags)
    previews = [data for name, data in events if name == "preview"]
    assert [preview["type"] for preview in previews] == [kind] * 3
    assert Image.open(io.BytesIO(previews[0]["image"])).size == (16, 16)
    if kind == 4:
        assert previews[0]["metadata"] == {
            "node_id": "2", "display_node_id": "2", "parent_node_id": None, "real_node_id": "2",
            "prompt_id": prompt_id, "image_type": "image/jpeg",
        }  # fmt: skip


def test_a_node_that_raises(server):
    prompt_id, events = run(server, failing_graph())
    error = next(data for kind, data in events if kind == "execution_error")
    assert (error["node_id"], error["node_type"], error["exception_type"]) == ("2", "ToyFail", "ValueError")
    assert "on purpose" in error["exception_message"] and error["traceback"]
    assert set(error) >= {"prompt_id", "executed", "current_inputs", "current_outputs", "timestamp"}
    entry = server.finished(prompt_id)
    assert entry["status"]["status_str"] == "error" and entry["status"]["completed"] is False
    assert server.get(f"/jobs/{prompt_id}").json["status"] == "failed"


def test_numbers_that_are_not_finite_arrive_as_null(server):
    prompt = {"1": {"class_type": "ToyShow", "inputs": {"value": 2.0}}}
    prompt_id, events = run(server, prompt)  # the socket helper refuses NaN
    shown = next(data for kind, data in events if kind == "executed")
    assert shown["output"] == {"toy_numbers": [2.0, None]}
    assert server.finished(prompt_id)["outputs"]["1"] == {"toy_numbers": [2.0, None]}


def test_interrupt_stops_the_running_prompt(server):
    socket = server.socket(flags=FLAGS)
    prompt_id = server.submit(graph(0.5, steps=10_000, seconds=0.01), socket.sid)
    socket.until(lambda event: event[0] == "progress")
    assert server.post("/interrupt", {"prompt_id": str(uuid.uuid4())}).status == 200  # another one: no effect
    socket.until(lambda event: event[0] == "progress" and event[1]["value"] > 3)
    assert server.post("/interrupt").status == 200
    events = socket.run_of(prompt_id)
    stopped = next(data for kind, data in events if kind == "execution_interrupted")
    assert (stopped["node_id"], stopped["node_type"]) == ("2", "ToySteps")
    assert server.get(f"/jobs/{prompt_id}").json["status"] == "cancelled"
    socket.close()


def test_an_interrupt_does_not_leak_into_the_next_prompt(server):
    assert server.post("/interrupt").status == 200
    assert server.finished(server.submit(graph(0.51)))["status"]["completed"] is True


def test_only_the_initiator_hears_of_its_run_and_all_hear_the_status(server):
    one, other = server.socket(flags=FLAGS), server.socket(flags=FLAGS)
    prompt_id = server.submit(graph(0.61), one.sid)
    one.run_of(prompt_id)
    other.until(lambda event: event == ("status", {"status": {"exec_info": {"queue_remaining": 0}}}))
    assert {kind for kind, _ in other.events} <= {"status", "feature_flags"}
    one.close(), other.close()


def test_a_client_that_comes_back_hears_the_rest_of_its_run(server):
    first = server.socket("comes-back", FLAGS)
    prompt_id = server.submit(graph(0.71, steps=60, seconds=0.02), first.sid)
    first.until(lambda event: event[0] == "progress")
    second = server.socket("comes-back", FLAGS)
    assert ("executing", {"node": "2", "display_node": "2", "prompt_id": prompt_id}) in second.events
    first.close()  # the old socket goes after the new one has come
    assert "execution_success" in [kind for kind, _ in second.run_of(prompt_id)]
    second.close()


def test_two_runs_do_not_mix(server):
    socket = server.socket(flags=FLAGS)
    ids = [server.submit(graph(0.8 + i / 100), socket.sid) for i in range(3)]
    for prompt_id in ids:
        events = socket.run_of(prompt_id)
        assert {data["prompt_id"] for kind, data in events if kind == "executing"} == {prompt_id}
    socket.close()


def test_status_counts_down_to_zero(server):
    socket = server.socket(flags=FLAGS)
    ids = [server.submit(graph(0.9 + i / 100), socket.sid) for i in range(3)]
    for prompt_id in ids:
        socket.run_of(prompt_id)
    counts = [data["status"]["exec_info"]["queue_remaining"] for kind, data in socket.events if kind == "status"]
    assert counts[-1] == 0 and max(counts) >= 1
    socket.close()


def test_a_program_without_a_socket_polls(server):
    """No client_id, no content type, no library."""
    prompt_id = server.submit(graph(0.99))
    assert server.finished(prompt_id)["status"]["status_str"] == "success"
    end = time.monotonic() + 10
    while server.get("/prompt").json != {"exec_info": {"queue_remaining": 0}}:
        assert time.monotonic() < end


def test_the_pattern_of_the_oldest_clients(server):
    """ComfyUI's example: wait for ``executing`` with no node, then fetch what the history names."""
    client_id, prompt_id = str(uuid.uuid4()), str(uuid.uuid4())
    connection = websocket.WebSocket()
    connection.connect(f"{server.address.replace('http', 'ws')}/ws?clientId={client_id}")
    body = json.dumps({"prompt": graph(0.314), "client_id": client_id, "prompt_id": prompt_id}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.address}/prompt", data=body)) as answer:
        assert json.loads(answer.read())["prompt_id"] == prompt_id
    while True:
        message = connection.recv()
        if isinstance(message, str) and json.loads(message)["type"] == "executing":
            data = json.loads(message)["data"]
            if data["node"] is None and data["prompt_id"] == prompt_id:
                break
    connection.close()
    with urllib.request.urlopen(f"{server.address}/history/{prompt_id}") as answer:
        history = json.loads(answer.read())[prompt_id]
    pictures = [picture for output in history["outputs"].values() for picture in output["images"]]
    with urllib.request.urlopen(f"{server.address}/view?{urllib.parse.urlencode(pictures[0])}") as answer:
        assert Image.open(io.BytesIO(answer.read())).size == (32, 16)
