"""The address of the repository: the owner chooses it, and it stands in pyproject.toml alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["readdress", "set_address"]

ADDRESS = re.compile(r"https://github\.com/([\w-]+)/([\w.-]+?)(?:\.git)?/?")
CURRENT = re.compile(r'^Repository = "https://github\.com/([\w.-]+/[\w.-]+)"$', re.MULTILINE)


def readdress(text: str, address: str) -> str:
    """The text of pyproject.toml with another address of the repository.

    Args:
        text: The file as it is.
        address: ``https://github.com/OWNER/NAME``.

    Raises:
        ValueError: The address has another form, or the file has no line ``Repository``.
    """
    wanted, current = ADDRESS.fullmatch(address), CURRENT.search(text)
    if wanted is None:
        raise ValueError(f"the address must have the form https://github.com/OWNER/NAME, got {address!r}")
    if current is None:
        raise ValueError('pyproject.toml must have a line Repository = "https://github.com/OWNER/NAME", and has none')
    name = "/".join(wanted.groups())
    hosts = r"(https://(?:github|raw\.githubusercontent)\.com/)"
    return re.sub(rf'{hosts}{re.escape(current[1])}(?=[/"])', rf"\g<1>{name}", text)


def set_address(root: Path, arguments: Sequence[str]) -> int:
    """Write another address into pyproject.toml; returns 2 if it is none."""
    if len(arguments) != 1:
        print("Give one address: python -m tasks address https://github.com/OWNER/NAME", file=sys.stderr)
        return 2
    file = root / "pyproject.toml"
    try:
        changed = readdress(file.read_text(encoding="utf-8"), arguments[0])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    file.write_text(changed, encoding="utf-8", newline="\n")
    return 0
