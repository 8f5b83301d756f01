"""What a host leaves behind when it ends, however it ends, and what the next one makes of it."""

from __future__ import annotations

import logging
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from host.server import security, serving
from tests.server.support import ROOT, HostProcess, failing_graph, graph


@pytest.fixture
def start(toy_pack: Path, tmp_path: Path):
    """Starts hosts on one data directory; each call is a restart."""
    hosts = []

    def begin(**options) -> HostProcess:
        hosts.append(HostProcess(tmp_path / "data", [toy_pack], log=tmp_path / "marks.txt", **options))
        return hosts[-1]

    yield begin
    for host in hosts:
        host.stop()


def marks(tmp_path: Path) -> Counter:
    path = tmp_path / "marks.txt"
    return Counter(path.read_text().split() if path.exists() else [])


def pictures(host: HostProcess) -> Counter:
    return Counter(path.name.split("_")[0] for path in (host.data / "output").glob("*.png"))


def test_a_killed_host_finishes_what_it_had_accepted_once(start, tmp_path):
    host = start()
    done = host.submit(graph(0.1, mark="done", prefix="done"))
    before = host.finished(done)
    host.post("/settings/a", b"1")
    host.post("/userdata/workflows%2Fx.json", b"{}")
    names = ("one", "two", "three")
    ids = [
        host.submit(graph(0.2 + i / 10, steps=40, seconds=0.02, mark=name, prefix=name), f"client-{name}")
        for i, name in enumerate(names)
    ]
    host.wait(lambda: host.get("/queue").json["queue_running"])
    time.sleep(0.2)
    host.kill()
    assert marks(tmp_path) == {"done": 1}  # it died in the middle of the first

    host = start()
    waiting = {entry[1] for entry in sum(host.get("/queue").json.values(), [])}
    assert waiting | set(host.get("/history").json) >= set(ids)
    socket = host.socket("client-three", {})  # the page has come back under its old name
    socket.run_of(ids[2])
    socket.close()
    entries = [host.finished(prompt_id) for prompt_id in ids]
    assert all(entry["status"]["completed"] for entry in entries)
    assert list(host.get("/history").json) == [done, *ids]
    assert host.get(f"/history/{done}").json[done] == before
    assert marks(tmp_path) == dict.fromkeys(("done", *names), 1) == pictures(host)
    host.kill()
    host = start()
    assert (
        list(host.get("/history").json) == [done, *ids]
        and host.get("/prompt").json["exec_info"]["queue_remaining"] == 0
    )
    assert host.get("/settings/a").json == 1 and host.get("/userdata/workflows%2Fx.json").json == {}


def test_a_host_killed_again_and_again(start, tmp_path):
    """Each life ends after a part of a second, in whatever it is doing; in the end each prompt has run once."""
    host = start()
    ids = [host.submit(graph(i / 20, steps=2, seconds=0.02, mark=f"m{i}", prefix=f"m{i}")) for i in range(12)]
    for life in range(3):
        time.sleep(0.11 + 0.07 * life)
        host.kill()
        host = start()
    for prompt_id in ids:
        assert host.finished(prompt_id)["status"]["completed"] is True
    assert list(host.get("/history").json) == ids
    # A kill between a node's work and the record of it makes that one prompt run again: at most one a life.
    assert set(marks(tmp_path)) == {f"m{i}" for i in range(12)} and sum(marks(tmp_path).values()) <= 12 + 3


def test_a_stopped_host_puts_its_job_back(start, tmp_path):
    host = start()
    socket = host.socket("watcher", {})
    failed = host.submit(failing_graph())
    host.finished(failed)
    running = host.submit(graph(0.3, steps=300, seconds=0.02, mark="long"), socket.sid)
    waiting = host.submit(graph(0.4, mark="short"))
    socket.until(lambda event: event[0] == "progress")
    assert host.stop() == 0
    with pytest.raises(EOFError) as closed:  # the page knows at once, and hears of no interruption
        socket.until(lambda event: event[0].startswith("execution_"))
    assert int.from_bytes(closed.value.args[0][:2], "big") == 1001
    socket.connection.shutdown()

    host = start()
    queue = host.get("/queue").json
    assert [entry[1] for entry in queue["queue_running"] + queue["queue_pending"]] == [running, waiting]
    assert host.get(f"/jobs/{failed}").json["status"] == "failed"
    host.post("/interrupt")
    assert host.finished(waiting)["status"]["completed"] is True
    assert marks(tmp_path) == {"short": 1}


def test_the_queue_keeps_its_order_over_a_restart(start):
    host = start()
    host.submit(graph(0.1, steps=1000, seconds=0.02))
    host.wait(lambda: host.get("/queue").json["queue_running"])
    ids = [host.submit(graph(0.2)), host.submit(graph(0.3), front=True), host.submit(graph(0.4), number=-5)]
    expected = [entry[1] for entry in host.get("/queue").json["queue_pending"]]
    assert set(ids) == set(expected)
    host.kill()
    host = start()
    host.wait(lambda: len(host.get("/queue").json["queue_pending"]) < 4)
    everything = host.get("/queue").json
    waiting = [entry[1] for entry in everything["queue_running"] + everything["queue_pending"]]
    finished = list(host.get("/history").json)  # asked for last: a short prompt may be done by now
    order = dict.fromkeys([*finished, *waiting])
    assert [prompt_id for prompt_id in order if prompt_id in ids] == expected


def serve_fails(*arguments: str) -> str:
    """What a host that cannot start says."""
    command = [sys.executable, "-m", "host", "serve", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    return ended.stderr


def test_two_hosts_do_not_share_a_data_directory(server, toy_pack):
    said = serve_fails("--port", "0", "--data-directory", str(server.data), "--pack", str(toy_pack))
    assert "another host uses the data directory" in said
    assert server.get("/queue").status == 200


def test_a_port_that_is_taken(server, toy_pack, tmp_path):
    port = server.address.rsplit(":", 1)[1]
    said = serve_fails("--port", port, "--data-directory", str(tmp_path / "other"), "--pack", str(toy_pack))
    assert "cannot listen on 127.0.0.1" in said and "--port" in said


def test_listening_everywhere_names_an_address_to_open_here_and_one_for_others(toy_pack, tmp_path):
    host = HostProcess(tmp_path / "data", [toy_pack], options=["--listen", "0.0.0.0"])
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", host.address)
        assert host.get("/queue").status == 200
        port = host.address.rpartition(":")[2]
        said = host.process.stdout.readline()
        assert re.fullmatch(rf"Other machines reach them at http://(?!0\.0\.0\.0)[\w.-]+:{port}\n", said)
    finally:
        host.stop()


@pytest.mark.parametrize(
    ("bound", "urls"),
    [
        ("127.0.0.1", ["http://127.0.0.1:80"]),
        ("10.0.0.7", ["http://10.0.0.7:80"]),
        ("::1", ["http://[::1]:80"]),
        ("::", ["http://[::1]:80", f"http://{socket.gethostname()}:80"]),
    ],
)
def test_urls_of_an_address(bound, urls):
    assert serving._reachable_at(bound, 80) == urls


def test_listening_elsewhere_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        assert {"0.0.0.0", "shop"} < security.own_names("0.0.0.0", ["shop"], Path("data"))
    assert "everybody who reaches this machine" in caplog.text
    caplog.clear()
    security.own_names("127.0.0.1", [], Path("data"))
    security.own_names("localhost", [], Path("data"))
    assert not caplog.records


@pytest.mark.parametrize("content", [b"not a database at all" * 100, "another version"], ids=["garbage", "version"])
def test_a_job_store_that_cannot_be_read(toy_pack, tmp_path, content):
    path = tmp_path / "data/user/jobs.sqlite3"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    said = serve_fails("--port", "0", "--data-directory", str(tmp_path / "data"), "--pack", str(toy_pack))
    assert "the job store" in said and "move it away" in said
    assert path.read_bytes() == before


def test_a_data_directory_that_is_a_file(toy_pack, tmp_path):
    (tmp_path / "file").write_text("x")
    said = serve_fails("--port", "0", "--data-directory", str(tmp_path / "file"), "--pack", str(toy_pack))
    assert "the data directory" in said and "--data-directory" in said


def test_a_lock_that_cannot_be_taken(toy_pack, tmp_path):
    """As in a folder that belongs to somebody else."""
    (tmp_path / "data/user/host.lock").mkdir(parents=True)
    said = serve_fails("--port", "0", "--data-directory", str(tmp_path / "data"), "--pack", str(toy_pack))
    assert "the data directory" in said and "--data-directory" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_node_that_does_not_stop_is_ended_with_its_host(start, tmp_path, number):
    host = start()
    prompt_id = host.submit(graph(0.3, steps=1, seconds=30, mark="again"))
    host.wait(lambda: host.get("/queue").json["queue_running"])
    host.process.send_signal(number)
    assert host.process.wait(timeout=25) == 0
    host = start()
    assert [entry[1] for entry in sum(host.get("/queue").json.values(), [])] == [prompt_id]
    host.kill()
