"""How an example workflow is described: its boxes in groups, from left to right, and what its note says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BLUE", "GREEN", "PURPLE", "YELLOW", "Box", "Group", "Model", "Template", "group"]

NOTES = Path(__file__).with_name("notes")
BLUE, GREEN, YELLOW, PURPLE = "#3f789e", "#3f7f5f", "#9a7d2c", "#7a4f8f"


@dataclass(frozen=True)
class Model:
    """A checkpoint that a workflow needs, so that the editor can offer it for download."""

    name: str
    url: str
    directory: str = "checkpoints"


@dataclass(frozen=True)
class Box:
    """A node.

    Attributes:
        key: How the other boxes of the workflow name it.
        kind: Its class.
        values: Widget values that are not the default.
        wires: Where its inputs come from: ``{"latent_image": "invert.latent"}``; a box with one output needs no name
            of it.
        title: Shown in place of the class's name.
        model: The checkpoint that it loads.
        folded: Whether it opens as its title alone, so that three of them below each other leave the view readable.
    """

    key: str
    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    wires: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    model: Model | None = None
    folded: bool = False


@dataclass(frozen=True)
class Group:
    """Boxes with a frame around them, in columns from left to right."""

    title: str
    columns: tuple[tuple[Box, ...], ...]
    color: str = BLUE


@dataclass(frozen=True)
class Template:
    """An example workflow.

    Attributes:
        name: Name of the file, which is all that the editor's list of examples shows.
        groups: From left to right.
        form: What App mode asks for: ``(key of a box, widget, what it is)``.
        results: Keys of the boxes whose pictures App mode shows.
    """

    name: str
    groups: tuple[Group, ...]
    form: tuple[tuple[str, str, str], ...]
    results: tuple[str, ...]

    @property
    def note(self) -> str:
        """The text of the note at the top left, Markdown; from the folder ``notes``."""
        return (NOTES / f"{self.name}.md").read_text(encoding="utf-8").rstrip()


def group(title: str, *columns: tuple[Box, ...], color: str = BLUE) -> Group:
    """Return a group; each column is a tuple of boxes, from top to bottom."""
    return Group(title, columns, color)
