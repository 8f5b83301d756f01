"""Running a command: it gets the signals that end a task, and its exit code becomes the task's."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

__all__ = ["exit_code", "run"]


def exit_code(returned: int) -> int:
    """What a shell would say: a command that a signal ended has 128 + the signal's number."""
    return 128 - returned if returned < 0 else returned


def run(command: Sequence[str], root: Path, environment: Mapping[str, str] | None = None) -> int:
    """Print a command, run it without a shell in the repository's folder, and wait until it has ended.

    Ctrl-C reaches the command by itself, so here it is only waited for; a request to end is passed on.

    Args:
        command: Program and arguments.
        root: Folder of the repository.
        environment: All environment variables of the command; ``None`` for those of this process.

    Returns:
        The exit code, 0 to 255.
    """
    print(shlex.join(_short(each, root) for each in command), flush=True)
    process = subprocess.Popen(command, cwd=root, env=environment)

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.terminate()

    def wait_for_it(number: int, frame: FrameType | None) -> None:
        pass

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, wait_for_it)
    try:
        return exit_code(process.wait())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _short(argument: str, root: Path) -> str:
    """A path in the repository as one types it from there."""
    path = Path(argument)
    return str(path.relative_to(root)) if path.is_absolute() and path.is_relative_to(root) else argument
