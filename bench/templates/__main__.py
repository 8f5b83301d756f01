"""Write every example workflow and blueprint again: ``python -m bench.templates``."""

from __future__ import annotations

import json
from pathlib import Path

from bench.templates import checkpoints, demo_basics, demo_edits, demo_emoji, demo_inversion
from bench.templates.blueprints import BLUEPRINTS, blueprint_of
from bench.templates.written import workflow_of

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = tuple(
    each for module in (demo_basics, demo_edits, demo_inversion, demo_emoji, checkpoints) for each in module.TEMPLATES
)


def documents() -> dict[Path, str]:
    """Return the text of every file, by its path."""
    files = {ROOT / "example_workflows" / f"{each.name}.json": workflow_of(each) for each in TEMPLATES}
    files |= {ROOT / "subgraphs" / f"{each.name}.json": blueprint_of(each) for each in BLUEPRINTS}
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for path, content in files.items()}


def main() -> None:
    """Write the files."""
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
