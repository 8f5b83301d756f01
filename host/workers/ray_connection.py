"""Connecting to a Ray cluster: what can go wrong is found out quickly and said in a sentence.

Ray itself tries for minutes to reach a head that is not there or that refuses its token, and fills the terminal
meanwhile. So the head is asked first, by Ray's own health check in a process of its own, which can be ended.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from host.engines.contract import EngineError
from host.error_format import shorten
from host.folders import ROOT

__all__ = ["HeadWatch", "connect", "disconnect"]

_CLIENT = "ray://"
_CLIENT_PORT = 10001
_HEALTH_SECONDS = 45.0
_CONNECT_SECONDS = 5.0
LOST_SECONDS = 20.0  # without an answer of the head, until the cluster counts as lost
# Ray ends the process when the head has been silent for a minute. We say what happened and keep what is done.
_RECONNECT_SECONDS = "3600"
# What a worker does not need of this project, beside what .gitignore names. The sizes matter: all of it is sent.
_EXCLUDED = (".git", ".venv*", "/tests", "/bench", "/docs", "/input", "/output", "/user", "/temp", "/models", "/.ci")
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for a driver that was started by `ray job submit`

_NO_RAY = (
    "--address needs Ray, which is not installed in this Python; install it with "
    "pip install 'ray>=2.55' (extra `cluster`), on every node of the cluster the same version"
)
_TOKEN_HINT = (
    "the cluster asks for a token and did not accept this process's: set RAY_AUTH_MODE=token, and copy what "
    "`ray get-auth-token` prints on the head into ~/.ray/auth_token here (or a file that RAY_AUTH_TOKEN_PATH names)"
)


def connect(address: str, packs: Sequence[str] = ()) -> str:
    """Connect this process to a cluster as its driver, and send it this project's code.

    Args:
        address: "auto", "HOST:PORT" or "ray://HOST:PORT". As always with Ray, RAY_ADDRESS replaces "auto".
        packs: Folders of node packs to send along.

    Returns:
        The address of the head that `HeadWatch` watches.

    Raises:
        EngineError: The message says why there is no connection, and what to do.
    """
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", _RECONNECT_SECONDS)
    try:
        import ray
    except ImportError as error:
        raise EngineError(_NO_RAY) from error
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    if address.startswith(_CLIENT):
        _require_answer(address.removeprefix(_CLIENT), _CLIENT_PORT, address)
    else:
        if address != "auto":
            _require_answer(address, None, address)
        _require_health(address)
    runtime_env = _runtime_env(packs)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
    except Exception as error:  # Ray raises RuntimeError, ValueError, ConnectionError, ImportError and its own
        raise EngineError(f"no connection to the Ray cluster at {address}: {_reason(str(error))}") from error
    _silence_ray()
    if address.startswith(_CLIENT):
        return address.removeprefix(_CLIENT).rstrip("/")
    return str(ray.get_runtime_context().gcs_address)


def disconnect() -> None:
    """Leave the cluster. Its actors of ours end."""
    import ray

    with suppress(Exception):
        ray.shutdown()


class HeadWatch:
    """Whether the head of the cluster still answers.

    Ray's own calls wait for it without end, so it is asked on its port instead.

    Args:
        address: "HOST:PORT".
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._answered = time.monotonic()

    def is_lost(self) -> bool:
        """Ask the head; return whether it has been silent for long. Blocks for some seconds at most."""
        if _answers(self._address, _CLIENT_PORT):
            self._answered = time.monotonic()
        return time.monotonic() > self._answered + LOST_SECONDS


def _require_answer(address: str, default_port: int | None, shown: str) -> None:
    if not re.fullmatch(r"[^/\s]+", address.rstrip("/")) or (default_port is None and ":" not in address):
        raise EngineError(f"--address expects auto, HOST:PORT or ray://HOST:PORT, got {shorten(shown, 200)}")
    if not _answers(address, default_port):
        raise EngineError(
            f"no Ray cluster answers at {shorten(shown, 200)}; start one with `ray start --head` there, or look at "
            "what it printed for its address (HOST:6379, or ray://HOST:10001)"
        )


def _answers(address: str, default_port: int | None) -> bool:
    """Return whether somebody listens at an address."""
    parts = re.fullmatch(r"\[?(?P<host>[^\]]+?)\]?(?::(?P<port>\d{1,5}))?", address.rstrip("/"))
    if parts is None:
        return False
    try:
        with socket.create_connection((parts["host"], int(parts["port"] or default_port or 0)), _CONNECT_SECONDS):
            return True
    except (OSError, OverflowError, UnicodeError):
        return False


def _require_health(address: str) -> None:
    """Let Ray look whether a head is there that takes this process's token and has its version."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    command += [] if address == "auto" else ["--address", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_HEALTH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"the head of the Ray cluster at {address} does not answer in {_HEALTH_SECONDS:g} seconds"
        ) from error
    if done.returncode != 0:
        raise EngineError(f"no connection to the Ray cluster at {address}: {_reason(done.stderr + done.stdout)}")


def _reason(text: str) -> str:
    """Say in a sentence what Ray's message means."""
    for pattern, sentence in _REASONS:
        if match := re.search(pattern, text, re.DOTALL | re.IGNORECASE):
            return sentence.format(*(part.strip() for part in match.groups()))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return shorten(lines[-1] if lines else "Ray gives no reason", 500)


_REASONS = (
    (r"AuthenticationError|InvalidAuthToken|Unauthenticated|(?:find an|no) authentication token", _TOKEN_HINT),
    (
        r"(?:version mismatch|versions? .*do(?:es)? not match|mismatch).{0,200}?Ray: *([\w.]+)\s*Python: *([\w.]+)"
        r".*?Ray: *([\w.]+)\s*Python: *([\w.]+)",
        "it runs Ray {0} on Python {1}, and this process Ray {2} on Python {3}; install the same on every node",
    ),
    (
        r"((?:client|the cluster)[^\n]{0,300}versions?[^\n]{0,300})",
        "Ray says: {0}; install the same versions of Ray and Python on every node",
    ),
    (
        r"could not find any running Ray instance",
        "none runs on this machine; start one with `ray start --head`, or name one: --address HOST:6379",
    ),
    (r"client connection timeout", f"its port answers, but not to this process. If {_TOKEN_HINT}"),
    (r"ray\[client\]|No module named 'grpc'", "ray:// needs Ray's client: pip install 'ray[client]>=2.55'"),
)


def _runtime_env(packs: Sequence[str]) -> dict[str, Any]:
    """Return what Ray sends to the nodes: this project, unless the job that this process is has sent it."""
    sent: dict[str, Any] = {"py_modules": list(packs)} if packs else {}
    try:
        job = json.loads(os.environ.get(_JOB_CONFIG, "{}"))
    except ValueError:
        job = {}
    if not (isinstance(job, dict) and "working_dir" in (job.get("runtime_env") or {})):
        sent |= {"working_dir": str(ROOT), "excludes": list(_EXCLUDED)}
    return sent


def _silence_ray() -> None:
    """Keep Ray's messages about its processes out of the standard output, which is ours."""
    with suppress(ImportError):
        import ray._private.worker as ray_worker

        if hasattr(ray_worker, "_worker_logs_enabled"):
            ray_worker._worker_logs_enabled = False
