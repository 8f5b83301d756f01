"""The same client against this host and the real ComfyUI: the same events, the same answers.

The toy pack runs in both. Names that are made up anew in each run (ids, times, numbers of files) are levelled out, and
nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.support import (
    FLAGS,
    Client,
    HostProcess,
    editor_workflow,
    failing_graph,
    graph,
    make_pack,
)

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(not os.environ.get("COMFYUI_PATH"), reason="COMFYUI_PATH names no ComfyUI checkout"),
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def ours(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    host = HostProcess(tmp_path_factory.mktemp("data"), [toy])
    yield host
    host.stop()


@pytest.fixture(scope="module")
def real(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """ComfyUI with the toy pack."""
    path = Path(os.environ["COMFYUI_PATH"]).resolve()
    own = path / ".venv/bin/python"
    python = os.environ.get("COMFYUI_PYTHON") or (str(own) if own.exists() else "python3")
    base = tmp_path_factory.mktemp("comfyui")
    shutil.copytree(toy, base / "custom_nodes/toy")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "main.py", "--cpu", "--port", str(port), "--base-directory", str(base)]
    with (base / "log.txt").open("w") as log:
        process = subprocess.Popen([*command, "--disable-api-nodes"], cwd=path, stdout=log, stderr=log)
    client = Client(f"http://127.0.0.1:{port}")
    try:
        _wait_until_up(client, process, base / "log.txt")
        yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_up(client: Client, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 240
    while True:
        try:
            client.get("/system_stats")
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.5)


def level(value, prompt_id: str):
    """``value`` without what differs from run to run."""
    if isinstance(value, dict):
        return {
            key: 0 if key in ("timestamp", "create_time") else level(item, prompt_id) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [level(item, prompt_id) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return re.sub(r"_\d{5}_|temp_[a-z]{5}", "#", value.replace(prompt_id, "ID"))
    return value


# What ComfyUI has come to say since 0.3.64; this host says it always.
NEWER = {"create_time", "is_input_list", "has_intermediate_output", "search_aliases"}


def as_old_as(ours, real):
    """``ours`` without the newer keys that the real one does not know."""
    if isinstance(ours, dict) and isinstance(real, dict):
        return {key: as_old_as(item, real.get(key)) for key, item in ours.items() if key in real or key not in NEWER}
    if isinstance(ours, list) and isinstance(real, list) and len(ours) == len(real):
        return [as_old_as(*pair) for pair in zip(ours, real, strict=True)]
    return ours


def stream(client: Client, prompt: dict, flags: dict | None = FLAGS) -> tuple[str, list]:
    """The events of a run, levelled; previews without their pictures."""
    connection = client.socket(flags=flags)
    prompt_id = client.submit(prompt, connection.sid)
    events = connection.run_of(prompt_id)
    connection.close()
    return prompt_id, tidy(events, prompt_id)


def tidy(events: list, prompt_id: str) -> list:
    found = []
    for kind, data in events:
        if kind == "preview":
            data = {key: value for key, value in data.items() if key != "image"}
        if kind not in ("status", "crystools.monitor"):
            found.append((kind, level(data, prompt_id)))
    return found


def by_kind(events: list, *kinds: str) -> list:
    return [event for event in events if event[0] in kinds]


PROGRESS = ("progress", "progress_state", "preview")


def assert_same_stream(ours: list, real: list) -> None:
    """Steps of progress come in another order among themselves; everything else in the same."""
    steady = [[event for event in events if event[0] not in PROGRESS] for events in (ours, real)]
    assert steady[0] == steady[1]
    for kind in ("progress", "preview"):
        assert by_kind(ours, kind) == by_kind(real, kind)
    last = [by_kind(events, "progress_state")[-1] for events in (ours, real)]
    assert last[0] == last[1]
    assert _shape(ours) == _shape(real)


def _shape(events: list) -> list[str]:
    """Kinds of events in order, each stretch of progress as one."""
    kinds = ["progress" if kind in PROGRESS else kind for kind, _ in events]
    return [kind for i, kind in enumerate(kinds) if i == 0 or kind != "progress" or kinds[i - 1] != "progress"]


@pytest.mark.parametrize("flags", [FLAGS, {}, None], ids=["metadata", "no flags", "silent"])
def test_a_run_and_the_same_run_again(ours, real, flags):
    value = 0.1 + 0.2 * [FLAGS, {}, None].index(flags)
    for _ in range(2):
        assert_same_stream(stream(ours, graph(value), flags)[1], stream(real, graph(value), flags)[1])


def test_a_changed_value_runs_only_what_depends_on_it(ours, real):
    for value in (0.71, 0.72):
        prompt = graph(0.7)
        prompt["2"]["inputs"]["mark"] = str(value)
        assert_same_stream(stream(ours, prompt)[1], stream(real, prompt)[1])


def test_an_output_that_is_no_picture(ours, real):
    prompt = {"1": {"class_type": "ToyShow", "inputs": {"value": 2.0}}}
    mine, theirs = stream(ours, prompt)[1], json.loads(json.dumps(stream_with_nan(real, prompt)))
    assert [kind for kind, _ in mine] == [kind for kind, _ in theirs]
    # The one difference on purpose: a browser cannot read NaN.
    assert by_kind(mine, "executed")[0][1]["output"] == {"toy_numbers": [2, None]}


def stream_with_nan(client: Client, prompt: dict) -> list:
    """The kinds of events of a run, read by a client that does not mind NaN."""
    connection = client.socket()
    prompt_id = client.submit(prompt, connection.sid)
    kinds = []
    while True:
        _, payload = connection.connection.recv_data()
        message = json.loads(payload)
        if message["type"] != "status":
            kinds.append((message["type"], None))
        if message["type"] == "executing" and message["data"] == {"node": None, "prompt_id": prompt_id}:
            connection.close()
            return kinds


def test_a_node_that_raises(ours, real):
    mine, theirs = (stream(client, failing_graph())[1] for client in (ours, real))
    assert _shape(mine) == _shape(theirs)
    errors = [by_kind(events, "execution_error")[0][1] for events in (mine, theirs)]
    assert set(errors[0]) >= set(errors[1])
    for name in ("node_id", "node_type", "executed", "exception_type", "exception_message", "prompt_id"):
        assert errors[0][name] == errors[1][name], name


def test_an_interrupted_run(ours, real):
    found = []
    for client in (ours, real):
        connection = client.socket(flags=FLAGS)
        prompt_id = client.submit(graph(0.81, steps=10_000, seconds=0.01), connection.sid)
        connection.until(lambda event: event[0] == "progress")
        client.post("/interrupt", {"prompt_id": prompt_id})
        events = tidy(connection.run_of(prompt_id), prompt_id)
        connection.close()
        found.append(
            (_shape(events)[-2:], by_kind(events, "execution_interrupted"), client.finished(prompt_id)["status"])
        )
    mine, theirs = found
    assert mine[0] == theirs[0] == ["execution_interrupted", "executing"]
    assert mine[1] == theirs[1]
    assert mine[2]["status_str"] == theirs[2]["status_str"] and mine[2]["completed"] == theirs[2]["completed"]


@pytest.mark.parametrize("prompt", [graph(0.91), failing_graph()], ids=["success", "error"])
def test_history_and_jobs(ours, real, prompt):
    extra = {"extra_pnginfo": {"workflow": editor_workflow()}}
    entries, jobs, details = [], [], []
    for client in (ours, real):
        prompt_id = client.submit(prompt, "somebody", extra_data=extra)
        entry = client.finished(prompt_id)
        entry["prompt"][0] = 0
        entry["status"]["messages"] = [[kind, sorted(data)] for kind, data in entry["status"]["messages"]]
        entries.append(level(entry, prompt_id))
        if client.get("/api/jobs").status == 200:
            listed = client.get("/api/jobs?limit=1").json
            jobs.append(
                {name: type(value) for name, value in listed["jobs"][0].items()} | {"": sorted(listed["pagination"])}
            )
            details.append(sorted(client.get(f"/api/jobs/{prompt_id}").json))
    assert as_old_as(*entries) == entries[1]
    assert jobs[0] == jobs[-1] and details[0] == details[-1]


REQUESTS = [
    ("GET", "/prompt", None),
    ("GET", "/queue", None),
    ("GET", "/history/unknown", None),
    ("GET", "/object_info/ToyPicture", None),
    ("GET", "/object_info/ToySteps", None),
    ("GET", "/object_info/NoSuchNode", None),
    ("GET", "/embeddings", None),
    ("GET", "/workflow_templates", None),
    ("GET", "/settings/none", None),
    ("GET", "/internal/files/temp", None),
    ("POST", "/queue", {"clear": True}),
    ("POST", "/queue", {"delete": ["unknown"]}),
    ("POST", "/history", {"delete": ["unknown"]}),
    ("POST", "/interrupt", {}),
    ("POST", "/free", {}),
    ("POST", "/settings", {"a": 1}),
    ("POST", "/settings/b", {"c": 2}),
    ("GET", "/settings/b", None),
    ("POST", "/userdata/workflows%2Fx.json", {"d": 3}),
    ("GET", "/userdata/workflows%2Fx.json", None),
    ("GET", "/userdata?dir=workflows&recurse=true&split=true", None),
    ("GET", "/userdata?dir=workflows", None),
    ("POST", "/userdata/workflows%2Fx.json?overwrite=false", {"d": 4}),
    ("POST", "/userdata/workflows%2Fx.json/move/workflows%2Fy.json", None),
    ("DELETE", "/userdata/workflows%2Fy.json", None),
    ("GET", "/userdata/workflows%2Fy.json", None),
    ("GET", "/userdata", None),
    ("GET", "/view?filename=none.png", None),
    ("GET", "/view?filename=..%2Fx.png", None),
    ("GET", "/extensions/toy/toy.js", None),
    ("GET", "/no/such/thing", None),
    ("POST", "/prompt", {}),
    ("POST", "/prompt", {"prompt": {}}),
    ("POST", "/prompt", {"prompt": {"1": {"class_type": "ToyPicture", "inputs": {}}}}),
    ("POST", "/prompt", {"prompt": graph(), "partial_execution_targets": []}),
    ("POST", "/prompt", {"prompt": {**graph(), "1": {"class_type": "ToyPicture", "inputs": {"width": 4}}}}),
]


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("method, path, body", REQUESTS, ids=lambda part: str(part)[:40])
def test_the_same_answer(ours, real, method, path, body, prefix):
    if prefix and path.startswith(("/internal", "/extensions")):
        pytest.skip("ComfyUI has it without the prefix only")
    answers = [client.request(method, prefix + path, body) for client in (ours, real)]
    assert answers[0].status == answers[1].status, answers
    if answers[1].status == 200 and (answers[1].headers["Content-Type"] or "").startswith("application/json"):
        found = [level(answer.json, str(uuid.uuid4())) for answer in answers]
        assert as_old_as(*found) == found[1]
    elif method == "POST" and path == "/prompt":
        assert in_any_order(answers[0].json) == in_any_order(answers[1].json)


def in_any_order(refusal: dict) -> dict:
    """ComfyUI looks at a node's inputs in the order of a set, which differs from run to run."""
    for node in refusal["node_errors"].values():
        node["errors"].sort(key=str)
    return refusal


def test_uploads_and_views(ours, real):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGBA", (8, 6), (1, 2, 3, 40)).save(buffer, "PNG")
    other = buffer.getvalue() + b"\0"
    found = []
    for client in (ours, real):
        answers = [
            client.upload("/upload/image", "u.png", buffer.getvalue()).json,
            client.upload("/upload/image", "u.png", buffer.getvalue()).json,
            client.upload("/upload/image", "u.png", other, type="input").json,
            client.upload("/upload/image", "u.png", buffer.getvalue(), subfolder="s").json,
        ]
        views = [
            client.get(f"/view?filename=u.png&type=input{more}")
            for more in ("", "&preview=webp;80", "&preview=jpeg;80", "&channel=rgb", "&channel=a", "&subfolder=s")
        ]
        pixels = [Image.open(io.BytesIO(view.body)).convert("RGBA").getpixel((0, 0)) for view in views]
        kinds = [(view.status, view.headers["Content-Type"]) for view in views]
        found.append(([{k: a[k] for k in ("name", "subfolder", "type")} for a in answers], kinds, pixels))
    assert found[0] == found[1]
