"""A driver of toy jobs: `python -m tests.sweep.drive ORDER` prints the outcome as JSON, or the error."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from host.engines.spec import EngineSpec
from host.sweep.running import JOURNAL_NAME, Journal, JournalError, Sweep
from host.workers.local import LocalPool
from tests.sweep.support import Ears, ToyJobs


def main() -> None:
    order = json.loads(sys.argv[1])
    folder, jobs = Path(order["folder"]), ToyJobs(**order["jobs"])
    path = folder / JOURNAL_NAME
    try:
        journal = Journal.resume(path) if path.exists() else Journal.create(path, "{}")
    except JournalError as error:
        print(json.dumps({"error": str(error)}))
        return
    pool = LocalPool([EngineSpec(packs=(order["pack"],))], order["workers"])
    ears = Ears()
    sweep = Sweep(jobs, pool, journal, folder, ears, retry_failed=order.get("retry_failed", False))
    signal.signal(signal.SIGINT, lambda number, frame: sweep.request_stop())
    try:
        outcome = sweep.run()
    finally:
        journal.close()
    print(json.dumps({**asdict(outcome), "notices": [text for (text,) in ears.all("notice")]}))


if __name__ == "__main__":
    main()
