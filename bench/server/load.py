"""Many small prompts from several clients at once: how long answers take, and whether every prompt is run."""

from __future__ import annotations

import copy
import os
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

from bench.timing import print_table
from host.packs import load_pack
from host.workflows import read_workflow
from tests.server.support import ROOT, HostProcess

__all__ = ["load_table"]

_READS = ("/queue", "/jobs?limit=200", "/history?max_items=64")


@dataclass
class _Seen:
    """What one client saw: seconds of each answer, the ids of accepted prompts, and of those that it was told about."""

    posts: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    refused: int = 0
    ended: set[str] = field(default_factory=set)


def load_table(host: HostProcess, prompts: int, clients: int) -> None:
    """Print what `clients` clients see that post `prompts` prompts, each of one step and one saved picture."""
    small = _small_prompt()
    host.finished(host.submit(small))  # everything that is loaded once is loaded
    before, descriptors = host.rss(), [_descriptors(host)]
    began = time.perf_counter()
    done = threading.Event()
    watching = threading.Thread(target=_watch_descriptors, args=(host, descriptors, done))
    watching.start()
    with ThreadPoolExecutor(clients) as pool:
        seen = list(pool.map(lambda n: _client(host, small, range(n, prompts, clients)), range(clients)))
    posted = time.perf_counter() - began
    host.wait(lambda: host.get("/prompt").json["exec_info"]["queue_remaining"] == 0, timeout=3600)
    ran = time.perf_counter() - began
    done.set()
    watching.join()
    time.sleep(1)
    _print(host, seen, prompts, posted, ran, before, descriptors)


def _small_prompt() -> dict[str, Any]:
    """Return the example workflow with one digit and one step."""
    prompt = copy.deepcopy(
        dict(read_workflow(ROOT / "example_workflows/Start here - digits.json", load_pack(ROOT)).prompt)
    )
    changes = {"DDIMDemoLatent": {"batch_size": 1}, "DDIMSchedule": {"steps": 1}, "DDIMDemoDecode": {"columns": 1}}
    for node in prompt.values():
        node["inputs"] |= changes.get(node["class_type"], {})
    return prompt


def _client(host: HostProcess, prompt: dict[str, Any], seeds: Sequence[int]) -> _Seen:
    """Post a prompt for each seed, with a read after each, while a socket receives the events."""
    seen, name = _Seen(), f"client-{seeds[0]}" if seeds else "client"
    socket = websocket.create_connection(f"{host.address.replace('http', 'ws', 1)}/ws?clientId={name}", timeout=600)
    threading.Thread(target=_receive, args=(socket,), daemon=True).start()
    for number, seed in enumerate(seeds):
        answer, seconds = _timed(host, "POST", "/prompt", {"prompt": _with_seed(prompt, seed), "client_id": name})
        seen.posts.append(seconds)
        if answer.status == 200:
            seen.accepted.append(answer.json["prompt_id"])
        else:
            seen.refused += 1
        seen.reads.append(_timed(host, "GET", _READS[number % len(_READS)])[1])
    return seen


def _receive(socket: websocket.WebSocket) -> None:
    """Read the events until the host stops, as an open page does."""
    try:
        while socket.recv():
            pass
    except (OSError, websocket.WebSocketException):
        return


def _with_seed(prompt: dict[str, Any], seed: int) -> dict[str, Any]:
    return {
        node_id: {**node, "inputs": {**node["inputs"], "seed": seed}} if "seed" in node["inputs"] else node
        for node_id, node in prompt.items()
    }


def _timed(host: HostProcess, method: str, path: str, body: Any = None) -> tuple[Any, float]:
    began = time.perf_counter()
    answer = host.request(method, path, body)
    return answer, time.perf_counter() - began


def _descriptors(host: HostProcess) -> int:
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))


def _watch_descriptors(host: HostProcess, counts: list[int], done: threading.Event) -> None:
    while not done.wait(0.2):
        counts.append(_descriptors(host))
    counts.append(_descriptors(host))


def _print(
    host: HostProcess,
    seen: Sequence[_Seen],
    prompts: int,
    posted: float,
    ran: float,
    before: int,
    descriptors: Sequence[int],
) -> None:
    accepted = {prompt_id for client in seen for prompt_id in client.accepted}
    entries = host.get("/history").json
    succeeded = {key for key, entry in entries.items() if entry["status"]["status_str"] == "success"}
    pictures = len(list(Path(host.data, "output").rglob("*.png"))) - 1
    rows = [
        ("prompts accepted / refused / missing", f"{len(accepted)} / {sum(client.refused for client in seen)} / "
         f"{len(accepted - entries.keys())}"),
        ("successes / pictures", f"{len(accepted & succeeded)} / {pictures}"),
        ("POST /prompt, ms: median, p95, p99, max", _spread([s for client in seen for s in client.posts])),
        ("reads, ms: median, p95, p99, max", _spread([s for client in seen for s in client.reads])),
        ("seconds until all are posted / run", f"{posted:.0f} / {ran:.0f}"),
        ("prompts run in a second", f"{prompts / ran:.0f}"),
        ("RSS before / after, MB", f"{before / 1e6:.0f} / {host.rss() / 1e6:.0f}"),
        ("descriptors before / peak", f"{descriptors[0]} / {max(descriptors)}"),
    ]  # fmt: skip
    print_table(f"{prompts} prompts from {len(seen)} clients", ("", ""), rows)


def _spread(seconds: Sequence[float]) -> str:
    """Format the median, the 95th and 99th percentile and the largest value, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    return ", ".join(f"{1000 * value:.0f}" for value in (cuts[49], cuts[94], cuts[98], max(seconds)))
