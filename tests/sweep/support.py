"""What the tests of sweeps and of their workers share: toy jobs, listeners, pools, and drivers to be killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host.engines.contract import Engine, Job, JobResult, OutputFile
from host.sweep.running import JOURNAL_NAME, Journal

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 200.0


def make_pack(folder: Path) -> Path:
    """A pack with the nodes of `sweep_pack.py`."""
    pack = folder / "sweep-pack"
    pack.mkdir()
    shutil.copy(Path(__file__).with_name("sweep_pack.py"), pack / "__init__.py")
    return pack


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


@dataclass(frozen=True)
class ToyJobs:
    """Jobs that differ in a seed, of which some do something.

    Args:
        count: how many.
        actions: what `SweepAct` does in each job, by its index as text; "*" for all others.
        after_saving: what `SweepAfterSaving` does in some jobs.
        notes: the folder where each job notes that it began.
        size: of the pictures.
        read: an input file that every job reads instead of making noise.
    """

    count: int
    actions: dict[str, str] = field(default_factory=dict)
    after_saving: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    size: int = 8
    read: str = ""

    def __len__(self) -> int:
        return self.count

    def job(self, index: int) -> Job:
        action = self.actions.get(str(index), self.actions.get("*", ""))
        tile = node("SweepRead", file=self.read) if self.read else node("SweepTile", seed=index, size=self.size)
        prompt = {
            "1": tile,
            "2": node("SweepAct", image=["1", 0], action=action, mark=str(index)),
            "3": node("SaveImage", images=["2", 0], filename_prefix="tile"),
        }
        if str(index) in self.after_saving:
            prompt["4"] = node("SweepAfterSaving", image=["2", 0], action=self.after_saving[str(index)])
        return Job(str(uuid.UUID(int=index)), prompt)

    def values(self, index: int) -> dict[str, Any]:
        return {"SweepTile.seed": index}

    def file_stem(self, index: int) -> str:
        return f"{index:05}_seed={index}"

    def marks(self) -> list[int]:
        """The jobs that began, in order."""
        path = Path(self.notes) / "log.txt"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


class Ears:
    """A listener that keeps what it heard, as (what, ...) tuples."""

    def __init__(self, on_tell: Callable[[tuple[Any, ...]], None] | None = None) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self._on_tell = on_tell
        self._inside = threading.Lock()

    def _hear(self, *what: Any) -> None:
        assert self._inside.acquire(blocking=False), "two calls at once"
        try:
            self.heard.append(what)
            if self._on_tell is not None:
                self._on_tell(what)
        finally:
            self._inside.release()

    def worker_joined(self, worker: str) -> None:
        self._hear("joined", worker)

    def worker_gone(self, worker: str, reason: str) -> None:
        self._hear("gone", worker, reason)

    def job_started(self, worker: str, index: int) -> None:
        self._hear("started", worker, index)

    def job_progress(self, worker: str, index: int, node: str, value: float, maximum: float) -> None:
        self._hear("progress", worker, index, node, value, maximum)

    def job_ended(self, worker: str, index: int, status: str) -> None:
        self._hear("ended", worker, index, status)

    def notice(self, text: str) -> None:
        self._hear("notice", text)

    def all(self, what: str) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.heard if entry[0] == what]


class ToyEngine:
    """An engine in this process that gives a file of the job's id; `behaviour(index, emit)` may do something first."""

    def __init__(self, name: str, behaviour: Callable[[int], Any] | None = None, taste: bytes = b"") -> None:
        self.name = name
        self.taste = taste  # another taste, another file
        self.inputs: list[dict[str, bytes]] = []
        self.ran: list[int] = []
        self.stop = threading.Event()
        self._behaviour = behaviour

    def environment(self) -> dict[str, Any]:
        return {"device": f"toy{self.taste.decode()}", "threads": 1}

    def object_info(self) -> dict[str, dict[str, Any]]:
        return {}

    def put_inputs(self, files: Any) -> None:
        self.inputs.append(dict(files))

    def run(self, job: Job, emit: Any) -> JobResult:
        index = uuid.UUID(job.id).int
        self.ran.append(index)
        self.stop.clear()
        found = self._behaviour(index) if self._behaviour is not None else None
        if self.stop.is_set():
            return JobResult("interrupted", {}, (), "", "stopped", 0.0)
        if isinstance(found, JobResult):
            return found
        data = b"file of " + job.id.encode() + self.taste
        return result_of(data)

    def interrupt(self) -> None:
        self.stop.set()

    def close(self) -> None:
        self.stop.set()


def result_of(*contents: bytes, filename: str = "x.png") -> JobResult:
    """The successful result of a job with files of this content."""
    digests = [hashlib.sha256(data).hexdigest() for data in contents]
    files = tuple(
        OutputFile("3", at, filename, "", "output", data, digest)
        for at, (data, digest) in enumerate(zip(contents, digests, strict=True))
    )
    return JobResult("success", {}, files, hashlib.sha256("".join(digests).encode()).hexdigest(), None, 0.01)


class DeadlyFile:
    """An `OutputFile` at which the driver dies: when it is to be written, or when it has its name and no record.

    Args:
        path: where it will be.
        after: whether the driver dies after the renaming.
    """

    filename, type, digest = "x.png", "output", "ab" * 32

    def __init__(self, path: Path, after: bool) -> None:
        self._path, self._after = path, after

    @property
    def data(self) -> bytes:
        if self._path.exists() == self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        return b"data of this file"


class ToyPool:
    """Engines of this process; some may join late: {engine: event to wait for}."""

    def __init__(self, engines: Iterable[Engine], late: dict[Any, threading.Event] | None = None) -> None:
        self.engines = list(engines)
        self.late = late or {}
        self.closed = 0
        self._threads: list[threading.Thread] = []

    def start(self, on_join: Callable[[Engine], None]) -> None:
        for engine in self.engines:
            on_join(engine)

        def join_later(engine: Engine, event: threading.Event) -> None:
            if event.wait(DEADLINE):
                on_join(engine)

        for engine, event in self.late.items():
            self._threads.append(threading.Thread(target=join_later, args=(engine, event), daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        self.closed += 1
        for engine in [*self.engines, *self.late]:
            engine.close()
        for event in self.late.values():
            event.set()
        for thread in self._threads:
            thread.join(DEADLINE)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a sweep's folder but the journal."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(JOURNAL_NAME)}


def results_in(folder: Path) -> list[Any]:
    journal = Journal.read(folder / JOURNAL_NAME)
    try:
        return list(journal.results())
    finally:
        journal.close()


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not become true")


class DriverProcess:
    """`tests.sweep.drive` in a process of its own: a driver that can be killed.

    Args:
        folder: the sweep's folder; a journal in it is resumed.
        pack: the toy pack.
        jobs: the jobs.
        workers: how many worker processes.
        before: the beginning of the command, such as a shell that sets a limit.
    """

    def __init__(
        self, folder: Path, pack: Path, jobs: ToyJobs, workers: int = 1, before: Iterable[str] = (), **more: Any
    ) -> None:
        order = {"folder": str(folder), "pack": str(pack), "jobs": vars(jobs), "workers": workers, **more}
        environment = {**os.environ, "SWEEP_NOTES": jobs.notes}
        command = [*before, sys.executable, "-m", "tests.sweep.drive", json.dumps(order)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> dict[str, Any]:
        """Wait for the outcome."""
        out, errors = self.process.communicate(timeout=DEADLINE)
        assert out.strip(), errors
        return json.loads(out.splitlines()[-1])
