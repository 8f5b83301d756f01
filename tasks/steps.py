"""The steps of tasks that are more than one command of the virtual environment's Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .running import run
from .venv import interpreter

__all__ = ["build_site", "clean", "link_for_types", "once_for_each_capability", "run_tests"]

# Two processes for two cores, not one for each core: a process holds torch and its models. A file's tests stay
# together, because they share servers. Long files go first (tests/conftest.py), not those with many tests.
IN_PARALLEL = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
PARTS = {
    "not browser and not cluster": IN_PARALLEL,
    "browser": IN_PARALLEL,  # apart: Playwright leaves its event loop running, and other tests run their own
    # One after the other: two Ray clusters on one machine get in each other's way, and a third process beside two
    # browsers makes both slower.
    "cluster": (),
}


def build_site(root: Path, arguments: Sequence[str]) -> int:
    """Build the documentation site in ``build/site``; a warning is an error."""
    command = [str(interpreter(root)), "-m", "mkdocs", "build", "--strict", "--quiet", *arguments]
    return run(command, root, {**os.environ, "NO_MKDOCS_2_WARNING": "1"})  # else the theme advertises its successor


def clean(root: Path, arguments: Sequence[str]) -> int:
    """Remove the virtual environment and what runs have written."""
    for name in (".venv", "build", "output", "user", "temp"):
        shutil.rmtree(root / name, ignore_errors=True)
    return 0


def link_for_types(root: Path, arguments: Sequence[str]) -> int:
    """Link the repository as ``.venv/types/pack``; why: see ``[tool.mypy]`` in pyproject.toml."""
    link = root / ".venv" / "types" / "pack"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        return 0
    link.unlink(missing_ok=True)
    if sys.platform == "win32":  # a link to a folder needs rights there, a junction needs none
        import _winapi

        _winapi.CreateJunction(str(root), str(link))
    else:
        link.symlink_to(Path("..", ".."), target_is_directory=True)
    return 0


def once_for_each_capability(root: Path, arguments: Sequence[str]) -> int:
    """Run the core's tests once for each set of instructions that torch can use on this processor."""
    python = str(interpreter(root))
    listed = subprocess.run([python, "tests/capabilities.py"], cwd=root, stdout=subprocess.PIPE, text=True, check=False)
    names = listed.stdout.split()
    if listed.returncode or not names:
        return listed.returncode or 1
    for name in names:
        print(f"ATEN_CPU_CAPABILITY={name}", flush=True)
        tests = [python, "-m", "pytest", "-q", *IN_PARALLEL, "tests/core", *arguments]
        code = run(tests, root, {**os.environ, "ATEN_CPU_CAPABILITY": name})
        if code:
            return code
    return 0


def run_tests(root: Path, arguments: Sequence[str]) -> int:
    """Run every test, in three parts; with arguments, what they name, in one process."""
    pytest = [str(interpreter(root)), "-m", "pytest", "-q"]
    if arguments:
        return run([*pytest, *arguments], root)
    return max(run([*pytest, *options, "-m", part], root) for part, options in PARTS.items())
