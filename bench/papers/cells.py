"""A cell of a table is measured once; its figures are kept in a file, so that a run can be stopped and goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .figures import Figure

__all__ = ["Cell", "Found", "Results", "Section", "Setting", "Store"]

Found: TypeAlias = dict[str, Figure]  # the figures of a cell by name
Results: TypeAlias = Mapping[str, Found]  # those of a section by the cell's name
Setting: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        name: Unique in its section.
        settings: Everything that its figures depend on besides the code and the weights.
        cost: About how long it takes, in pictures that pass the network.
        measure: Calculates its figures; calls what it is given after each step, with the pictures that passed.
    """

    name: str
    settings: Mapping[str, Setting]
    cost: int
    measure: Callable[[Callable[[int], None]], Found]


@dataclass(frozen=True)
class Section:
    """One table of the page.

    Attributes:
        name: Of its files.
        title: Its heading.
        cells: What it measures, for a quick run or not.
        text: Its Markdown, from the figures of all its cells.
        draw: Draws its plot into a PNG file.
        caption: What the plot shows.
    """

    name: str
    title: str
    cells: Callable[[bool], list[Cell]]
    text: Callable[[Results], str]
    draw: Callable[[Results, Path], None]
    caption: str


@dataclass(frozen=True)
class Store:
    """Figures in files, one for each cell.

    Attributes:
        folder: Where they are.
        made_with: Version of the code and digest of the weights; figures of others are not used.
    """

    folder: Path
    made_with: str

    def path(self, section: str, cell: Cell) -> Path:
        """Return the cell's file; other settings are another file."""
        key = json.dumps([section, cell.name, dict(cell.settings), self.made_with], sort_keys=True)
        return self.folder / f"{section}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def read(self, section: str, cell: Cell) -> Found | None:
        """Return the cell's figures, or None if they are not there or the file is damaged."""
        try:
            stored = json.loads(self.path(section, cell).read_text(encoding="utf-8"))
            return {name: Figure(**figure) for name, figure in stored["figures"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, section: str, cell: Cell, found: Found) -> None:
        """Keep the cell's figures: under another name first, so that no half a file is ever read."""
        path = self.path(section, cell)
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        figures = {name: figure.as_dict() for name, figure in found.items()}
        text = json.dumps({"cell": cell.name, "settings": dict(cell.settings), "figures": figures}, indent=1)
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
