"""The server's queue on workers elsewhere: processes of this machine, and a Ray cluster."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import pytest

from tests.server.support import FLAGS, HostProcess, failing_graph, graph
from tests.workers.ray_support import ray_cluster


@pytest.fixture(scope="module")
def host(toy_pack, tmp_path_factory):
    """A host with two worker processes."""
    data = tmp_path_factory.mktemp("data")
    started = HostProcess(data, [toy_pack], log=data / "marks.txt", options=["--workers", "2"])
    yield started
    assert started.stop() == 0


def ends(events, prompt_id):
    """The events of a prompt, previews left out."""
    return [(name, data) for name, data in events if name != "preview" and data.get("prompt_id") == prompt_id]


LEVELS = itertools.count(1)


def check_a_run(host):
    """A prompt with its events, its previews, its file and its history."""
    socket = host.socket(flags=FLAGS)
    prompt_id = host.submit(graph(next(LEVELS) / 100, steps=4, seconds=0.15, prefix="sub/crew"), socket.sid)
    events = socket.run_of(prompt_id)
    socket.close()
    names = [name for name, _ in ends(events, prompt_id)]
    assert names[0] == "execution_start" and names[-2:] == ["execution_success", "executing"]
    assert "progress_state" in names
    previews = [data for name, data in events if name == "preview"]
    assert previews and all(data["metadata"]["prompt_id"] == prompt_id for data in previews)
    (executed,) = [data for name, data in events if name == "executed" and data["prompt_id"] == prompt_id]
    (image,) = executed["output"]["images"]
    assert (image["subfolder"], image["type"]) == ("sub", "output")
    query = "&".join(f"{key}={value}" for key, value in image.items())
    answer = host.get(f"/view?{query}")
    assert answer.status == 200 and answer.body.startswith(b"\x89PNG")
    entry = host.finished(prompt_id)
    assert entry["status"]["completed"] and entry["outputs"]["3"]["images"] == [image]
    return image["filename"]


def test_prompts_run_on_workers_with_their_events_and_files(host):
    names = [check_a_run(host) for _ in range(2)]
    assert names == ["crew_00001_.png", "crew_00002_.png"]


def test_several_prompts_run_at_once_and_one_of_them_can_be_stopped(host):
    first, second = (host.submit(graph(level, steps=1000, seconds=0.1)) for level in (0.1, 0.2))
    waiting = host.submit(graph(0.3))

    def running():
        return {entry[1] for entry in host.get("/queue").json["queue_running"]}

    host.wait(lambda: running() == {first, second})
    assert [entry[1] for entry in host.get("/queue").json["queue_pending"]] == [waiting]
    host.post("/interrupt", {"prompt_id": second})
    assert host.finished(second)["status"]["messages"][-1][0] == "execution_interrupted"
    assert host.finished(waiting)["status"]["completed"]
    assert running() == {first}
    host.post("/interrupt")
    assert host.finished(first)["status"]["messages"][-1][0] == "execution_interrupted"


def test_a_node_that_raises_ends_its_own_prompt_only(host):
    failed, fine = host.submit(failing_graph()), host.submit(graph(0.4))
    (message,) = [data for name, data in host.finished(failed)["status"]["messages"] if name == "execution_error"]
    assert message["exception_message"] == "on purpose\n" and message["node_type"] == "ToyFail"
    assert host.finished(fine)["status"]["completed"]


def test_a_worker_reads_what_was_uploaded(host):
    name = check_a_run(host)
    picture = host.get(f"/view?filename={name}&subfolder=sub&type=output").body
    assert host.upload("/upload/image", "seen.png", picture).status == 200
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "seen.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "seen"}},
    }
    (image,) = host.finished(host.submit(prompt))["outputs"]["2"]["images"]
    assert host.get(f"/view?filename={image['filename']}&type=output").status == 200


def worker_processes(host):
    """The processes that the host started."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                text = (path / "stat").read_text()
                command = (path / "cmdline").read_text()
            except OSError:
                continue
            if int(text.rpartition(")")[2].split()[1]) == host.process.pid and "host.workers.process" in command:
                found.append(int(path.name))
    return found


def test_a_prompt_whose_worker_dies_runs_again(host):
    prompt_id = host.submit(graph(0.6, steps=30, seconds=0.1, mark="again"))
    host.wait(lambda: host.get("/queue").json["queue_running"])
    time.sleep(0.5)
    for process in worker_processes(host):
        os.kill(process, signal.SIGKILL)
    assert host.finished(prompt_id)["status"]["completed"]
    assert (host.data / "marks.txt").read_text().split().count("again") == 1


def test_prompts_that_ran_when_the_host_ended_run_with_the_next_one(toy_pack, tmp_path):
    host = HostProcess(tmp_path, [toy_pack], options=["--workers", "1"])
    prompt_id = host.submit(graph(0.7, steps=1000, seconds=0.1))
    host.wait(lambda: host.get("/queue").json["queue_running"])
    assert host.stop() == 0
    host = HostProcess(tmp_path, [toy_pack], options=["--workers", "1"])
    host.wait(lambda: prompt_id in {entry[1] for entry in host.get("/queue").json["queue_running"]})
    host.post("/interrupt")
    host.finished(prompt_id)
    assert host.stop() == 0


@pytest.mark.cluster
def test_prompts_run_on_a_cluster(toy_pack, tmp_path):
    with ray_cluster(1, tmp_path) as cluster:
        host = HostProcess(
            tmp_path / "data", [toy_pack], options=["--address", cluster.address], environment=cluster.environment
        )
        assert check_a_run(host) == "crew_00001_.png"
        assert host.stop() == 0
