"""Runs a program for as long as whoever started this script lives, and ends the program with everything it started.

A program of its own, `python supervisor.py PROGRAM ARGUMENT...`: whoever starts it holds a pipe to its input. When the
pipe closes, or the starter dies however suddenly, the program is asked to end, and killed if it does not. The exit code
is the program's, or 128 and the number of the signal that ended it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["main"]

_GRACE_SECONDS = 5.0
_PARENT_POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run the program. Returns the exit code."""
    parent = os.getppid()
    options: dict[str, object] = {}
    if os.name == "posix":
        options = {"start_new_session": True, "preexec_fn": _die_with_parent}
    else:
        options = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end_later(child))
    for wait in (_wait_for_end_of_input, lambda: _wait_for_end_of(parent)):
        threading.Thread(target=_end_after, args=(wait, child), daemon=True).start()
    code = child.wait()
    _signal_group(child, getattr(signal, "SIGKILL", signal.SIGTERM))  # what it started and left behind
    return 128 - code if code < 0 else code


def _die_with_parent() -> None:
    """On Linux, let the system end the program if this script is killed, so that nothing is left to end it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _wait_for_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1 << 12):
        pass


def _wait_for_end_of(parent: int) -> None:
    """Wait until another process takes this one over. Another program may have inherited the pipe and hold it open."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)


def _end_after(wait: Callable[[], None], child: subprocess.Popen[bytes]) -> None:
    wait()
    _end(child)


def _end_later(child: subprocess.Popen[bytes]) -> None:
    threading.Thread(target=_end, args=(child,), daemon=True).start()


def _end(child: subprocess.Popen[bytes]) -> None:
    _signal_group(child, signal.SIGTERM)
    end = time.monotonic() + _GRACE_SECONDS
    while child.returncode is None and time.monotonic() < end:
        time.sleep(0.02)
    if child.returncode is None:
        _signal_group(child, getattr(signal, "SIGKILL", signal.SIGTERM))


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the program and to what it started."""
    try:
        if os.name == "posix":
            os.killpg(child.pid, number)
        else:
            child.terminate()
    except (ProcessLookupError, PermissionError):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
