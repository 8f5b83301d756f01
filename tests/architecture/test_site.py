"""The documentation site builds without a warning, shows every public name and node, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

import ddim

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)]
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **quiet}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""
    return built


class Loaded(HTMLParser):
    """The addresses that a page loads by itself; links that a reader may follow do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = "src" if tag in {"img", "script", "iframe", "source", "video"} else "href" if tag == "link" else None
        self.addresses += [value for name, value in attrs if name == named and value]


def test_every_page_of_the_repository_is_on_the_site(site: Path, pack: ModuleType) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    pages |= {Path("nodes") / f"{node_id}.html" for node_id in pack.NODE_CLASS_MAPPINGS}
    pages |= {Path("index.html")} | {
        Path(f"contributing/{name}.html") for name in ("index", "changelog", "measurements", "security")
    }
    assert [str(page) for page in sorted(pages) if not (site / page).is_file()] == []


def test_the_reference_shows_every_public_name_once(site: Path) -> None:
    shown = [
        name
        for page in sorted((ROOT / "docs/reference").glob("*.md"))
        for name in re.findall(r"^::: ddim\.(\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(shown) == sorted(ddim.__all__)
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    assert [name for name in ddim.__all__ if f'id="ddim.{name}"' not in text] == []
    assert re.findall(r":(?:class|func|meth|data):", text) == []


def test_pages_load_nothing_from_elsewhere_and_everything_that_they_show_is_there(site: Path) -> None:
    for page in sorted(site.rglob("*.html")):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        for address in loaded.addresses:
            assert not address.startswith(("http:", "https:", "//")), (page.name, address)
            target = address.partition("?")[0].partition("#")[0]
            if page.name != "404.html" and not target.startswith("data:"):
                assert (page.parent / target).exists(), (page.name, address)


def test_the_help_pages_pictures_and_links_are_those_of_the_site(site: Path) -> None:
    page = (site / "nodes/DDIMSample.html").read_text(encoding="utf-8")
    assert re.search(r'<img [^>]*src="pictures/sample.png"', page)
    readme = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="recipes.html"' in readme and "docs/" not in re.findall(r'href="([^"#]*)"', readme)
