"""The node classes a host knows, and how a pack becomes one of its sources.

A pack is loaded by path exactly as ComfyUI does it: its `__init__.py` is executed under a module name made
from the absolute path (so only relative imports reach the pack's own files), then `WEB_DIRECTORY`,
`NODE_CLASS_MAPPINGS` and `NODE_DISPLAY_NAME_MAPPINGS` are asked for. The last two may be lazy, through the
module's `__getattr__`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from host.object_info import NodeClass, node_info
from host.payload import jsonable

__all__ = ["PackError", "Registry", "load_pack", "pack_module_name", "stock_registry"]

log = logging.getLogger(__name__)


class PackError(Exception):
    """A folder that is no node pack, or whose import failed."""


@dataclass(frozen=True)
class Registry:
    """Every node class by id, what it is called, and the web folders of the packs.

    Attributes:
        nodes: {node id: class}.
        display_names: {node id: the name shown to people}.
        web_directories: {pack name: folder served under /extensions/<pack name>/}.
        pack_directories: {pack name: the pack's own folder}.
    """

    nodes: Mapping[str, NodeClass]
    display_names: Mapping[str, str]
    web_directories: Mapping[str, Path]
    pack_directories: Mapping[str, Path]

    def object_info(self, node_id: str) -> dict[str, Any]:
        """Return the `/object_info` entry of one node. Raises KeyError for an unknown id."""
        return jsonable(node_info(node_id, self.nodes[node_id], self.display_names.get(node_id, node_id)))

    def all_object_info(self) -> dict[str, dict[str, Any]]:
        """Return the entries of all nodes; a class whose description fails is logged and left out."""
        entries = {}
        for node_id in self.nodes:
            try:
                entries[node_id] = self.object_info(node_id)
            except Exception:
                log.exception("the node %s cannot describe its inputs", node_id)
        return entries


def stock_registry() -> Registry:
    """Return a registry of the host's own three nodes."""
    from host.stock_nodes import DISPLAY_NAMES, NODES

    return Registry(dict(NODES), dict(DISPLAY_NAMES), {}, {})


def load_pack(path: str | os.PathLike, base: Registry | None = None) -> Registry:
    """Load the pack at `path` beside the nodes of `base` (default: the stock nodes).

    Args:
        path: The pack's folder (with an `__init__.py`) or a single `.py` file.
        base: Nodes that exist already. As in ComfyUI, a pack cannot replace them.

    Raises:
        PackError: There is no pack there, its import failed, or it declares no V1 nodes.
    """
    base = stock_registry() if base is None else base
    folder = Path(os.path.abspath(path))
    module = _import_pack(folder)
    nodes = _mapping(module, "NODE_CLASS_MAPPINGS", folder)
    if nodes is None:
        raise PackError(f"{folder} declares no NODE_CLASS_MAPPINGS; this host runs V1 node classes")
    name = folder.stem if folder.is_file() else folder.name
    added = {node_id: node for node_id, node in nodes.items() if node_id not in base.nodes}
    for node in added.values():
        node.RELATIVE_PYTHON_MODULE = f"custom_nodes.{name}"
    titles = _mapping(module, "NODE_DISPLAY_NAME_MAPPINGS", folder) or {}
    return Registry(
        {**base.nodes, **added},
        {**base.display_names, **titles},
        {**base.web_directories, **_web_directory(module, folder, name)},
        {**base.pack_directories, name: folder},
    )


def pack_module_name(path: str | os.PathLike) -> str:
    """Return the name under which the pack at `path` stands in `sys.modules`: ComfyUI's rule."""
    absolute = os.path.abspath(path)
    if os.path.isfile(absolute):
        return os.path.splitext(absolute)[0]
    return absolute.replace(".", "_x_")


def _import_pack(folder: Path) -> ModuleType:
    """Execute the pack's module, or return it if this process has it: a copy has classes of its own."""
    source = folder if folder.is_file() else folder / "__init__.py"
    name = pack_module_name(folder)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(source):
        return loaded
    if not source.is_file():
        raise PackError(f"{folder} is no node pack: it has no __init__.py")
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PackError(f"the pack {folder} could not be imported: {type(error).__name__}: {error}") from error
    return module


def _mapping(module: ModuleType, name: str, folder: Path) -> dict | None:
    """Return the module's mapping `name`, opening a lazy door, or None if it has none."""
    try:
        return getattr(module, name)
    except Exception as error:
        if isinstance(error, AttributeError) and name in str(error):
            return None
        raise PackError(f"the pack {folder} could not be imported: {type(error).__name__}: {error}") from error


def _web_directory(module: ModuleType, folder: Path, name: str) -> dict[str, Path]:
    """Return {pack name: web folder} where the pack names one that exists."""
    declared = getattr(module, "WEB_DIRECTORY", None)
    if declared is None:
        return {}
    base = folder.parent if folder.is_file() else folder
    web = Path(os.path.abspath(base / declared))
    return {name: web} if web.is_dir() else {}
