"""Whatever a node shows, the lists stay readable for the page, which checks every field of every job.

The checks below are those of the frontend's own schema for a job.
"""

from __future__ import annotations

import json

import hypothesis.strategies as st
from hypothesis import given, settings

from host.server.jobs.job import STATUSES, Job, Result
from host.server.jobs.views import job_detail, job_item, summarise
from host.strict_json import jsonable

ERROR = {
    "node_id": "2", "node_type": "X", "exception_message": "m", "exception_type": "E", "traceback": ["t"],
    "timestamp": 5, "executed": [],
}  # fmt: skip
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("output"))
items = st.one_of(
    plain,
    st.text(min_size=1020, max_size=1030),
    st.dictionaries(
        st.sampled_from(["filename", "subfolder", "type", "format", "content", "display_name", "mediaType", "nodeId"]),
        st.one_of(
            plain, st.sampled_from(["a.png", "b.TXT", "c.glb", "video/mp4", "temp"]), st.lists(plain, max_size=1)
        ),
    ),
)
shown = st.dictionaries(
    st.sampled_from(["images", "text", "animated", "video", "plot"]),
    st.one_of(st.lists(items, max_size=4), plain),
    max_size=3,
)
outputs = st.dictionaries(st.sampled_from(["1", "2", "4:2"]), st.one_of(shown, plain), max_size=3)


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def assert_readable(item: dict) -> None:
    assert isinstance(item["id"], str) and item["status"] in STATUSES and is_number(item["create_time"])
    for name in ("execution_start_time", "execution_end_time", "priority"):
        assert name not in item or is_number(item[name])
    for name in ("outputs_count", "previewable_outputs_count"):
        assert type(item[name]) is int and item[name] >= 0
    preview = item.get("preview_output")
    if preview is not None:
        assert isinstance(preview["nodeId"], str) and isinstance(preview["mediaType"], str)
        assert preview.get("type", "output") in ("input", "output", "temp")
        for name in ("filename", "subfolder", "content", "display_name"):
            assert isinstance(preview.get(name, ""), str)
    error = item.get("execution_error")
    if error is not None:
        assert all(isinstance(error[name], str) for name in ("node_id", "node_type", "exception_message"))


@settings(max_examples=150, deadline=None, database=None)
@given(outputs=outputs, failed=st.booleans(), times=st.booleans())
def test_a_job_can_always_be_read(outputs, failed, times):
    messages = [["execution_start", {"timestamp": 1}]] if times else []
    messages.append(["execution_error", ERROR] if failed else ["execution_success", {"timestamp": 3}])
    result = Result("failed" if failed else "completed", jsonable(outputs), {}, messages)
    stored = json.dumps({"outputs": result.outputs, "meta": {}, "messages": messages})
    job = Job("id", 0, result.status, 1, 2, 3, None, summarise(result), "{}", "{}", "[]", stored)
    assert_readable(job_item(job))
    detail = json.loads("".join(job_detail(job)))
    assert_readable(detail)
    assert detail["outputs"] == result.outputs and detail["workflow"] == {"prompt": {}, "extra_data": {}}


def preview_of(outputs: dict) -> dict | None:
    return summarise(Result("completed", outputs))["preview_output"]


def test_saved_pictures_come_before_temporary_ones_before_texts():
    picture, temporary = {"filename": "a.png", "type": "output"}, {"filename": "b.png", "type": "temp"}
    outputs = {"1": {"text": ["hello"]}, "2": {"images": [temporary]}, "3": {"images": [picture]}}
    assert preview_of(outputs)["filename"] == "a.png"
    del outputs["3"]
    assert preview_of(outputs)["filename"] == "b.png"
    del outputs["2"]
    assert preview_of(outputs) == {"content": "hello", "nodeId": "1", "mediaType": "text"}
    assert preview_of({"1": {"text": ["x" * 2000]}})["truncated"] is True
    assert preview_of({"1": {"plot": [{"points": [1]}]}}) is None


def test_what_is_counted():
    outputs = {"1": {"images": [{"filename": "a.png"}] * 2, "animated": [True], "data": [{"x": 1}], "text": ["t"]}}
    summary = summarise(Result("completed", outputs))
    assert (summary["outputs_count"], summary["previewable_outputs_count"]) == (3, 2)
