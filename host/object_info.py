"""A node class described as ComfyUI's `/object_info` does, which is what frontends and clients read."""

from __future__ import annotations

from typing import Any

__all__ = ["NodeClass", "find_input", "input_types", "node_info", "node_output_is_list"]

# A class by ComfyUI's conventions: INPUT_TYPES(), RETURN_TYPES, FUNCTION, CATEGORY and more.
NodeClass = Any

# Attributes of a class that appear under their own key only where the class has them (the flags: where true).
_OPTIONAL = {
    "output_tooltips": "OUTPUT_TOOLTIPS",
    "api_node": "API_NODE",
    "essentials_category": "ESSENTIALS_CATEGORY",
}
_FLAGS = {"deprecated": "DEPRECATED", "experimental": "EXPERIMENTAL", "dev_only": "DEV_ONLY"}


def input_types(node: NodeClass) -> dict[str, dict[str, tuple]]:
    """Return the declared inputs of a class: {"required": {name: (type, options)}, "optional", "hidden"}."""
    return node.INPUT_TYPES()


def find_input(declared: dict[str, dict], name: str) -> tuple[Any, str, dict] | None:
    """Return (type, category, options) of the input `name` in `input_types(node)`, or None if it has none."""
    for category in ("required", "optional", "hidden"):
        inputs = declared.get(category, {})
        if name in inputs:  # not .get: packs offer dicts that answer for any name
            spec = inputs[name]
            if isinstance(spec, str):  # hidden inputs are declared by a bare name
                return spec, category, {}
            return spec[0], category, spec[1] if len(spec) > 1 else {}
    return None


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
        "output_node": getattr(node, "OUTPUT_NODE", False) is True,
        "has_intermediate_output": getattr(node, "HAS_INTERMEDIATE_OUTPUT", False) is True,
        "search_aliases": list(getattr(node, "SEARCH_ALIASES", [])),
    }
    info |= {key: getattr(node, name) for key, name in _OPTIONAL.items() if hasattr(node, name)}
    info |= {key: True for key, name in _FLAGS.items() if getattr(node, name, False)}
    return info
