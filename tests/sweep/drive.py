"""A driver of toy jobs: `python -m tests.sweep.drive ORDER` prints the outcome as JSON, or the error."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from host.engines.spec import EngineSpec
from host.sweep.running import JOURNAL_NAME, Journal, JournalError, Sweep
from host.workers.contract import Pool
from host.workers.local import LocalPool
from tests.sweep.support import DeadlyFile, Ears, ToyEngine, ToyJobs, ToyPool, result_of


def main() -> None:
    order = json.loads(sys.argv[1])
    folder, jobs = Path(order["folder"]), ToyJobs(**order["jobs"])
    path = folder / JOURNAL_NAME
    try:
        journal = Journal.resume(path) if path.exists() else Journal.create(path, "{}")
    except JournalError as error:
        print(json.dumps({"error": str(error)}))
        return
    pool: Pool = LocalPool([EngineSpec(packs=(order["pack"],))], order["workers"])
    if "die" in order:
        file = DeadlyFile(folder / f"{jobs.file_stem(3)}.png", order["die"] == "after")
        deadly = replace(result_of(b""), files=(file,))
        pool = ToyPool([ToyEngine("toy", lambda index: deadly if index == 3 else None)])
    times: dict[str, float] = {}  # of the last event of each kind
    ears = Ears(lambda what: times.update({what[0]: time.monotonic()}))
    sweep = Sweep(jobs, pool, journal, folder, ears, retry_failed=order.get("retry_failed", False))
    signal.signal(signal.SIGINT, lambda number, frame: sweep.request_stop())
    try:
        outcome = sweep.run()
    finally:
        journal.close()
    seconds = times["ended"] - times["joined"] if "ended" in times else 0.0
    print(json.dumps({**asdict(outcome), "seconds": seconds, "notices": [text for (text,) in ears.all("notice")]}))


if __name__ == "__main__":
    main()
