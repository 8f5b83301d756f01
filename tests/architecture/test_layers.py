"""The arrows between the rooms, held by reading the imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STDLIB = set(sys.stdlib_module_names)
ROOMS = ("ddim", "nodes", "host", "demo", "tasks")

# What a room may import from outside itself, beside the standard library.
OUTSIDE = {
    "ddim": {"torch", "numpy", "safetensors", "triton"},
    "nodes": {"torch", "PIL"},
    "host": {"torch", "numpy", "PIL", "aiohttp", "tqdm", "comfyui_frontend_package"},
    "demo": {"torch", "numpy", "safetensors", "ddim", "tqdm", "sklearn", "PIL", "demo"},
    "tasks": set(),  # it makes the environment that everything else is installed in
}
TRAINING_ONLY = {"sklearn"}
# Libraries that all else works without: each is imported by few files, when these, or what needs them, are asked for.
OPTIONAL = {
    "ddim/schedule/flow_sigmas.py": {"scipy"},
    "ddim/diffusers.py": {"diffusers"},
    "host/workers/ray_actor.py": {"ray"},
    "host/workers/ray_connection.py": {"ray"},
    "host/workers/ray_engine.py": {"ray"},
    "host/workers/ray_pool.py": {"ray"},
}
COMFYUI = {
    "comfy",
    "comfy_execution",
    "comfy_extras",
    "folder_paths",
    "server",
    "latent_preview",
    "comfy_api",
    "execution",
}


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


# The files of the nodes that may name a host, and what they may import for it. aiohttp is the server of both hosts.
HOST_BORDER = {
    "nodes/backend/comfyui.py": COMFYUI,
    "nodes/backend/comfyui_levels.py": COMFYUI,
    "nodes/backend/comfyui_sampling.py": COMFYUI,
    "nodes/backend/embedded.py": {"host"},
    "nodes/backend/contract.py": {"aiohttp"},
    "nodes/editor/http.py": {"aiohttp"},
}

FOR_NODES = {"values", "inputs", "backend", "editor"}
# What a part of the nodes may import from the other parts. A file that is not listed holds nodes.
NODE_PARTS = {
    "values": set(),
    "inputs": {"values"},
    "backend": {"values"},
    "editor": {"backend", "inputs", "values"},
    "schedules": FOR_NODES,
    "running": {"backend", "values"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for path in python_files(room):
        name = path.relative_to(ROOT).as_posix()
        allowed = STDLIB | OUTSIDE[room] | HOST_BORDER.get(name, set()) | OPTIONAL.get(name, set())
        allowed |= {"host"} if room == "host" else set()
        for level, module, _ in imports(path):
            assert level or module.split(".")[0] in allowed, f"{name} imports {module}"


def node_part(path: Path) -> str:
    """The first name below ``nodes``: a package, or a file without its ending."""
    return path.relative_to(ROOT / "nodes").parts[0].removesuffix(".py")


def imported_parts(path: Path) -> Iterator[str]:
    """What a file of the nodes imports from other parts, as ``part`` or, from inside a part, ``part.module``."""
    depth = len(path.relative_to(ROOT / "nodes").parts)
    for level, module, names in imports(path):
        if level == depth:
            yield from [module] if module else names


@pytest.mark.parametrize("path", python_files("nodes"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_parts_of_the_nodes_import_each_other_one_way_and_from_the_top(path: Path) -> None:
    part = node_part(path)
    if part == "__init__":
        return  # the list of all nodes
    allowed = NODE_PARTS.get(part, FOR_NODES | {"schedules", "running"})
    found = set(imported_parts(path))
    assert found <= allowed, f"{part} imports {sorted(found - allowed)}"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of this repository that a file imports, wherever the import stands."""
    package = [*path.relative_to(ROOT).parent.parts]
    for level, module, names in imports(path):
        base = package[: len(package) - level + 1] if level else []
        target = ".".join([*base, *filter(None, [module])])
        submodules = {f"{target}.{name}" for name in names} & known
        yield from submodules or ({target} & known)


def a_circle(edges: dict[str, set[str]]) -> list[str] | None:
    """Modules that import each other in a circle, or None."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        for imported in sorted(edges[module]):
            if circle := visit(imported, [*trail, module]):
                return circle
        done.add(module)
        return None

    return next((circle for module in sorted(edges) if (circle := visit(module, []))), None)


@pytest.mark.parametrize("room", ["nodes"])
def test_no_module_imports_itself_in_a_circle(room: str) -> None:
    files = {module_name(path): path for path in python_files(room)}
    edges = {module: set(imported_modules(path, set(files))) - {module} for module, path in files.items()}
    assert sum(map(len, edges.values())) > len(files)  # or else the imports were not understood
    assert a_circle(edges) is None


def test_a_circle_is_found() -> None:
    assert a_circle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert a_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_relative_imports_stay_inside_the_core() -> None:
    for path in python_files("ddim"):
        depth = len(path.relative_to(ROOT / "ddim").parts)
        for level, module, _ in imports(path):
            assert level <= depth, f"{path.relative_to(ROOT)} reaches out of ddim with {'.' * level}{module}"


def test_nodes_import_the_core_and_the_demo_from_their_tops() -> None:
    """A submodule import would make a second copy of the core, and of DDIMError."""
    for path in python_files("nodes"):
        depth = len(path.relative_to(ROOT / "nodes").parts)
        for level, module, _ in imports(path):
            assert level <= depth + 1, f"{path.relative_to(ROOT)} reaches out of the pack"
            if level == depth + 1:
                assert module in {"ddim", "demo"}, f"{path.relative_to(ROOT)} imports {module}; take it from its top"


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
