"""ComfyUI's own Python SDK, unchanged, through its own proxy for the Comfy API v2, against this host."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_sdk import Comfy
from comfy_sdk.events import OutputReady, Progress, StatusChange
from comfy_sdk.exceptions import InvalidWorkflow, JobFailed, WorkflowFormatUi
from PIL import Image

from tests.server.support import ROOT, editor_workflow, failing_graph, graph

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory) -> Iterator[str]:
    """The address of a proxy in front of the host."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-u", "-m", "comfy_api_proxy.cli", "--comfyui", server.address, "--port", "0"]
    with (home / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            command, env={**os.environ, "HOME": str(home)}, cwd=home, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        said = next((found for line in process.stdout if (found := ADDRESS.search(line))), None)
        assert said, f"the proxy ended before it was ready: {(home / 'errors.txt').read_text()[-2000:]}"
        yield said[0]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def client(proxy, monkeypatch) -> Iterator[Comfy]:
    """The SDK's client, as its documentation makes it for a server of one's own."""
    monkeypatch.setenv("COMFY_BASE_URL", proxy)
    monkeypatch.delenv("COMFY_API_KEY", raising=False)
    with Comfy() as made:
        yield made


def test_a_prompt_runs_and_its_picture_is_fetched(client, tmp_path):
    job = client.run(client.workflows.from_json(graph(0.71, prefix="sdk")), timeout=120)
    assert job.status == "succeeded"
    (output,) = job.get_outputs("3")
    assert (output.type, output.content_type) == ("image", "image/png") and output.name.startswith("sdk_")
    with Image.open(output.to_file(tmp_path / "fetched.png")) as picture:
        assert picture.size == (32, 16) and picture.getpixel((0, 0)) == (181, 181, 181)


def test_events_tell_of_the_picture_and_of_the_end(client):
    events = list(client.submit(client.workflows.from_json(graph(0.72, steps=2, seconds=0.5))).events())
    assert isinstance(events[-1], StatusChange) and events[-1].status == "succeeded"
    assert [event.output.node_id for event in events if isinstance(event, OutputReady)] in ([], ["3"])


def test_a_job_shows_its_progress_and_is_cancelled(client, server):
    job = client.submit(client.workflows.from_json(graph(0.73, steps=100_000, seconds=0.02)))
    seen = []
    for event in job.events():
        seen.append(event)
        if isinstance(event, Progress) and event.value > 0 and job.status != "canceled":
            job.cancel()
    assert isinstance(seen[-1], StatusChange) and seen[-1].status == "canceled"
    assert server.finished(job.id)["status"]["status_str"] == "error"


def test_a_picture_is_sent_along(client):
    data = io.BytesIO()
    Image.new("RGB", (6, 5), (9, 8, 7)).save(data, "PNG")
    workflow = client.workflows.from_json(
        {
            "1": {"class_type": "LoadImage", "inputs": {}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sent"}},
        }
    )
    workflow.set_input("1", "image", client.assets.from_bytes(data.getvalue(), filename="from-sdk.png"))
    (output,) = client.run(workflow, timeout=120).get_outputs("2")
    with Image.open(io.BytesIO(output.to_bytes())) as picture:
        assert picture.size == (6, 5) and picture.getpixel((0, 0)) == (9, 8, 7)


def test_a_node_that_raises_is_named(client):
    """The proxy asks /history, then /queue. A job that ends between the two is in neither answer, and "expired"."""
    for _ in range(5):
        with pytest.raises(JobFailed) as caught:
            client.run(client.workflows.from_json(failing_graph()), timeout=120)
        if not str(caught.value).endswith("ended expired"):
            break
    error = caught.value.error
    assert (error.node_id, error.class_type, error.message.strip()) == ("2", "ToyFail", "on purpose")


def test_a_bad_graph_is_refused_with_its_node_and_input(client, server):
    wrong = graph()
    wrong["1"]["inputs"]["width"] = 4
    queued = server.get("/jobs").json["pagination"]["total"]
    with pytest.raises(InvalidWorkflow) as caught:
        client.submit(client.workflows.from_json(wrong))
    (error,) = caught.value.details["node_errors"]["1"]["errors"]
    assert (error["message"], error["extra_info"]["input_name"]) == ("Value 4 smaller than min of 8", "width")
    with pytest.raises(WorkflowFormatUi):
        client.submit(client.workflows.from_json(editor_workflow()))
    assert server.get("/jobs").json["pagination"]["total"] == queued


def test_the_documented_program_runs(proxy, tmp_path):
    page = (Path(ROOT) / "docs/server.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(from comfy_sdk .*?)```", page, re.DOTALL)
    (tmp_path / "prompt.json").write_text(json.dumps(graph(0.74, prefix="documented")))
    environment = {**os.environ, "COMFY_BASE_URL": proxy}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=200)
    (picture,) = tmp_path.glob("documented_*.png")
    with Image.open(picture) as shown:
        assert shown.size == (32, 16)
