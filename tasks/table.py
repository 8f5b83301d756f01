"""The table of tasks. A new task is a new row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .address import set_address
from .browser import ensure_browser
from .release import show_release
from .steps import build_site, clean, link_for_types, once_for_each_capability, run_tests
from .versions import run_newest, run_oldest

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


# Of the lines of ddim/ and nodes/. Measured: 92 % with the tests of the nodes and five files of the core's tests alone.
FLOOR = "--cov-fail-under=90"
COVERED = ("tests/core", "tests/inversion", "tests/nodes")
_ROWS = (
    Task(
        "demo",
        "run two example workflows, digits and emoji; prints where the pictures are",
        "host",
        tuple(
            ("-m", "host", "run", f"example_workflows/{name}.json", "--output-directory", "output")
            for name in ("Start here - digits", "Emoji - from words")
        ),
    ),
    Task("serve", "open the visual editor on 127.0.0.1", "host", (("-m", "host", "serve"),)),
    Task(
        "test",
        "every test but those that need a GPU or a ComfyUI checkout (skips are listed at the end)",
        "test",
        (ensure_browser, run_tests),
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
    Task("test-oldest", "the core's tests with the oldest libraries that the pack admits", "", (run_oldest,)),
    Task("test-newest", "the tests of the core and of the nodes with the newest libraries", "", (run_newest,)),
    Task(
        "coverage",
        "which lines the tests of the core and of the nodes run; draws output/coverage/index.html",
        "test",
        (("-m", "pytest", "-q", "--cov", "--cov-report=term", "--cov-report=html", FLOOR, *COVERED),),
    ),
    Task("bench", "print every table (speed, accuracy, demo quality) and draw the plots", "bench", (("-m", "bench"),)),
    Task(
        "papers",
        "measure the papers' tables again, within an hour, for docs/papers.md; --quick: in minutes, for output/papers",
        "bench",
        (("-m", "bench.papers"),),
    ),
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
        "train",
        "make the weights of a demo model from nothing, in most of an hour on two cores; --model emoji for the other",
        "train",
        (("-m", "demo.train"),),
    ),
    Task("release", "print what is new in this version; a tag vX.Y.Z must be it", "", (show_release,)),
    Task(
        "address",
        "write the address of your repository into pyproject.toml; https://github.com/OWNER/NAME",
        "",
        (set_address,),
    ),
    Task("clean", "remove the virtual environment and what runs have written", "", (clean,)),
)
TASKS = {task.name: task for task in _ROWS}
