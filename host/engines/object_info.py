"""Node classes made from an engine's `/object_info`, so that workflows of any pack can be read and checked here.

Only the declarations are here; the nodes run in the engine. What a description does not tell is left to the engine: a
prompt that it would accept is never refused here. So the choices of packs, which may check values with code of their
own, and lists of files, which may be uploaded, are open; types that a pack invented may be constants or links.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from host.context import folders
from host.engines.contract import EngineError
from host.error_format import show
from host.folders import FolderError
from host.packs import NodeClass, Registry
from host.strict_json import nests_deeper_than

__all__ = ["registry_from"]

_MAX_CLASSES = 50_000
_MAX_INPUTS = 2000  # of one class, and of one node with what its values add
_MAX_DEPTH = 40  # nested lists and objects in a description
_CATEGORIES = ("required", "optional", "hidden")

# Modules of ComfyUI itself, whose choices are judged: with few exceptions it accepts exactly what it lists.
_JUDGED_MODULES = ("nodes", "comfy_extras.", "comfy_api_nodes.")
_FILE_OPTIONS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload", "file_upload", "remote")

# Inputs of ComfyUI's V3 nodes that stand for others, and a type that matches whatever it is linked to.
_DYNAMIC_COMBO, _AUTOGROW, _DYNAMIC_SLOT = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3"
_MATCH_TYPE, _ANY_TYPE = "COMFY_MATCHTYPE_V3", "*"
_MAX_GROWN = 100  # inputs of one autogrow input, as in ComfyUI

# /object_info's key: the class attribute that it comes from. Those that a class does not have are not set.
_ATTRIBUTES = {
    "output_name": "RETURN_NAMES",
    "description": "DESCRIPTION",
    "category": "CATEGORY",
    "python_module": "RELATIVE_PYTHON_MODULE",
    "output_tooltips": "OUTPUT_TOOLTIPS",
    "search_aliases": "SEARCH_ALIASES",
    "is_input_list": "INPUT_IS_LIST",
    "deprecated": "DEPRECATED",
    "experimental": "EXPERIMENTAL",
    "api_node": "API_NODE",
    "dev_only": "DEV_ONLY",
    "essentials_category": "ESSENTIALS_CATEGORY",
    "has_intermediate_output": "HAS_INTERMEDIATE_OUTPUT",
}

Declared = dict[str, dict[str, Any]]


class _OpenChoices(list[Any]):
    """Choices that are not all: the engine decides about any other value."""

    def __contains__(self, value: object) -> bool:
        return True


class _Choices(list[Any]):
    """Choices that are all, except for files that will be uploaded."""

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or (isinstance(value, str) and _is_input_file(value))


class _EngineNode:
    """A node class that is known by its description only."""

    RETURN_TYPES: tuple[Any, ...] = ()
    FUNCTION = ""
    DECLARED: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    @classmethod
    def INPUT_TYPES(cls) -> Declared:
        """Return the inputs that every node of this class has."""
        return _expand(cls.DECLARED, None)

    @classmethod
    def LIVE_INPUT_TYPES(cls, values: Mapping[str, Any]) -> Declared:
        """Return the inputs of a node with these values, with those that a choice or a link adds."""
        return _expand(cls.DECLARED, values)


def registry_from(object_info: Any) -> Registry:
    """Return the classes that an engine describes.

    Args:
        object_info: What `Engine.object_info` returns. It is checked: an engine may be another machine's program.

    Raises:
        EngineError: It is no description of node classes.
    """
    if not isinstance(object_info, Mapping) or not object_info:
        raise EngineError(f"expected a description of node classes, got {show(object_info)}")
    if len(object_info) > _MAX_CLASSES:
        raise EngineError(f"the engine describes {len(object_info)} node classes; at most {_MAX_CLASSES} are read")
    nodes: dict[str, NodeClass] = {}
    names: dict[str, str] = {}
    for node_id, info in object_info.items():
        if not isinstance(node_id, str) or not isinstance(info, Mapping) or not isinstance(info.get("input"), Mapping):
            raise EngineError(f"the engine's description of the node class {show(node_id)} is none: {show(info)}")
        if nests_deeper_than(dict(info), _MAX_DEPTH):
            raise EngineError(f"the engine's description of the node class {show(node_id)} nests too deeply")
        nodes[node_id] = _node_class(info)
        if isinstance(info.get("display_name"), str):
            names[node_id] = info["display_name"]
    return Registry(nodes, names, {}, {}, is_described=True)


def _node_class(info: Mapping[str, Any]) -> NodeClass:
    module = info.get("python_module")
    judged = isinstance(module, str) and module.startswith(_JUDGED_MODULES)
    outputs = info.get("output")
    types = [_output_type(output) for output in outputs] if isinstance(outputs, list) else []
    attributes: dict[str, Any] = {
        "RETURN_TYPES": tuple(types),
        "OUTPUT_NODE": info.get("output_node") is True,
        "DECLARED": _declared(info["input"], judged=judged),
    }
    are_lists = info.get("output_is_list")
    if isinstance(are_lists, list) and len(are_lists) == len(types):
        attributes["OUTPUT_IS_LIST"] = [bool(is_list) for is_list in are_lists]
    attributes |= {attribute: info[key] for key, attribute in _ATTRIBUTES.items() if info.get(key) is not None}
    return type("EngineNode", (_EngineNode,), attributes)


def _output_type(output: Any) -> Any:
    return _ANY_TYPE if output == _MATCH_TYPE or not isinstance(output, (str, list)) else output


# -- declarations


def _declared(inputs: Mapping[str, Any], *, judged: bool) -> Declared:
    """Return the well-formed inputs of a description, as (type, options). The others are the engine's business."""
    found: Declared = {}
    for category in _CATEGORIES:
        entries = inputs.get(category)
        if isinstance(entries, Mapping):
            found[category] = {}
        for name, spec in list(entries.items())[:_MAX_INPUTS] if isinstance(entries, Mapping) else ():
            bare = isinstance(spec, str)  # as hidden inputs have it
            read = spec if bare and category == "hidden" else _spec([spec] if bare else spec, judged=judged)
            if isinstance(name, str) and read is not None:
                found[category][name] = read
    return found


def _spec(spec: Any, *, judged: bool) -> tuple[Any, ...] | None:
    """Read [type] or [type, options]; None for anything else."""
    if not isinstance(spec, (list, tuple)) or not spec or not isinstance(spec[0], (str, list)):
        return None
    options = dict(spec[1]) if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    for name in ("min", "max"):
        if not _is_number(options.get(name, 0)):
            del options[name]
    kind = spec[0]
    if kind == _DYNAMIC_COMBO:
        return kind, {**options, "options": [*_dynamic_options(options, judged=judged)]}
    if kind in (_AUTOGROW, _DYNAMIC_SLOT):
        return kind, options
    if kind == "COMBO":
        return kind, {**options, "options": _choices(options.get("options"), options, judged=judged)}
    if isinstance(kind, list):
        return (_choices(kind, options, judged=judged), options)[: len(spec)]
    return (_ANY_TYPE if kind == _MATCH_TYPE else kind, options)[: len(spec)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _choices(listed: Any, options: Mapping[str, Any], *, judged: bool) -> list[Any]:
    """Return a list of choices, as open as it must be."""
    choices = listed if isinstance(listed, list) else []
    is_open = not judged or not choices or any(options.get(name) for name in _FILE_OPTIONS)
    return _OpenChoices(choices) if is_open else _Choices(choices)


def _is_input_file(name: str) -> bool:
    """Return whether a value names a file of the input folder: it is uploaded before a job reads it."""
    try:
        return folders().resolve(name).is_file()
    except (FolderError, OSError, ValueError):
        return False


def _dynamic_options(options: Mapping[str, Any], *, judged: bool) -> Iterator[dict[str, Any]]:
    """Yield the choices of a dynamic combo, each with the inputs that it adds."""
    listed = options.get("options")
    for option in listed if isinstance(listed, list) else ():
        if isinstance(option, Mapping) and isinstance(option.get("key"), str):
            inputs = option.get("inputs")
            read = _declared(inputs, judged=judged) if isinstance(inputs, Mapping) else {}
            yield {"key": option["key"], "inputs": read}


# -- inputs that depend on a node's values


def _expand(declared: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any] | None) -> Declared:
    """Replace dynamic inputs by what they stand for.

    A dynamic combo becomes a combo, followed by the inputs of the option that is chosen, named `combo.input`.

    Args:
        declared: The inputs, as `_declared` returns them.
        values: The node's values; None for the inputs that every node has.
    """
    found: Declared = {"required": {}, "optional": {}}
    _expand_into(found, declared, values, "")
    found["hidden"] = dict(declared.get("hidden", {}))
    return {category: inputs for category, inputs in found.items() if inputs or category in declared}


def _expand_into(
    found: Declared, declared: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any] | None, prefix: str
) -> None:
    for category in ("required", "optional"):
        for name, spec in declared.get(category, {}).items():
            if len(found["required"]) + len(found["optional"]) >= _MAX_INPUTS:
                return
            kind, full_name = spec[0], f"{prefix}{name}"
            expansion = _EXPANSIONS.get(kind) if isinstance(kind, str) else None
            if expansion is None:
                found[category][full_name] = spec
            else:
                expansion(found, category, full_name, spec[1] if len(spec) > 1 else {}, values)


def _expand_combo(
    found: Declared, category: str, name: str, options: Mapping[str, Any], values: Mapping[str, Any] | None
) -> None:
    keys = _OpenChoices(option["key"] for option in options["options"])
    found[category][name] = ("COMBO", {**options, "options": keys})
    for option in options["options"]:
        if values is not None and option["key"] == values.get(name):
            _expand_into(found, option["inputs"], values, f"{name}.")
            return


def _expand_autogrow(
    found: Declared, category: str, name: str, options: Mapping[str, Any], values: Mapping[str, Any] | None
) -> None:
    """Add the inputs of a list that grows with its links: `name.image0`, `name.image1`, ..."""
    template = options.get("template")
    if values is None or not isinstance(template, Mapping) or not isinstance(template.get("input"), Mapping):
        return
    inputs = _declared(template["input"], judged=False)
    kind = next((each for each in ("required", "optional") if inputs.get(each)), None)
    least = template.get("min", 0)
    for index, part in enumerate(_grown_names(template) if kind is not None else ()):
        is_required = kind == "required" and isinstance(least, int) and index < least
        found["required" if is_required else "optional"][f"{name}.{part}"] = next(iter(inputs[str(kind)].values()))


def _grown_names(template: Mapping[str, Any]) -> list[str]:
    names = template.get("names")
    if isinstance(names, list):
        return [part for part in names if isinstance(part, str)][:_MAX_GROWN]
    prefix, most = template.get("prefix"), template.get("max")
    if not isinstance(prefix, str) or not isinstance(most, int):
        return []
    return [f"{prefix}{index}" for index in range(min(most, _MAX_GROWN))]


def _expand_slot(
    found: Declared, category: str, name: str, options: Mapping[str, Any], values: Mapping[str, Any] | None
) -> None:
    """Add the inputs that appear when an optional input is linked."""
    kind, inputs = options.get("slotType"), options.get("inputs")
    found["optional"][name] = (kind if isinstance(kind, str) else _ANY_TYPE, {"forceInput": True})
    if values is not None and name in values and isinstance(inputs, Mapping):
        _expand_into(found, _declared(inputs, judged=False), values, f"{name}.")


_EXPANSIONS = {_DYNAMIC_COMBO: _expand_combo, _AUTOGROW: _expand_autogrow, _DYNAMIC_SLOT: _expand_slot}
