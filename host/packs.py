"""Node packs: loading them, the classes they declare, and how `/object_info` describes a class.

A pack is loaded by path exactly as ComfyUI does it: its `__init__.py` is executed under a module name made from the
absolute path (so that only relative imports reach the pack's own files), then `WEB_DIRECTORY`, `NODE_CLASS_MAPPINGS`
and `NODE_DISPLAY_NAME_MAPPINGS` are read. The last two may be lazy, through the module's `__getattr__`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from host.stock_nodes import LoadImage, PreviewImage, SaveImage
from host.strict_json import jsonable

__all__ = [
    "InputSpec",
    "Node",
    "NodeClass",
    "PackError",
    "Registry",
    "find_input",
    "has_live_inputs",
    "input_types",
    "is_output_node",
    "load_pack",
    "load_packs",
    "node_info",
    "node_output_is_list",
    "pack_module_name",
    "stock_registry",
    "visible_inputs",
]

log = logging.getLogger(__name__)

# -- node classes

# Class attributes that `/object_info` lists only where the class has them (the flags: only where they are true).
_OPTIONAL = {
    "output_tooltips": "OUTPUT_TOOLTIPS",
    "api_node": "API_NODE",
    "essentials_category": "ESSENTIALS_CATEGORY",
}
_FLAGS = {"deprecated": "DEPRECATED", "experimental": "EXPERIMENTAL", "dev_only": "DEV_ONLY"}


class Node(Protocol):
    """A node by ComfyUI's V1 conventions. Further class attributes (OUTPUT_NODE, IS_CHANGED, ...) are optional.

    Attributes:
        RETURN_TYPES: The types of the outputs.
        FUNCTION: The name of the method that runs the node.
    """

    RETURN_TYPES: Any
    FUNCTION: str

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """Declare the inputs: {"required": {name: (type, options)}, "optional": ..., "hidden": ...}."""
        ...


NodeClass = type[Node]


class InputSpec(NamedTuple):
    """How a class declares an input.

    Attributes:
        type: A type's name, or a list of choices.
        options: Default, range, tooltip and so on.
        category: "required", "optional" or "hidden".
    """

    type: Any
    options: dict[str, Any]
    category: str


def input_types(node: NodeClass, values: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Return the declared inputs of a class: {"required": {name: (type, options)}, "optional", "hidden"}.

    With a node's values, the inputs of that node, which may be others; see `has_live_inputs`.
    """
    live = getattr(node, "LIVE_INPUT_TYPES", None)
    return node.INPUT_TYPES() if live is None or values is None else live(values)


def has_live_inputs(node: NodeClass) -> bool:
    """Return whether a node's inputs depend on its values, as they do where a choice adds inputs."""
    return hasattr(node, "LIVE_INPUT_TYPES")


def find_input(declared: Mapping[str, Mapping[str, Any]], name: str) -> InputSpec | None:
    """Return the declaration of the input `name` in `input_types(node)`, or None if there is none."""
    for category in ("required", "optional", "hidden"):
        inputs = declared.get(category, {})
        if name in inputs:  # not .get(): some packs use dicts that answer for any name
            return _read_spec(inputs[name], category)
    return None


def _read_spec(spec: Any, category: str) -> InputSpec:
    """Read a type's bare name, as hidden inputs have it, or (type,) or (type, options)."""
    if isinstance(spec, str):
        return InputSpec(spec, {}, category)
    return InputSpec(spec[0], spec[1] if len(spec) > 1 else {}, category)


def visible_inputs(declared: Mapping[str, Mapping[str, Any]]) -> dict[str, InputSpec]:
    """Return the required and optional inputs in order."""
    found: dict[str, InputSpec] = {}
    for category in ("required", "optional"):
        for name, spec in declared.get(category, {}).items():
            found.setdefault(name, _read_spec(spec, category))
    return found


def is_output_node(node: NodeClass) -> bool:
    """Return whether the class ends a graph: its nodes are what a prompt runs for."""
    return getattr(node, "OUTPUT_NODE", False) is True


def node_output_is_list(node: NodeClass) -> list[bool]:
    """Return, for each output of the class, whether it gives a list of values rather than one."""
    return list(getattr(node, "OUTPUT_IS_LIST", [False] * len(node.RETURN_TYPES)))


def node_info(node_id: str, node: NodeClass, display_name: str) -> dict[str, Any]:
    """Return the `/object_info` entry of a class, key for key as ComfyUI 0.33 writes it."""
    declared = input_types(node)
    info = {
        "input": declared,
        "input_order": {category: list(inputs) for category, inputs in declared.items()},
        "is_input_list": getattr(node, "INPUT_IS_LIST", False),
        "output": list(node.RETURN_TYPES),
        "output_is_list": node_output_is_list(node),
        "output_name": list(getattr(node, "RETURN_NAMES", node.RETURN_TYPES)),
        "name": node_id,
        "display_name": display_name,
        "description": getattr(node, "DESCRIPTION", ""),
        "python_module": getattr(node, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": getattr(node, "CATEGORY", "sd"),
        "output_node": is_output_node(node),
        "has_intermediate_output": getattr(node, "HAS_INTERMEDIATE_OUTPUT", False) is True,
        "search_aliases": list(getattr(node, "SEARCH_ALIASES", [])),
    }
    info |= {key: getattr(node, name) for key, name in _OPTIONAL.items() if hasattr(node, name)}
    info |= {key: True for key, name in _FLAGS.items() if getattr(node, name, False)}
    return info


# -- packs


class PackError(Exception):
    """A folder is not a node pack, or its import failed."""


@dataclass(frozen=True)
class Registry:
    """The known node classes by id, their display names, and the packs' folders.

    Attributes:
        nodes: {node id: class}.
        display_names: {node id: the name shown in the editor}.
        web_directories: {pack name: folder served under /extensions/<pack name>/}.
        pack_directories: {pack name: the pack's own folder}.
        is_described: Whether the classes are only described here, and run elsewhere. Then what a description does not
            tell is not judged.
    """

    nodes: Mapping[str, NodeClass]
    display_names: Mapping[str, str]
    web_directories: Mapping[str, Path]
    pack_directories: Mapping[str, Path]
    is_described: bool = False

    def object_info(self, node_id: str) -> dict[str, Any]:
        """Return the `/object_info` entry of one node. Raises KeyError for an unknown id."""
        info: dict[str, Any] = jsonable(
            node_info(node_id, self.nodes[node_id], self.display_names.get(node_id, node_id))
        )
        return info

    def all_object_info(self) -> dict[str, dict[str, Any]]:
        """Return the entries of all nodes; a class whose description fails is logged and left out."""
        entries = {}
        for node_id in self.nodes:
            try:
                entries[node_id] = self.object_info(node_id)
            except Exception:
                log.exception("describing the node %s failed; /object_info leaves it out", node_id)
        return entries


def stock_registry() -> Registry:
    """Return a registry of the host's own three nodes."""
    nodes: dict[str, NodeClass] = {"SaveImage": SaveImage, "PreviewImage": PreviewImage, "LoadImage": LoadImage}
    names = {"SaveImage": "Save Image", "PreviewImage": "Preview Image", "LoadImage": "Load Image"}
    return Registry(nodes, names, {}, {})


def load_packs(paths: Iterable[str | os.PathLike[str]]) -> Registry:
    """Load several packs in addition to the stock nodes. Raises PackError like `load_pack`."""
    registry = stock_registry()
    for path in paths:
        log.info("loading the nodes of %s", path)
        registry = load_pack(path, registry)
    return registry


def load_pack(path: str | os.PathLike[str], base: Registry | None = None) -> Registry:
    """Load the pack at `path` in addition to the nodes of `base` (default: the stock nodes).

    Args:
        path: The pack's folder (with an `__init__.py`) or a single `.py` file.
        base: Nodes that exist already. As in ComfyUI, a pack cannot replace them.

    Raises:
        PackError: There is no pack at `path`, its import failed, or it declares no V1 nodes.
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


def pack_module_name(path: str | os.PathLike[str]) -> str:
    """Return the key of the pack at `path` in `sys.modules`, by ComfyUI's rule."""
    absolute = os.path.abspath(path)
    if os.path.isfile(absolute):
        return os.path.splitext(absolute)[0]
    return absolute.replace(".", "_x_")


def _import_pack(folder: Path) -> ModuleType:
    """Execute the pack's module, or return it if it is loaded already: a second copy would have other classes."""
    source = folder if folder.is_file() else folder / "__init__.py"
    name = pack_module_name(folder)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(source):
        return loaded
    if not source.is_file():
        raise PackError(f"{folder} is not a node pack: it has no __init__.py")
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


def _mapping(module: ModuleType, name: str, folder: Path) -> dict[str, Any] | None:
    """Return the module's mapping `name`, which may be lazy, or None if it has none."""
    try:
        found: dict[str, Any] = getattr(module, name)
        return found
    except Exception as error:
        if isinstance(error, AttributeError) and name in str(error):
            return None
        raise PackError(f"the pack {folder} could not be imported: {type(error).__name__}: {error}") from error


def _web_directory(module: ModuleType, folder: Path, name: str) -> dict[str, Path]:
    """Return {pack name: web folder} if the pack names one that exists."""
    declared = getattr(module, "WEB_DIRECTORY", None)
    if declared is None:
        return {}
    base = folder.parent if folder.is_file() else folder
    web = Path(os.path.abspath(base / declared))
    return {name: web} if web.is_dir() else {}
