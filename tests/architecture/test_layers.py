"""The arrows between the rooms, held by reading the imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STDLIB = set(sys.stdlib_module_names)
ROOMS = ("ddim", "nodes", "host", "demo")

# What a room may import from outside itself, beside the standard library.
OUTSIDE = {
    "ddim": {"torch", "numpy", "safetensors", "triton"},
    "nodes": {"torch", "numpy", "PIL"},
    "host": {"torch", "numpy", "PIL", "aiohttp", "tqdm", "comfyui_frontend_package"},
    "demo": {"torch", "numpy", "safetensors", "ddim", "tqdm", "sklearn", "PIL", "demo"},
}
TRAINING_ONLY = {"sklearn"}
COMFYUI = {"comfy", "comfy_extras", "folder_paths", "server", "latent_preview", "comfy_api", "execution"}


def python_files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(level, module, names) of every import statement, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]


def is_bridge(path: Path) -> bool:
    return path.parent.name == "nodes" and path.name.startswith("bridge")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for path in python_files(room):
        for level, module, _ in imports(path):
            top = module.split(".")[0]
            if level or top in STDLIB or top in OUTSIDE[room] or (room == "host" and top == "host"):
                continue
            assert is_bridge(path) and top in COMFYUI | {"host", "aiohttp"}, (
                f"{path.relative_to(ROOT)} imports {module}"
            )


def test_relative_imports_stay_inside_the_core() -> None:
    for path in python_files("ddim"):
        depth = len(path.relative_to(ROOT / "ddim").parts)
        for level, module, _ in imports(path):
            assert level <= depth, f"{path.relative_to(ROOT)} reaches out of ddim with {'.' * level}{module}"


def test_nodes_take_the_core_from_its_top() -> None:
    """A submodule import would make a second copy of the core, and of DDIMError."""
    for path in python_files("nodes"):
        for level, module, _ in imports(path):
            if level >= 2 and module.split(".")[0] == "ddim":
                assert module == "ddim", f"{path.relative_to(ROOT)} imports {module}; take it from ..ddim"


def test_the_host_knows_no_pack_from_inside() -> None:
    for path in python_files("host"):
        for level, module, _ in imports(path):
            depth = len(path.relative_to(ROOT / "host").parts)
            assert level <= depth, f"{path.relative_to(ROOT)} reaches out of host"
            assert module.split(".")[0] not in {"nodes", "ddim", "demo"}, path


def test_only_training_and_measuring_need_scikit_learn() -> None:
    for path in python_files("demo"):
        if path.name in {"data.py", "train.py", "judge.py"}:
            continue
        assert not {module.split(".")[0] for _, module, _ in imports(path)} & TRAINING_ONLY, path


def test_the_door_imports_nothing_at_load_time() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and (node.module or "") in STDLIB
        assert not isinstance(node, ast.Import) or node.names[0].name in STDLIB
