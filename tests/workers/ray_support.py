"""What the tests with Ray share: a cluster of several nodes on this machine, and drivers for it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.sweep.support import make_pack

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 250.0


class RayCluster:
    """A cluster that asks for a token; its first node is the head.

    Args:
        cpus: of the head.
        notes: where the nodes of the toy pack note what they do.
    """

    def __init__(self, cpus: int, notes: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the names of sockets must be short
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "HOME": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "1000",  # a node that was killed is missed sooner
            "SWEEP_NOTES": str(notes),
        }
        # Ray starts its workers by a shell that splits the interpreter's path at spaces.
        environment_without_spaces = self.folder / "python"
        environment_without_spaces.symlink_to(sys.prefix, target_is_directory=True)
        python = environment_without_spaces / Path(sys.executable).relative_to(sys.prefix)
        command = [str(python), str(Path(__file__).with_name("ray_cluster.py")), str(cpus)]
        self.log = (self.folder / "log.txt").open("w")
        self._process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True, start_new_session=True,
        )  # fmt: skip
        started = self._read()
        self.address, self.head = started["address"], started["node"]
        self._count = 0

    def add(self, cpus: int, **variables: str) -> tuple[int, str]:
        """Start a node. Returns its index for `kill`, and its id."""
        self._count += 1
        return self._count - 1, self._ask("add", cpus, variables)["node"]

    def kill(self, index: int) -> None:
        self._ask("kill", index)

    def kill_head(self) -> None:
        self._ask("kill-head")

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(60)
        except (subprocess.TimeoutExpired, OSError):
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, *command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError((self.folder / "log.txt").read_text()[-3000:])


def make_packs(folder: Path) -> list[str]:
    """The toy packs of the sweeps' tests and of those with Ray."""
    other = folder / "ray-pack"
    other.mkdir()
    shutil.copy(Path(__file__).with_name("ray_pack.py"), other / "__init__.py")
    return [str(make_pack(folder)), str(other)]


@contextmanager
def ray_cluster(cpus: int, notes: Path) -> Iterator[RayCluster]:
    cluster = RayCluster(cpus, notes)
    try:
        yield cluster
    finally:
        cluster.close()


class RayDriver:
    """`tests.workers.ray_drive` in a process of its own."""

    def __init__(self, cluster: RayCluster, order: dict[str, Any], **variables: str) -> None:
        command = [sys.executable, "-m", "tests.workers.ray_drive", json.dumps({"address": cluster.address, **order})]
        environment = {**cluster.environment, **variables}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> dict[str, Any]:
        """Wait for what came of it. Nothing but that is printed: Ray's own messages would be among our results."""
        out, errors = self.process.communicate(timeout=DEADLINE)
        assert len(out.splitlines()) == 1, (out, errors)
        return json.loads(out)
