"""``python -m tasks NAME [ARGUMENTS]``: set up what a task needs, then run it. ``--list`` shows every task."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .table import Step

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run one task.

    Args:
        arguments: The name of a task and arguments for its last step; ``None`` for those of the process.
        root: Folder of the repository.

    Returns:
        The exit code of the step that failed, or 0; 2 for a name that is no task.
    """
    from .table import TASKS
    from .venv import set_up

    parser = argparse.ArgumentParser(prog="python -m tasks", description="Set up what a task needs, then run it.")
    parser.add_argument("--list", action="store_true", help="show every task, one a line")
    parser.add_argument("--names", action="store_true", help="the names alone, on one line")
    parser.add_argument("task", nargs="?", help="see --list")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for the last command of the task")
    given = parser.parse_args(arguments)
    if given.names:
        print(*TASKS)
        return 0
    if given.list or given.task is None:
        print(*(f"{task.name:<18} {task.help}" for task in TASKS.values()), sep="\n")
        return 0
    task = TASKS.get(given.task)
    if task is None:
        near = difflib.get_close_matches(given.task, TASKS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        parser.error(f"there is no task {given.task!r}; {hint}`python -m tasks --list` shows them all")
    if task.needs and not os.environ.get(task.needs):
        print(f"{task.name} needs the environment variable {task.needs}: {task.needs_what}.", file=sys.stderr)
        return 2
    return set_up(root, task.set_up) or run_steps(task.steps, root, given.arguments)


def run_steps(steps: Sequence[Step], root: Path, arguments: Sequence[str]) -> int:
    """Run steps in turn until one fails, the last one with extra arguments; returns its exit code, or 0."""
    from .running import run
    from .venv import interpreter

    for number, step in enumerate(steps, start=1):
        extra = list(arguments) if number == len(steps) else []
        code = run([str(interpreter(root)), *step, *extra], root) if isinstance(step, tuple) else step(root, extra)
        if code:
            return code
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - whoever has an older one is told so in words
        sys.exit(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]}.")
    sys.exit(main())
