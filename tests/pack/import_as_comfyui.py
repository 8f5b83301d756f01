"""Loads a pack as ComfyUI does, with stand-ins for ComfyUI's modules, and prints what came out, as JSON.

A process of its own: nothing of the repository may be loaded before. The argument is the folder of the pack.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

STAND_INS = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "server"}
ROUTES: list[str] = []


class StandIn(ModuleType):
    """Any attribute is a class of its own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (), {})
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for every module of ComfyUI."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = name.partition(".")[0] in STAND_INS
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class Routes:
    """Notes what a pack adds to the server."""

    def route(self, method: str, path: str) -> Any:
        ROUTES.append(f"{method} {path}")
        return lambda handler: handler


def prepare() -> None:
    """What ComfyUI has loaded before it loads its packs."""
    sys.meta_path.insert(0, Finder())
    importlib.import_module("comfy.samplers")
    server = importlib.import_module("server")
    server.PromptServer.instance = type("Instance", (), {"routes": Routes()})()  # type: ignore[attr-defined]
    folders = importlib.import_module("folder_paths")
    for name in ("input", "output", "temp", "user"):
        setattr(folders, f"get_{name}_directory", lambda: ".")
    folders.models_dir = "."  # type: ignore[attr-defined]


def load(folder: Path) -> ModuleType:
    """The steps of ComfyUI's ``load_custom_node``: the module's name is its path, with no dots in it."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Load the pack and describe it."""
    prepare()
    folder = Path(sys.argv[1])
    pack = load(folder)
    nodes = pack.NODE_CLASS_MAPPINGS
    for node in nodes.values():
        node.INPUT_TYPES()
    backend = sys.modules[f"{pack.__name__}.nodes.backend"].current()
    found = {
        "nodes": sorted(nodes),
        "names": sorted(pack.NODE_DISPLAY_NAME_MAPPINGS),
        "web": (folder / pack.WEB_DIRECTORY / "ddim.js").is_file(),
        "backend": type(backend).__name__,
        "routes": ROUTES,
        "from outside": sorted({"host", "ddim", "demo", "nodes", "tests"} & set(sys.modules)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
