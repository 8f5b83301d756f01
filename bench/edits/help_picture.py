"""Draw the picture of DDIM Edit Guidance's help page: ``python -m bench.edits.help_picture``."""

from __future__ import annotations

from bench.edits.__main__ import ROOT, pictures
from bench.edits.methods import METHODS, Prompts
from bench.figures.look import colours
from bench.figures.strips import sheet

SHOWN = {"plain inversion": "ddim", "two edits of this node": "variance_noise, LEDITS++"}


def main() -> None:
    """Draw and save it."""
    before, source, target = (values[:6] for values in pictures(1))
    edits = {label: METHODS[name](Prompts(), before, source, target) for label, name in SHOWN.items()}
    path = ROOT / "web" / "docs" / "pictures" / "edit_guidance.png"
    colours(sheet({"real digits": before, **edits})).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
