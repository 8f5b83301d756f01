"""The structure of the host's code: what imports what, and how large things are. Lazy imports count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "host").rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_FOLDER_FILES = 13  # a dozen, and __init__.py


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported_modules(path: Path) -> Iterator[str]:
    """The host's modules that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in submodules)


IMPORTS = {name: set(imported_modules(path)) - {name} for name, path in MODULES.items()}


def test_no_circle_between_files():
    assert len(MODULES) > 50 and IMPORTS["host.cli.run"] >= {"host.context", "host.validation"}
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which names the circle


def test_no_circle_between_folders():
    """In every package, the imports between its files and sub-packages form no circle."""
    for package in {name.rpartition(".")[0] for name in MODULES} - {""}:
        depth = package.count(".") + 2
        graph: dict[str, set[str]] = {}
        for name, imports in IMPORTS.items():
            if name.startswith(package + "."):
                part = ".".join(name.split(".")[:depth])
                others = {".".join(other.split(".")[:depth]) for other in imports if other.startswith(package + ".")}
                graph.setdefault(part, set()).update(others - {part})
        TopologicalSorter(graph).prepare()


def test_validation_does_not_import_execution():
    for name, imports in IMPORTS.items():
        if name.startswith("host.validation"):
            assert not any(other.startswith("host.execution") for other in imports), name


def test_files_and_functions_are_short():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MAX_FILE_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, f"{path}: {node.name}"


def test_folders_are_small():
    for folder in {path.parent for path in FILES}:
        assert len(list(folder.glob("*.py"))) <= MAX_FOLDER_FILES, folder
