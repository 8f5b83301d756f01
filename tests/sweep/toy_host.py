"""A pack of the host's toy nodes, and a copy of the host beside it: real commands run there with small nodes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

DOOR = """
def __getattr__(name):
    if name in ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"):
        from . import toy_nodes
        return getattr(toy_nodes, name)
    raise AttributeError(name)
"""


def make_toy_pack(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(DOOR)
    shutil.copy(ROOT / "tests/host/toy_nodes.py", folder)
    return folder


def make_toy_host(folder: Path) -> Path:
    """The host beside a toy pack: the project whose nodes `python -m host` runs there."""
    make_toy_pack(folder)
    shutil.copytree(ROOT / "host", folder / "host", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def node(kind: str, title: str | None = None, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})


# Grey squares; and a number that nothing needs.
GREY = {
    "1": node("ToyImage", "Grey v1.5", grey=0.5, size=8, count=1),
    "2": node("SaveImage", images=["1", 0], filename_prefix="grey"),
    "3": node("ToyNumber", value=1.0, seed=0, mode="plain"),
}
