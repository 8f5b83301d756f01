"""`make soak`: a host that is ended again and again while clients use it, and a count of what it lost or did twice."""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from PIL import Image

from host.atomic_files import _TEMPORARY_NAME
from tests.server.support import HostProcess, graph, make_pack

CLIENTS = 3
MAX_WAITING = 25  # prompts; more than that, and the clients stop posting
LONGEST_LIFE = 2.5  # seconds
DRAIN_SECONDS = 900
SAY_EVERY = 10  # lives


@dataclass
class Counts:
    """What happened, and what should not have."""

    killed: int = 0
    terminated: int = 0
    accepted: int = 0
    unanswered: int = 0  # the host died before it answered the post
    unanswered_and_run: int = 0
    run_again: int = 0  # it died after a prompt's work and before the record of it
    swept: int = 0  # temporary files that a kill left and the next start removed
    pictures: int = 0
    restarts: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.killed} kills (SIGKILL), {self.terminated} stops (SIGTERM)",
                f"{self.accepted} prompts accepted, each once in the history and completed; {self.unanswered} posts "
                f"without an answer, of which {self.unanswered_and_run} were accepted and run",
                f"{self.run_again} runs repeated; {self.pictures} pictures; {self.swept} temporary files swept",
                f"restart: median {statistics.median(self.restarts):.1f} s, longest {max(self.restarts):.1f} s",
                f"{len(self.faults)} faults" + "".join(f"\n  {fault}" for fault in self.faults[:50]),
            ]
        )


class Soak:
    """A data directory, the hosts that live on it one after another, and what their clients know.

    Args:
        folder: An empty folder.
        seed: Decides the lives' lengths and ends. The clients' timing is the machine's own.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.counts = Counts()
        self._folder, self._random = folder, random.Random(seed)
        self._pack = make_pack(folder)
        self._data, self._marks = folder / "data", folder / "marks.txt"
        self._accepted: dict[str, str] = {}  # {prompt id: its mark}
        self._unanswered: dict[str, str] = {}
        self._lock = threading.Lock()
        self._checked: set[Path] = set()

    def run(self, lives: int, minutes: float = math.inf) -> Counts:
        """Start and end hosts, then let the last one finish everything; check after each.

        Args:
            lives: How many hosts to end.
            minutes: After that long no further host is ended.
        """
        end = time.monotonic() + 60 * minutes
        for life in range(lives):
            if time.monotonic() > end:
                break
            host = self._start()
            self._use(host, self._random.uniform(0.05, LONGEST_LIFE))
            self._end(host)
            self._check_files()
            if life % SAY_EVERY == SAY_EVERY - 1:
                print(f"{life + 1} lives, {len(self._accepted)} prompts, {len(self.counts.faults)} faults", flush=True)
        host = self._start()
        try:
            host.wait(lambda: host.get("/prompt").json["exec_info"]["queue_remaining"] == 0, DRAIN_SECONDS)
            self._check_history(host)
        finally:
            if host.stop() != 0:
                self._fault("the last host did not stop with 0")
        self._check_files()
        return self.counts

    def _fault(self, text: str) -> None:
        self.counts.faults.append(text)

    # -- lives

    def _start(self) -> HostProcess:
        before, started = self._temporary_files(), time.monotonic()
        host = HostProcess(self._data, [self._pack], log=self._marks)
        self.counts.restarts.append(time.monotonic() - started)
        left = before & self._temporary_files()
        self.counts.swept += len(before - left)
        for path in left:
            self._fault(f"the temporary file {path} is left after a start")
        return host

    def _use(self, host: HostProcess, seconds: float) -> None:
        """Let clients work, and return in the middle of it."""
        self._stop_clients = threading.Event()
        self._clients = [threading.Thread(target=self._client, args=(host, number)) for number in range(CLIENTS)]
        for client in self._clients:
            client.start()
        time.sleep(seconds)

    def _end(self, host: HostProcess) -> None:
        if self._random.random() < 0.25:
            self.counts.terminated += 1
            host.process.send_signal(signal.SIGTERM)
        else:
            self.counts.killed += 1
            host.process.kill()
        code = host.process.wait(timeout=60)
        if code not in (0, -signal.SIGKILL):
            self._fault(f"the host ended with {code}")
        self._stop_clients.set()
        for client in self._clients:
            client.join(60)
        host.stop()

    # -- clients

    def _client(self, host: HostProcess, number: int) -> None:
        choices = random.Random(number)
        while not self._stop_clients.is_set():
            try:
                self._post(host, choices)
                self._change_files(host, choices)
                if host.get("/prompt").json["exec_info"]["queue_remaining"] > MAX_WAITING:
                    time.sleep(0.2)
            except (OSError, HTTPException, urllib.error.URLError, ValueError):
                time.sleep(0.02)  # the host is being ended

    def _post(self, host: HostProcess, choices: random.Random) -> None:
        prompt_id = str(uuid.uuid4())
        mark = f"m{prompt_id[:8]}"
        prompt = graph(choices.random(), steps=choices.randint(1, 5), seconds=0.02, mark=mark, prefix=mark)
        with self._lock:
            self._unanswered[prompt_id] = mark
        try:
            status = host.post("/prompt", {"prompt": prompt, "prompt_id": prompt_id}).status
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):  # it was not sent
                del self._unanswered[prompt_id]
            raise
        with self._lock:
            del self._unanswered[prompt_id]
            if status == 200:
                self._accepted[prompt_id] = mark
        if status not in (200, 503):
            self._fault(f"POST /prompt was answered {status}")

    def _change_files(self, host: HostProcess, choices: random.Random) -> None:
        big = {"values": [choices.random() for _ in range(20_000)]}
        host.post("/userdata/workflows%2Fx.json?overwrite=true", big)
        host.post(f"/settings/{choices.choice('abc')}", [choices.random()] * 100)
        host.upload("/upload/image", "x.json", json.dumps(big).encode(), overwrite="true")

    # -- checks

    def _temporary_files(self) -> set[Path]:
        return {path for path in self._data.rglob(".*") if _TEMPORARY_NAME.fullmatch(path.name)}

    def _check_files(self) -> None:
        """Check what the last host left: a store in order, and only complete files."""
        with closing(sqlite3.connect(self._data / "user" / "jobs.sqlite3")) as store:
            (answer,) = store.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            self._fault(f"integrity_check: {answer}")
        for path in {path for path in self._data.rglob("*.png") if path.is_file()} - self._checked:
            self._checked.add(path)
            self.counts.pictures += 1
            self._try(path, lambda path: Image.open(path, formats=["PNG"]).load())
        for path in self._data.rglob("*.json"):
            self._try(path, lambda path: json.loads(path.read_text()))

    def _try(self, path: Path, read) -> None:
        try:
            read(path)
        except Exception as error:
            self._fault(f"{path.name} is incomplete: {error}")

    def _check_history(self, host: HostProcess) -> None:
        history = host.get("/history").json
        with closing(sqlite3.connect(self._data / "user" / "jobs.sqlite3")) as store:
            rows = Counter(row[0] for row in store.execute("SELECT id FROM jobs"))
        self._faults_of("lost", self._accepted.keys() - history.keys())
        self._faults_of("invented", history.keys() - self._accepted.keys() - self._unanswered.keys())
        self._faults_of("more than once", {name for name, count in rows.items() if count > 1})
        self._faults_of("not completed", {k for k, entry in history.items() if not entry["status"]["completed"]})
        runs = Counter(self._marks.read_text().split())
        marks = {**self._accepted, **self._unanswered}
        self._faults_of("completed without a run", {k for k in history if not runs[marks.get(k, "")]})
        saved = Counter(path.name.split("_")[0] for path in (self._data / "output").glob("*.png"))
        self._faults_of("completed without a picture", {k for k in history if not saved[marks.get(k, "")]})
        self.counts.accepted = len(self._accepted)
        self.counts.unanswered = len(self._unanswered)
        self.counts.unanswered_and_run = len(self._unanswered.keys() & history.keys())
        self.counts.run_again = sum(runs.values()) - len(runs)
        if self.counts.run_again > self.counts.killed:
            self._fault(f"{self.counts.run_again} runs were repeated, more than one for each kill")

    def _faults_of(self, kind: str, ids: set[str]) -> None:
        for prompt_id in sorted(ids):
            self._fault(f"the prompt {prompt_id} is {kind}")


def main() -> int:
    """Soak. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often the host is ended")
    parser.add_argument("--minutes", type=float, default=math.inf, help="how long at most, beside the last host's work")
    parser.add_argument("--seed", type=int, default=1, help="decides how the hosts end")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = Soak(Path(folder), args.seed).run(args.kills, args.minutes)
    print(counts)
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
