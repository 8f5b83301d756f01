"""A hook of MkDocs: pages of the site that are written elsewhere in the repository.

README is the first page, and the help pages of the nodes (``web/docs``) are the section "Nodes": each text is written
once. A link to another page of the site is made to point there; one to a file that is no page becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).resolve().parents[2]
HELP = "web/docs"
# A file of the repository, and the page of the site that it becomes.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "contributing/changelog.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "SECURITY.md": "contributing/security.md",
    "bench/README.md": "contributing/measurements.md",
}
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def sources() -> dict[str, str]:
    """Every file outside of ``docs/`` that the site shows: its path in the repository, and in the site."""
    helped = {
        path.relative_to(ROOT).as_posix(): f"nodes/{path.relative_to(ROOT / HELP).as_posix()}"
        for path in [*sorted((ROOT / HELP).glob("*.md")), *sorted((ROOT / HELP / "pictures").iterdir())]
    }
    return ELSEWHERE | helped


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that lie outside of ``docs/``, and to the navigation the nodes that it does not name."""
    for source, page in sources().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    (nodes,) = (section["Nodes"] for section in config.nav or [] if "Nodes" in section)
    listed = {page for entry in nodes if isinstance(entry, dict) for page in entry.values()}
    nodes += [page for page in sources().values() if page.startswith("nodes/DDIM") and page not in listed]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page those of the site."""
    placed = sources()
    origin = {there: here for here, there in placed.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(link: re.Match[str]) -> str:
        target, _, anchor = link["target"].partition("#")
        if not target or ":" in target:
            return link[0]
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        there = placed.get(inside) or inside.removeprefix("docs/")
        if files.get_file_from_path(there) is None:
            if (ROOT / inside).exists() and not link["picture"]:
                return link["text"]
            return link[0]  # a broken link: MkDocs names it
        address = posixpath.relpath(there, posixpath.dirname(page.file.src_uri))
        return f"{link['picture']}[{link['text']}]({address}{'#' + anchor if anchor else ''})"

    return _outside_code(markdown, lambda text: _LINK.sub(moved, text))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Change what is not code."""
    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])
