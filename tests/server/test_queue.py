"""Prompts in, queue, jobs and history out: status codes and JSON shapes."""

from __future__ import annotations

import uuid

import pytest

from tests.server.support import editor_workflow, failing_graph, graph


def error_of(server, body):
    """Status and error type of a refused prompt."""
    answer = server.post("/prompt", body)
    assert set(answer.json) == {"error", "node_errors"}, answer.body
    assert set(answer.json["error"]) == {"type", "message", "details", "extra_info"}
    return answer.status, answer.json["error"]["type"]


@pytest.fixture
def busy(server):
    """A host that is busy with one long prompt; its id."""
    prompt_id = server.submit(graph(0.5, steps=100_000, seconds=0.01))
    server.wait(lambda: server.get("/queue").json["queue_running"])
    yield prompt_id
    server.post("/queue", {"clear": True})
    server.post("/interrupt")
    server.finished(prompt_id)


def test_prefix_or_none(server):
    for path in ("/queue", "/history?max_items=1", "/jobs?limit=1", "/object_info", "/features", "/users"):
        assert server.get(path).json == server.get("/api" + path).json


def test_an_accepted_prompt(server):
    answer = server.post("/api/prompt", {"prompt": graph(0.101)})
    assert answer.status == 200 and set(answer.json) == {"prompt_id", "number", "node_errors"}
    assert str(uuid.UUID(answer.json["prompt_id"])) == answer.json["prompt_id"]
    assert isinstance(answer.json["number"], int) and answer.json["node_errors"] == {}
    later = server.post("/prompt", {"prompt": graph(0.102)}).json
    assert later["number"] > answer.json["number"]


@pytest.mark.parametrize(
    "change, kind",
    [
        ({"prompt": None}, "invalid_prompt"),
        ({"prompt": []}, "invalid_prompt"),
        ({"prompt": {}}, "prompt_no_outputs"),
        ({"prompt": {"1": {"class_type": "NoSuchNode", "inputs": {}}}}, "missing_node_type"),
        ({"prompt": {"1": {"inputs": {}}}}, "missing_node_type"),
        ({"prompt": {"1": 5}}, "invalid_prompt"),
        ({"prompt_id": "not-a-uuid"}, "invalid_prompt_id"),
        ({"prompt_id": 7}, "invalid_prompt_id"),
        ({"prompt_id": str(uuid.uuid4()).upper()}, "invalid_prompt_id"),
        ({"partial_execution_targets": []}, "prompt_no_outputs"),
    ],
)
def test_refused_prompts(server, change, kind):
    assert error_of(server, {"prompt": graph(), **change}) == (400, kind)


def test_no_prompt(server):
    assert error_of(server, {}) == (400, "no_prompt")


@pytest.mark.parametrize(
    "change",
    [
        {"extra_data": 5},
        {"client_id": 5},
        {"client_id": "x" * 1000},
        {"number": "abc"},
        {"number": None},
        {"number": [1]},
        {"partial_execution_targets": "3"},
    ],
)
def test_malformed_requests_are_refused_in_one_shape(server, change):
    answer = server.post("/prompt", {"prompt": graph(), **change})
    assert answer.status == 400 and "error" in answer.json


def test_a_bad_value_is_reported_on_its_node(server):
    prompt = graph()
    prompt["1"]["inputs"]["width"] = 4
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status == 400
    assert answer.json["error"]["type"] == "prompt_outputs_failed_validation"
    node = answer.json["node_errors"]["1"]
    assert node["class_type"] == "ToyPicture" and node["dependent_outputs"] == ["3"]
    assert node["errors"][0]["type"] == "value_smaller_than_min"
    assert node["errors"][0]["extra_info"]["input_name"] == "width"


def test_good_outputs_run_beside_bad_ones(server):
    prompt = {**graph(0.131), "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status == 200 and set(answer.json["node_errors"]) == {"9"}
    assert set(server.finished(answer.json["prompt_id"])["outputs"]) == {"3"}


def test_partial_execution(server):
    prompt = {**graph(0.132), "4": {"class_type": "ToyShow", "inputs": {"value": 1.0}}}
    prompt_id = server.submit(prompt, partial_execution_targets=["4"])
    assert set(server.finished(prompt_id)["outputs"]) == {"4"}


def test_a_prompt_id_is_used_once(server):
    prompt_id = str(uuid.uuid4())
    assert server.submit(graph(0.133), prompt_id=prompt_id) == prompt_id
    assert error_of(server, {"prompt": graph(0.134), "prompt_id": prompt_id}) == (400, "prompt_id_in_use")
    server.finished(prompt_id)


def test_secrets_of_the_page_are_not_kept(server):
    prompt_id = server.submit(graph(0.135), extra_data={"auth_token_comfy_org": "secret", "note": "kept"})
    extra = server.finished(prompt_id)["prompt"][3]
    assert "auth_token_comfy_org" not in extra and extra["note"] == "kept"


def test_history_entry(server):
    prompt = graph(0.141)
    prompt_id = server.submit(prompt, "some-client")
    entry = server.finished(prompt_id)
    assert set(entry) == {"prompt", "outputs", "meta", "status"}
    number, same_id, same_prompt, extra, outputs = entry["prompt"]
    assert (same_id, same_prompt, outputs) == (prompt_id, prompt, ["3"])
    assert extra["client_id"] == "some-client" and isinstance(extra["create_time"], int)
    assert [event for event, _ in entry["status"]["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert entry["meta"]["3"]["node_id"] == "3"


def test_history_is_cut_and_ordered(server):
    ids = [server.submit(graph(0.15 + i / 1000)) for i in range(4)]
    server.finished(ids[-1])
    assert list(server.get("/history?max_items=2").json) == ids[-2:]
    everything = list(server.get("/history").json)
    assert everything[-4:] == ids
    assert list(server.get(f"/history?max_items=3&offset={len(everything) - 4}").json) == ids[:3]
    assert server.get("/history/unknown").json == {}
    assert server.get("/history?max_items=abc").status == 400


def test_history_can_be_forgotten(server):
    keep, drop = server.submit(graph(0.161)), server.submit(graph(0.162))
    server.finished(drop)
    assert server.post("/history", {"delete": [drop]}).status == 200
    assert server.get(f"/history/{drop}").json == {} and server.get(f"/history/{keep}").json != {}
    assert server.post("/history", {"clear": True}).status == 200
    assert server.get("/history").json == {}


def test_the_queue_while_busy(server, busy):
    waiting = [server.submit(graph(0.17 + i / 1000)) for i in range(3)]
    urgent = server.submit(graph(0.174), front=True)
    placed = server.submit(graph(0.175), number=-1e9)
    queue = server.get("/queue").json
    assert [entry[1] for entry in queue["queue_running"]] == [busy]
    assert [entry[1] for entry in queue["queue_pending"]] == [placed, urgent, *waiting]
    assert all(len(entry) == 5 for entry in queue["queue_pending"])
    assert server.get("/prompt").json["exec_info"]["queue_remaining"] == 6
    server.post("/queue", {"delete": [waiting[1], "unknown", busy]})
    left = [entry[1] for entry in server.get("/queue").json["queue_pending"]]
    assert left == [placed, urgent, waiting[0], waiting[2]]
    server.post("/queue", {"clear": True})
    assert server.get("/queue").json["queue_pending"] == []
    assert server.get("/jobs?status=in_progress").json["jobs"][0]["id"] == busy


def test_cancelling_jobs(server, busy):
    one, two = server.submit(graph(0.181)), server.submit(graph(0.182))
    assert server.post(f"/api/jobs/{one}/cancel").json == {"cancelled": True}
    assert server.post(f"/api/jobs/{one}/cancel").json == {"cancelled": False}
    assert server.post("/api/jobs/cancel", {"job_ids": [one, two, busy]}).json == {"cancelled": True}
    assert server.finished(busy)["status"]["status_str"] == "error"
    assert server.get(f"/jobs/{two}").status == 404
    for wrong in ({}, {"job_ids": "x"}, {"job_ids": ["not-a-uuid"]}, {"job_ids": [{}]}, []):
        assert server.post("/api/jobs/cancel", wrong).status == 400


def test_the_shape_of_a_job(server):
    """The frontend checks every field: one of a wrong type empties its panels."""
    extra = {"extra_pnginfo": {"workflow": editor_workflow()}}
    prompt_id = server.submit(graph(0.191), extra_data=extra)
    server.finished(prompt_id)
    listed = server.get("/jobs?status=completed&limit=1").json
    item = listed["jobs"][0]
    assert item["id"] == prompt_id and item["status"] == "completed"
    for name in ("create_time", "execution_start_time", "execution_end_time", "outputs_count"):
        assert isinstance(item[name], int), name
    assert item["create_time"] <= item["execution_start_time"] <= item["execution_end_time"]
    assert item["outputs_count"] == item["previewable_outputs_count"] == 1
    assert item["workflow_id"] == editor_workflow()["id"]
    preview = item["preview_output"]
    assert set(preview) == {"filename", "subfolder", "type", "nodeId", "mediaType"}
    assert (preview["nodeId"], preview["mediaType"], preview["type"]) == ("3", "images", "output")
    assert None not in item.values()
    assert set(listed["pagination"]) == {"offset", "limit", "total", "has_more"}
    detail = server.get(f"/jobs/{prompt_id}").json
    assert {name: detail[name] for name in item} == item
    assert detail["workflow"]["extra_data"]["extra_pnginfo"] == extra["extra_pnginfo"]
    assert detail["outputs"]["3"]["images"][0]["filename"] == preview["filename"]
    assert detail["execution_status"]["completed"] is True


def test_a_failed_job_says_why(server):
    prompt_id = server.submit(failing_graph())
    server.finished(prompt_id)
    item = next(job for job in server.get("/jobs?status=failed").json["jobs"] if job["id"] == prompt_id)
    error = item["execution_error"]
    assert error["node_id"] == "2" and error["node_type"] == "ToyFail" and isinstance(error["traceback"], list)
    assert item["outputs_count"] == 0 and "preview_output" not in item


def test_jobs_are_filtered_sorted_and_cut(server):
    ids = [server.submit(graph(0.195 + i / 10000)) for i in range(3)]
    server.finished(ids[-1])
    assert [job["id"] for job in server.get("/jobs?limit=3").json["jobs"]] == ids[::-1]
    up = server.get("/jobs?sort_order=asc&limit=1000").json
    assert [job["id"] for job in up["jobs"]][-3:] == ids
    total = up["pagination"]["total"]
    assert server.get(f"/jobs?limit=2&offset={total - 1}").json["pagination"] == {
        "offset": total - 1, "limit": 2, "total": total, "has_more": False
    }  # fmt: skip
    assert server.get("/jobs?status=pending,in_progress").json["jobs"] == []
    assert server.get("/jobs?sort_by=execution_duration&status=completed").status == 200
    for wrong in ("status=nope", "limit=0", "limit=x", "offset=x", "sort_by=x", "sort_order=x"):
        assert server.get(f"/jobs?{wrong}").status == 400
    assert server.get("/jobs/unknown").status == 404


def test_free_drops_cached_results(server):
    first = server.submit(graph(0.1991))
    server.finished(first)
    assert server.post("/free", {"unload_models": True, "free_memory": True}).status == 200
    entry = server.finished(server.submit(graph(0.1991)))
    assert entry["status"]["messages"][1][1]["nodes"] == []
