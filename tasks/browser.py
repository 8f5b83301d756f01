"""The browser tests drive Chromium: a Debian without it gets it, another Linux is told to install it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from .running import run

__all__ = ["ensure_browser"]

NAMES = ("chromium", "chromium-browser", "google-chrome")  # as tests/web/editor.py looks for them


def ensure_browser(root: Path, arguments: Sequence[str] = ()) -> int:
    """Install Chromium where a test run would need it and miss it.

    Returns:
        0 if there is one now, or if this system is none that the browser tests run on (they skip there).
    """
    if any(shutil.which(name) for name in NAMES):
        return 0
    if sys.platform != "linux":
        print("No Chromium in the search path: the browser tests will be skipped.", flush=True)
        return 0
    if not shutil.which("apt-get"):
        print("The browser tests need Chromium and this machine has no apt-get: install chromium and run again.")
        return 1
    print("Installing Chromium for the browser tests ...", flush=True)
    as_root = [] if os.getuid() == 0 else ["sudo"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "-o=Dpkg::Use-Pty=0", "--no-install-recommends", "chromium"]
    code = run([*as_root, "apt-get", "update", "-qq"], root) or run([*as_root, *install], root, quiet)
    return code or (0 if any(shutil.which(name) for name in NAMES) else 1)
