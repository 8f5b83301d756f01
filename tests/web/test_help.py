"""Every node has a help page that names its inputs and outputs and shows a picture that is there."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "web" / "docs"
TRANSLATED = ("DDIMSchedule", "DDIMScheduleFromConfig", "DDIMSample", "DDIMInvert")
LANGUAGES = ("zh", "ja")


def pages(node_id: str) -> list[Path]:
    translated = [DOCS / node_id / f"{language}.md" for language in LANGUAGES] if node_id in TRANSLATED else []
    return [DOCS / f"{node_id}.md", *translated]


def test_every_node_has_a_page_that_names_every_input_and_output(pack):
    for node_id, node in pack.NODE_CLASS_MAPPINGS.items():
        declared = node.INPUT_TYPES()
        names = [*declared.get("required", {}), *declared.get("optional", {}), *node.RETURN_NAMES]
        for page in pages(node_id):
            told = page.read_text(encoding="utf-8")
            assert told.startswith("# ")
            missing = [name for name in names if f"`{name}`" not in told]
            assert not missing, f"{page.relative_to(DOCS)} does not mention {missing}"


def test_every_page_is_of_a_node_and_shows_pictures_that_are_there(pack):
    found = sorted(DOCS.rglob("*.md"))
    assert found == sorted(page for node_id in pack.NODE_CLASS_MAPPINGS for page in pages(node_id))
    shown = set()
    for page in found:
        # The editor resolves a page's addresses against the docs folder, in every language.
        links = re.findall(r"!\[([^]]+)]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        assert links, page
        for words, address in links:
            assert words.strip() and (DOCS / address).is_file(), (page, address)
            shown.add(address)
    assert shown == {f"pictures/{path.name}" for path in (DOCS / "pictures").iterdir()}


def test_pages_have_no_tables(pack):
    """In the panel, 300 pixels wide, the columns of a table hold a word each."""
    for page in DOCS.rglob("*.md"):
        assert not re.search(r"^\|", page.read_text(encoding="utf-8"), re.MULTILINE), page


def test_pictures_are_pictures_and_small():
    for path in (DOCS / "pictures").iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert image.width in range(600, 612), "twice the width of the help panel"
            assert "transparency" in image.info, "the panel may be light or dark"
        assert path.stat().st_size < 60_000, path
