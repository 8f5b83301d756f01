"""The tests with the oldest and with the newest libraries, each in a virtual environment of its own.

Both install little: what the library and the nodes need, and what their tests need. Where pip also knows the CPU builds
of torch (``PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu``), it takes these; those for CUDA are gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .running import run
from .venv import interpreter, is_stale, make_environment

__all__ = ["lower_bounds", "run_newest", "run_oldest"]

LIST = "requirements.txt"
TOOLS = ("pytest", "pytest-timeout", "hypothesis", "scipy", "pillow")
TOOLS_OF_NODES = (*TOOLS, "aiohttp", "tqdm")


def lower_bounds(text: str) -> list[str]:
    """The oldest releases that a list of requirements admits: ``torch==2.5`` of ``torch>=2.5``.

    Raises:
        ValueError: A line has another form.
    """
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in lines if line]
    if not all(found):
        raise ValueError(f"every line of {LIST} must have the form NAME>=VERSION")
    return [f"{match[1]}=={match[2]}" for match in found if match]


def run_oldest(root: Path, arguments: Sequence[str]) -> int:
    """Run the core's tests with the oldest libraries that the pack admits."""
    oldest = lower_bounds((root / LIST).read_text(encoding="utf-8"))
    return _run(root, ".venv-oldest", [*oldest, *TOOLS], ["tests/core", *arguments])


def run_newest(root: Path, arguments: Sequence[str]) -> int:
    """Run the tests of the core and of the nodes with the newest libraries."""
    return _run(
        root, ".venv-newest", ["--upgrade", "-r", LIST, *TOOLS_OF_NODES], ["tests/core", "tests/nodes", *arguments]
    )


def _run(root: Path, folder: str, packages: Sequence[str], tests: Sequence[str]) -> int:
    make_environment(root, folder)
    python, stamp = str(interpreter(root, folder=folder)), root / folder / ".installed"
    if is_stale(stamp, [root / LIST]):
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        if code := run(install, root):
            return code
        stamp.touch()
    return run([python, "-m", "pytest", "-q", *tests], root)
