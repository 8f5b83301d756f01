"""Drivers that use a Ray cluster: `python -m tests.workers.ray_drive ORDER` prints what came of it as JSON.

They are processes of their own because a process can be the driver of one cluster only, and because Ray warns.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from host.engines.contract import Engine, EngineError, Job
from host.engines.spec import EngineSpec
from host.sweep.running import JOURNAL_NAME, Canary, Journal, Sweep
from host.workers import ray_connection
from host.workers.ray_pool import RayPool
from tests.sweep.support import Ears, ToyJobs


class TileJobs(ToyJobs):
    """Jobs whose pictures depend on the machine."""

    def job(self, index: int) -> Job:
        prompt = tile_prompt(index, 2)
        act = {"image": ["1", 0], "action": self.actions.get(str(index), ""), "mark": str(index)}
        prompt["3"] = {"class_type": "SweepAct", "inputs": act}
        prompt["2"]["inputs"]["images"] = ["3", 0]
        return Job(str(uuid.UUID(int=index)), prompt)


def tile_prompt(seed: int, steps: int) -> dict[str, Any]:
    return {
        "1": {"class_type": "RayTile", "inputs": {"seed": seed, "steps": steps}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "tile"}},
    }


def run_sweep(pool: RayPool, order: dict[str, Any]) -> dict[str, Any]:
    """A sweep of toy jobs."""
    folder = Path(order["folder"])
    jobs = (TileJobs if order.get("tiles") else ToyJobs)(**order["jobs"])
    path = folder / JOURNAL_NAME
    journal = Journal.resume(path) if path.exists() else Journal.create(path, "{}")
    ears = Ears()
    canary = Canary(order["exact"]) if "exact" in order else None
    sweep = Sweep(jobs, pool, journal, folder, ears, canary=canary)
    signal.signal(signal.SIGINT, lambda number, frame: sweep.request_stop())
    try:
        outcome = sweep.run()
    finally:
        journal.close()
    return {**asdict(outcome), **{what: ears.all(what) for what in ("joined", "gone", "notice")}}


def run_one(pool: RayPool, order: dict[str, Any]) -> dict[str, Any]:
    """One job, with its events; another one that is interrupted; and many that do nothing."""
    engine = first_of(pool)
    events: list[tuple[str, dict[str, Any]]] = []
    result = engine.run(Job("one", tile_prompt(3, order["steps"])), lambda *event: events.append(event))
    previews = [data["image"].size for name, data in events if name == "preview"]
    slow = ToyJobs(1, {"*": "wait never"}).job(0)
    timer = threading.Timer(0.5, engine.interrupt)
    timer.start()
    stopped = engine.run(slow, lambda *event: None)
    nothing = tile_prompt(1, 0)
    engine.run(Job("warm", nothing), lambda *event: None)
    began, used = time.perf_counter(), time.process_time()
    for number in range(order["count"]):
        engine.run(Job(str(number), nothing), lambda *event: None)
    wall, used = time.perf_counter() - began, time.process_time() - used
    names = [name for name, _ in events]
    return {
        "worker": engine.name, "status": result.status, "events": names, "previews": previews,
        "progress": [data["value"] for name, data in events if name == "progress"], "stopped": stopped.status,
        "wall": wall / order["count"], "processor": used / order["count"], "environment": engine.environment(),
    }  # fmt: skip


def first_of(pool: RayPool) -> Engine:
    joined: list[Engine] = []
    pool.start(joined.append)
    return joined[0]


def main() -> None:
    order = json.loads(sys.argv[1])
    ray_connection.LOST_SECONDS = order.get("lost_seconds", ray_connection.LOST_SECONDS)
    pool = RayPool([EngineSpec(packs=tuple(order["packs"]))], order["address"], order.get("workers"))
    try:
        found = (run_one if "count" in order else run_sweep)(pool, order)
    except EngineError as error:
        found = {"error": str(error)}
    pool.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
