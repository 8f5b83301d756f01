"""House rules that a machine can hold: size, docstrings, safety, one version, no machine's paths."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import tomllib

import ddim

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ddim", "nodes", "host", "demo", "bench", "tasks")
CODE = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
SCRIPTS = [path for path in sorted((ROOT / "web").rglob("*")) if path.suffix in {".js", ".mjs"}]
MAX_LINES = 300
MAX_FILES_OF_A_FOLDER = 12
MAX_LINES_OF_A_FUNCTION = 50  # without its docstring, which says shapes, ranges and errors


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_files_stay_short() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in CODE + SCRIPTS}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


def test_folders_stay_small() -> None:
    counts: dict[str, int] = {}
    for path in CODE:
        if path.name != "__init__.py":
            counts[str(path.parent.relative_to(ROOT))] = counts.get(str(path.parent.relative_to(ROOT)), 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MAX_FILES_OF_A_FOLDER} == {}


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_functions_stay_short() -> None:
    long = {}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = lines_of_code(node)
                if lines > MAX_LINES_OF_A_FUNCTION:
                    long[f"{path.relative_to(ROOT)}: {node.name}"] = lines
    assert long == {}


def test_every_public_name_of_the_core_is_documented() -> None:
    for name in ddim.__all__:
        value = getattr(ddim, name)
        if callable(value) and not isinstance(value, type(None)):
            assert (value.__doc__ or "").strip(), f"ddim.{name} has no docstring"


# They take settings by name, and refuse a name that is none.
CHECK_THEIR_KEYWORDS = {"from_config", "from_pretrained", "register_to_config"}


def test_public_functions_take_no_catch_all_keywords() -> None:
    for path in sorted((ROOT / "ddim").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                if node.name in CHECK_THEIR_KEYWORDS:
                    continue
                assert node.args.kwarg is None, f"{path.name}: {node.name} swallows keywords"


@pytest.mark.parametrize("call", ["eval", "exec", "compile"])
def test_nothing_is_evaluated(call: str) -> None:
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != call, path


def test_nothing_is_unpickled() -> None:
    pattern = re.compile(
        r"\btorch\.load\(|\bpickle\.loads?\(|allow_pickle=True|\bmarshal\.loads\(|\bdill\b|\bjoblib\.load"
    )
    for path in CODE:
        assert not pattern.search(path.read_text()), path


def test_versions_agree() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert newest is not None and newest.group(1) == ddim.__version__


def test_both_lists_of_requirements_agree() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    listed = [line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert sorted(line for line in listed if line and not line.startswith("#")) == sorted(declared)


def test_no_path_of_a_machine_is_in_the_tree() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:work|root|farm)/")
    for path in tracked_files():
        if path.suffix in {".png", ".jpg", ".safetensors", ".webp", ".gif"} or path == Path(__file__):
            continue
        found = pattern.search(path.read_text(encoding="utf-8", errors="ignore"))
        assert not found, f"{path.relative_to(ROOT)}: {found.group(0) if found else ''}"


def test_the_core_is_packaged_whole_and_alone() -> None:
    """A wheel with a top-level ``nodes`` or ``host`` would get in the way of ComfyUI's own modules."""
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = {str(init.parent.relative_to(ROOT)).replace("/", ".") for init in (ROOT / "ddim").rglob("__init__.py")}
    assert set(packaged) == rooms
