"""The page: its sections, measured cell by cell and written as Markdown beside their plots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from tqdm import tqdm

from .cells import Cell, Found, Results, Section, Store

__all__ = ["measure", "wrapped", "write"]

WIDTH = 120

INTRODUCTION = """\
# The papers' tables, in the small

What the papers claim about quality, measured again on two processor cores: on the demo model of handwritten digits
and, where it can be done, in closed form. `make papers` measures everything, within an hour, and writes this page;
`make papers ARGUMENTS=--quick` takes some minutes and writes smaller tables to `output/papers`. Both can be stopped
and go on where they were.

Every figure has its number of samples and an interval, and all seeds are fixed. The papers' own figures stand beside.
They are of other data and larger networks: compare the shape, not the numbers. Where the shape differs, the page says
so."""


def measure(sections: Sequence[Section], quick: bool, store: Store) -> dict[str, Results]:
    """Measure every cell that is not in the store, with one progress bar over all; what is measured is kept at once."""
    work = [(section, cell) for section in sections for cell in section.cells(quick)]
    found: dict[str, dict[str, Found]] = {section.name: {} for section in sections}
    with tqdm(total=sum(cell.cost for _, cell in work), unit="picture", unit_scale=True, smoothing=0.02) as bar:
        for section, cell in work:
            bar.set_description(f"{section.name} {cell.name}")
            found[section.name][cell.name] = _figures(section.name, cell, store, bar)
    return dict(found)


def _figures(section: str, cell: Cell, store: Store, bar: tqdm[None]) -> Found:
    """Return a cell's figures, and move the bar to its end: a cell's cost is an estimate."""
    end = bar.n + cell.cost
    found = store.read(section, cell)
    if found is None:
        found = cell.measure(lambda passed: bar.update(min(passed, end - bar.n)) and None)
        store.write(section, cell, found)
    bar.update(end - bar.n)
    return found


def write(sections: Sequence[Section], results: dict[str, Results], folder: Path) -> Path:
    """Write ``papers.md`` and ``images/papers_*.png`` into a folder; return the page."""
    parts = [INTRODUCTION]
    for section in sections:
        picture = f"images/papers_{section.name}.png"
        section.draw(results[section.name], folder / picture)
        parts.append(f"## {section.title}\n\n{section.text(results[section.name])}\n\n![{section.caption}]({picture})")
    text = "\n\n".join(map(wrapped, "\n\n".join(parts).split("\n\n")))
    page = folder / "papers.md"
    unfinished = page.with_suffix(".tmp")
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, page)
    return page


def wrapped(block: str) -> str:
    """Wrap a paragraph, or each entry of a list, at 120 characters; tables, headings and pictures stay as they are."""
    if block.startswith(("|", "#", "!")):
        return block
    if not block.startswith("- "):
        return fill(block, WIDTH, break_long_words=False, break_on_hyphens=False)
    entries = block.removeprefix("- ").split("\n- ")
    return "\n".join(
        fill(entry, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for entry in entries
    )
