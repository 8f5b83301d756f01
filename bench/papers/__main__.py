"""The papers' tables, measured again: ``python -m bench.papers`` (or ``make papers``) writes docs/papers.md.

With ``--quick``: smaller tables in a few minutes, in output/papers. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import ddim
from demo import DEFAULT_WEIGHTS

from .cells import Store
from .page import measure, write
from .sections import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "output" / "papers"


def made_with() -> str:
    """Return the version of the core and the digest of the demo model's weights."""
    return f"{ddim.__version__} {hashlib.sha256(DEFAULT_WEIGHTS.read_bytes()).hexdigest()}"


def run(quick: bool, folder: Path | None = None, fresh: bool = False, only: str | None = None) -> Path:
    """Measure what is not measured yet, and write the page.

    Args:
        quick: Fewer steps and pictures.
        folder: Of the page; by default docs, for a quick run or a single section output/papers.
        fresh: Measure everything again: after a change of the code, whose version is the same.
        only: Name of a section, which alone is measured and written.
    """
    sections = [section for section in SECTIONS if only in (None, section.name)]
    store = Store(OUTPUT / "cells", made_with())
    if fresh:
        for section in sections:
            for cell in section.cells(quick):
                store.path(section.name, cell).unlink(missing_ok=True)
    results = measure(sections, quick, store)
    return write(sections, results, folder or (OUTPUT if quick or only else ROOT / "docs"))


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the page and say where it is."""
    parser = argparse.ArgumentParser("python -m bench.papers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps and pictures, in a few minutes")
    parser.add_argument("--fresh", action="store_true", help="measure again what an earlier run has measured")
    parser.add_argument("--only", choices=[section.name for section in SECTIONS], help="measure this section alone")
    parser.add_argument("--folder", type=Path, help="folder of the page (default: docs, else output/papers)")
    parsed = parser.parse_args(arguments)
    print(f"written: {run(parsed.quick, parsed.folder, parsed.fresh, parsed.only)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
