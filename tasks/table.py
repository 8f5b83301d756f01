"""The table of tasks. A new task is a new row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .browser import ensure_browser
from .steps import build_site, clean, link_for_types, once_for_each_capability

__all__ = ["TASKS", "Step", "Task"]

# Arguments for the Python of the virtual environment, or a function of the repository's folder and the extra arguments.
Step = tuple[str, ...] | Callable[[Path, Sequence[str]], int]


@dataclass(frozen=True)
class Task:
    """One row.

    Attributes:
        name: As it is typed.
        help: One line.
        set_up: A key of ``venv.SETUPS``, or ``""`` for a task that needs no packages.
        steps: Run in this order until one fails. Extra arguments on the command line go to the last one.
        needs: An environment variable without which the task cannot run, or ``""``.
        needs_what: What that variable has to hold.
    """

    name: str
    help: str
    set_up: str
    steps: tuple[Step, ...]
    needs: str = ""
    needs_what: str = ""


_ROWS = (
    Task(
        "demo",
        "run the example workflow; prints where the pictures are",
        "host",
        (("-m", "host", "run", "example_workflows/digits.json", "--output-directory", "output"),),
    ),
    Task("serve", "open the visual editor on 127.0.0.1", "host", (("-m", "host", "serve"),)),
    Task(
        "test",
        "every test but those that need a GPU or a ComfyUI checkout (skips are listed at the end)",
        "test",
        (ensure_browser, ("-m", "pytest", "-q")),
    ),
    Task(
        "fuzz",
        "hostile inputs with new seeds; --minutes 10, --target NAME for one alone, --seed N to repeat a finding",
        "test",
        (("-m", "tests.fuzz"),),
    ),
    Task(
        "soak",
        "end a working host again and again and count what it lost or did twice; --kills 200",
        "test",
        (("-m", "tests.fuzz.kills"),),
    ),
    Task(
        "test-capabilities",
        "the core's tests once for each set of instructions that torch can use on this processor",
        "test",
        (once_for_each_capability,),
    ),
    Task(
        "test-comfyui",
        "the tests that start the real ComfyUI in the folder COMFYUI_PATH",
        "test",
        (("-m", "pytest", "-q", "tests/comfyui"),),
        needs="COMFYUI_PATH",
        needs_what="the folder of a ComfyUI checkout",
    ),
    Task("bench", "print every table (speed, accuracy, demo quality) and draw the plots", "bench", (("-m", "bench"),)),
    Task(
        "lint",
        "style, types, and the links and references of the documentation",
        "lint",
        (
            ("-m", "ruff", "check", "."),
            ("-m", "ruff", "format", "--check", "."),
            link_for_types,
            ("-m", "mypy"),
            build_site,
        ),
    ),
    Task("docs", "build the documentation site in build/site", "lint", (build_site,)),
    Task(
        "figures",
        "draw the pictures of README and of the help pages again, and record the animation (needs Chromium)",
        "bench",
        (
            ("-m", "bench.figures.help_pictures"),
            ("-m", "bench.edits.help_picture"),
            ("-m", "bench.figures.readme_pictures"),
            ("-m", "bench.figures.editor_animation"),
        ),
    ),
    Task(
        "train", "make the demo weights from nothing (most of an hour on two cores)", "train", (("-m", "demo.train"),)
    ),
    Task("clean", "remove the virtual environment and what runs have written", "", (clean,)),
)
TASKS = {task.name: task for task in _ROWS}
