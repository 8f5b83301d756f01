"""The process of a ComfyUI that is started here: until it answers, while it lives, and its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from host.engines.contract import EngineError
from host.error_format import shorten

__all__ = ["ComfyUIProcess", "free_port"]

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_START_SECONDS = 900.0  # a large installation imports packs for minutes
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.1
_LOG_BYTES = 64 << 10
_LOG_LINES = 25
_PORT_TAKEN = ("address already in use", "error while attempting to bind", "only one usage of each socket")


def free_port() -> int:
    """Return a port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ComfyUIProcess:
    """A process that ends with this one, however this one ends.

    Args:
        command: The command line.
        folder: Where it runs.
        variables: Its environment variables.
        log: The file that receives what it prints.
    """

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            # In a session of its own, so that Ctrl-C reaches this process alone, which then stops jobs between steps.
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), *command],
                cwd=folder,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return self._supervisor.poll() is None

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Wait until it answers.

        Raises:
            EngineError: It ended, or takes too long. The message has the last lines that it printed.
        """
        end = time.monotonic() + _START_SECONDS
        while not answers():
            if not self.is_alive():
                raise EngineError(f"the ComfyUI did not start: it ended with {self.ending()}\n{self.last_lines()}")
            if time.monotonic() > end:
                raise EngineError(f"the ComfyUI did not start in {_START_SECONDS:.0f} seconds\n{self.last_lines()}")
            time.sleep(_POLL_SECONDS)

    def found_its_port_taken(self) -> bool:
        """Return whether it ended because another program listens on its port."""
        text = self._tail().lower()
        return not self.is_alive() and any(sign in text for sign in _PORT_TAKEN)

    def ending(self) -> str:
        """Return how it ended, in words: "exit code 1", "signal SIGKILL"."""
        try:
            code = self._supervisor.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return "it still runs"
        number = -code if code < 0 else code - 128
        names = {int(each): each.name for each in signal.Signals}
        return f"signal {names[number]}" if number in names else f"exit code {code}"

    def last_lines(self) -> str:
        """Return the last lines that it printed, indented."""
        lines = [line.rstrip() for line in self._tail().replace("\r", "\n").splitlines() if line.strip()]
        return "\n".join(f"  {shorten(line, 300)}" for line in lines[-_LOG_LINES:])

    def stop(self) -> None:
        """End it, and wait for its end. May be called more than once."""
        if self._supervisor.stdin is not None:
            try:
                self._supervisor.stdin.close()
            except BrokenPipeError:
                pass
        try:
            self._supervisor.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()

    def _tail(self) -> str:
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _LOG_BYTES))
                return file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
