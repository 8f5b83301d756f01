"""What a release says: its changes, and whether a tag names it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["changes", "show_release"]


def changes(changelog: str, version: str) -> str:
    """The section of a version in CHANGELOG.md, without its heading.

    Raises:
        ValueError: There is no such section, or it is empty.
    """
    sections = re.split(r"^## (.+)$", changelog, flags=re.MULTILINE)
    found = dict(zip((name.strip() for name in sections[1::2]), sections[2::2], strict=True))
    text = found.get(version, "").strip()
    if not text:
        raise ValueError(f"CHANGELOG.md must have a section '## {version}' that says what is new")
    return text


def show_release(root: Path, arguments: Sequence[str]) -> int:
    """Print the changes of the version that a tag names; returns 2 if the tag is not this version."""
    source = (root / "ddim" / "version.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert version is not None
    if list(arguments) not in ([], [f"v{version[1]}"]):
        print(f"the tag must be v{version[1]}, as in ddim/version.py, got {' '.join(arguments)}", file=sys.stderr)
        return 2
    try:
        print(changes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version[1]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
