"""The virtual environment ``.venv`` that every task runs in: made on first use, renewed when the dependencies change.

Each set-up leaves an empty file in ``.venv``, its stamp. A set-up is done again when its stamp is older than the files
that it depends on.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["SETUPS", "interpreter", "is_stale", "make_environment", "pip_command", "set_up"]

WINDOWS = sys.platform == "win32"
LISTS = ("pyproject.toml", "constraints.txt")

# Name of a set-up -> the extras of pyproject.toml that it installs.
SETUPS = {
    "host": "host",
    "test": "host,train,test,docs",
    "bench": "host,train,test,bench,docs",
    "lint": "lint,docs",
    "train": "train,host",
}


def interpreter(root: Path, windows: bool = WINDOWS, folder: str = ".venv") -> Path:
    """The Python of a virtual environment, whether it is there or not.

    Args:
        root: Folder of the repository.
        windows: Whether the layout is that of Windows.
        folder: Name of the virtual environment.
    """
    return root / folder / ("Scripts/python.exe" if windows else "bin/python")


def is_stale(stamp: Path, sources: list[Path]) -> bool:
    """Whether a set-up has to be done (again): its stamp is missing, or older than one of its sources."""
    return not stamp.exists() or any(source.stat().st_mtime > stamp.stat().st_mtime for source in sources)


def pip_command(root: Path, extras: str, windows: bool = WINDOWS) -> list[str]:
    """The command that installs the repository, editable, with some extras (``""`` for none)."""
    target = f".[{extras}]" if extras else "."
    pip = [str(interpreter(root, windows)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return [*pip, "-c", "constraints.txt", "--editable", target]


def make_environment(root: Path, folder: str) -> None:
    """Make an empty virtual environment, if it is not there yet."""
    if not interpreter(root, folder=folder).exists():
        print(f"Setting up {folder} (the first time takes a minute or two) ...", flush=True)
        venv.create(root / folder, with_pip=True, symlinks=not WINDOWS)


def _install(root: Path, extras: str, stamp: Path) -> int:
    code = subprocess.run(pip_command(root, extras), cwd=root, check=False).returncode
    if code == 0:
        stamp.touch()
    return code


def set_up(root: Path, name: str) -> int:
    """Make what a task needs, if it is not there yet.

    Args:
        root: Folder of the repository.
        name: A key of ``SETUPS``, or ``""`` for a task that needs no packages.

    Returns:
        0, or the exit code of what failed.
    """
    if not name:
        return 0
    make_environment(root, ".venv")
    base = root / ".venv" / ".base"
    if is_stale(base, [root / each for each in LISTS]) and (code := _install(root, "", base)):
        return code
    stamp = root / ".venv" / f".{name}"
    return _install(root, SETUPS[name], stamp) if is_stale(stamp, [base]) else 0
