"""ComfyUI's own command line client, unchanged, against this host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.server.support import editor_workflow, failing_graph, graph

COMFY = shutil.which("comfy", path=str(Path(sys.executable).parent)) or shutil.which("comfy")


@pytest.fixture(scope="module")
def comfy(server, tmp_path_factory):
    """Runs one command; gives its exit code and the JSON that it prints."""
    assert COMFY, "comfy-cli is not installed"
    home = tmp_path_factory.mktemp("home")
    host, port = server.address.removeprefix("http://").split(":")
    environment = {**os.environ, "HOME": str(home), "COMFY_LOCAL_URL": server.address, "DO_NOT_TRACK": "1"}

    def run(*arguments: str, address: bool = True) -> tuple[int, dict]:
        command = [COMFY, "--skip-prompt", "--json", *arguments]
        command += ["--host", host, "--port", port] if address else []
        ended = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=120)
        lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
        return ended.returncode, json.loads(lines[-1]) if lines else {"stderr": ended.stderr}

    run("tracking", "disable", address=False)
    return run


@pytest.fixture
def write(tmp_path):
    def to_file(workflow: dict) -> str:
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(workflow))
        return str(path)

    return to_file


@pytest.mark.parametrize("workflow", [graph(0.61), editor_workflow()], ids=["api format", "editor format"])
def test_run_and_wait(comfy, server, write, workflow):
    code, said = comfy("run", "--workflow", write(workflow), "--wait")
    assert code == 0 and said["data"]["status"] == "completed", said
    (url,) = said["data"]["outputs"]
    assert url.startswith(server.address + "/view?") and server.get(url.removeprefix(server.address)).status == 200
    assert said["data"]["executed_node_ids"] or said["data"]["cached_node_ids"]


def test_a_node_that_raises(comfy, write):
    code, said = comfy("run", "--workflow", write(failing_graph()), "--wait")
    assert code == 1 and said["error"]["code"] == "execution_error"
    assert "on purpose" in said["error"]["message"] and said["error"]["details"]["node_id"] == "2"


def test_validate(comfy, write):
    code, said = comfy("validate", "--workflow", write(graph()))
    assert code == 0 and said["data"]["valid"] is True
    wrong = graph()
    wrong["1"]["inputs"]["width"] = 4
    code, said = comfy("validate", "--workflow", write(wrong))
    assert code != 0 and "width=4" in json.dumps(said)


def test_submit_then_look_at_the_jobs(comfy, server, write):
    code, said = comfy("run", "--workflow", write(graph(0.62)))
    assert code == 0, said
    prompt_id = said["data"]["prompt_id"]
    server.finished(prompt_id)
    code, said = comfy("jobs", "status", prompt_id)
    assert code == 0 and said["data"]["status"] == "completed", said
    code, said = comfy("jobs", "ls")
    assert code == 0 and prompt_id in [job["prompt_id"] for job in said["data"]["jobs"]]


def test_cancel(comfy, server, write):
    code, said = comfy("run", "--workflow", write(graph(0.63, steps=100_000, seconds=0.02)))
    prompt_id = said["data"]["prompt_id"]
    server.wait(lambda: server.get("/queue").json["queue_running"])
    code, said = comfy("jobs", "cancel", prompt_id)
    assert code == 0, said
    assert server.finished(prompt_id)["status"]["status_str"] == "error"


def test_upload(comfy, server, tmp_path):
    Image.new("RGB", (5, 4), (9, 8, 7)).save(tmp_path / "from-cli.png")
    code, said = comfy("upload", str(tmp_path / "from-cli.png"))
    assert code == 0 and said["data"]["uploads"][0]["cloud_name"] == "from-cli.png"
    assert server.get("/view?filename=from-cli.png&type=input").body == (tmp_path / "from-cli.png").read_bytes()


def test_nodes(comfy):
    code, said = comfy("nodes", "show", "ToyPicture", address=False)
    assert code == 0 and "ToyPicture" in json.dumps(said), said
