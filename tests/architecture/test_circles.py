"""Files and folders import in one direction: no circle, however late an import is made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ddim", "nodes", "host", "demo", "bench", "tasks")


def files_of(package: str) -> dict[str, Path]:
    """Modules by dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(name: str, path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, relative imports resolved, wherever the statement stands.

    Imports for type checkers only count as well: they are the same knowledge.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def graph_of(package: str) -> dict[str, set[str]]:
    """Which file of a package imports which other file of it."""
    files = files_of(package)
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for imported in imported_names(name, path):
            # `from .a import b` names the module a.b, or b in the module a
            target = next((each for each in (imported, imported.rpartition(".")[0]) if each in files), None)
            if target is not None and target != name:
                graph[name].add(target)
    return graph


def graph_inside(folder: str, graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports between the files and subfolders that lie in one folder."""

    def child(name: str) -> str | None:
        rest = name.removeprefix(f"{folder}.")
        return f"{folder}.{rest.partition('.')[0]}" if rest != name else None

    grouped: dict[str, set[str]] = {}
    for name, targets in graph.items():
        own = child(name)
        if own is not None:
            others = {child(each) for each in targets} - {own, None}
            grouped.setdefault(own, set()).update(each for each in others if each is not None)
    return grouped


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or nothing."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            found = visit(target, [*way, name])
            if found:
                return found
        done.add(name)
        return []

    for start in sorted(graph):
        found = visit(start, [])
        if found:
            return found
    return []


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c", "a"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_files_import_in_one_direction(package: str) -> None:
    graph = graph_of(package)
    assert len(graph) < 3 or any(graph.values())
    assert circle_in(graph) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_what_lies_in_a_folder_imports_in_one_direction(package: str) -> None:
    graph = graph_of(package)
    folders = {package, *(name.rpartition(".")[0] for name in graph if name.count(".") > 0)}
    for folder in sorted(folders):
        assert circle_in(graph_inside(folder, graph)) == [], folder
