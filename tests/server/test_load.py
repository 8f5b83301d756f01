"""Two hundred prompts and twenty clients at once: nothing lost, memory flat."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.server.support import FLAGS, HostProcess, graph

CLIENTS, EACH = 20, 10


def test_two_hundred_prompts_of_twenty_clients(toy_pack: Path, tmp_path: Path):
    host = HostProcess(tmp_path / "data", [toy_pack], log=tmp_path / "marks.txt")
    try:
        for i in range(20):  # everything that is loaded once is loaded
            host.finished(host.submit(graph(0.9 - i / 100)))
        host.get("/history"), host.get("/jobs")
        before = host.rss()
        results: dict[int, list] = {}
        clients = [threading.Thread(target=client, args=(host, n, results)) for n in range(CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        grown = host.rss() / before
        finished = [prompt_id for ids in results.values() for prompt_id in ids]
        assert len(finished) == len(set(finished)) == CLIENTS * EACH
        history = host.get("/history").json
        assert set(finished) <= set(history) and len(history) == 20 + CLIENTS * EACH
        assert sorted((tmp_path / "marks.txt").read_text().split()) == sorted(
            f"{n}.{i}" for n in range(CLIENTS) for i in range(EACH)
        )
        assert host.get("/jobs?limit=1").json["pagination"]["total"] == len(history)
        assert grown < 1.25, f"memory grew by a factor of {grown:.3f}"
    finally:
        host.stop()


def client(host: HostProcess, n: int, results: dict[int, list]) -> None:
    """One page: queues its prompts, hears every event of its own and none of others, looks at the panels."""
    socket = host.socket(flags=FLAGS)
    ids = [host.submit(graph(n / 100, steps=2, mark=f"{n}.{i}"), socket.sid) for i in range(EACH)]
    done = []
    for prompt_id in ids:
        events = socket.run_of(prompt_id)
        assert {data["prompt_id"] for kind, data in events if kind == "executing"} == {prompt_id}
        assert [kind for kind, _ in events if kind == "execution_success"] == ["execution_success"]
        assert prompt_id in host.get("/history?max_items=64").json or host.get(f"/history/{prompt_id}").json
        assert host.get("/jobs?status=pending,in_progress&limit=200").status == 200
        done.append(prompt_id)
    socket.close()
    results[n] = done
