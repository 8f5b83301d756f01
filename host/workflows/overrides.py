"""`--set NODE.INPUT=VALUE`: values from a command line put into a prompt."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from typing import Any

from host.object_info import find_input, input_types
from host.registry import Registry
from host.workflows.editor_widgets import is_widget

__all__ = ["OverrideError", "apply_overrides"]


class OverrideError(ValueError):
    """A `--set` that matches nothing, or whose value does not fit."""


def apply_overrides(prompt: dict[str, dict], overrides: Iterable[str], registry: Registry) -> dict[str, dict]:
    """Return a copy of `prompt` with the values of `overrides`.

    Args:
        prompt: In the API's format.
        overrides: Each "NODE.INPUT=VALUE". NODE is a node's id; or its title or its class, where one node has
            it. VALUE is read as the input's declared type says. A link into the input is replaced.
        registry: The node classes.

    Raises:
        OverrideError: Nothing matches, several nodes do, or VALUE is not of the input's type.
    """
    result = copy.deepcopy(prompt)
    for text in overrides:
        target, equals, value = text.partition("=")
        if not equals or "." not in target:
            raise OverrideError(f"--set expects NODE.INPUT=VALUE, got {text!r}")
        node_id, name = _find_input(result, target, text, registry)
        inputs = result[node_id].setdefault("inputs", {})
        if not isinstance(inputs, dict):
            raise OverrideError(f"--set {text}: {_named(node_id, result[node_id])} has no object 'inputs'")
        inputs[name] = _read_value(result[node_id], name, value, text, registry)
    return result


def _find_input(prompt: dict[str, dict], target: str, text: str, registry: Registry) -> tuple[str, str]:
    """Return (node id, input name); both may contain dots, so every way to split is tried, the last dot first."""
    known: list[str] = []
    for position in reversed([index for index, letter in enumerate(target) if letter == "."]):
        label, name = target[:position], target[position + 1 :]
        nodes = _find_nodes(prompt, label)
        if len(nodes) > 1:
            raise OverrideError(
                f"--set {text}: {len(nodes)} nodes are called {label!r}; name one by its id: {', '.join(nodes)}"
            )
        for node_id in nodes:
            if _spec(prompt[node_id], name, registry) is not None:
                return node_id, name
            known.append(
                f"{_named(node_id, prompt[node_id])} has no input {name!r}; it has "
                f"{', '.join(_inputs(prompt[node_id], registry)) or 'none'}"
            )
    if known:
        raise OverrideError(f"--set {text}: {known[0]}")
    nodes = [_named(node_id, node) for node_id, node in prompt.items()]
    raise OverrideError(f"--set {text}: no node is called {target.rpartition('.')[0]!r}; there are {', '.join(nodes)}")


def _find_nodes(prompt: dict[str, dict], label: str) -> list[str]:
    """Return the nodes that `label` means: the one with this id, else those with this title, else of this class."""
    if label in prompt:
        return [label]
    titled = [node_id for node_id, node in prompt.items() if _title(node) == label]
    return titled or [node_id for node_id, node in prompt.items() if node.get("class_type") == label]


def _title(node: dict) -> Any:
    meta = node.get("_meta")
    return meta.get("title") if isinstance(meta, dict) else None


def _named(node_id: str, node: dict) -> str:
    return f"node {node_id} ({node.get('class_type')})"


def _inputs(node: dict, registry: Registry) -> list[str]:
    """Return the names of the inputs that a value can be given to."""
    kind = registry.nodes.get(node.get("class_type", ""))
    declared = {} if kind is None else input_types(kind)
    return [name for category in ("required", "optional") for name in declared.get(category, {})]


def _spec(node: dict, name: str, registry: Registry) -> tuple[Any, dict] | None:
    """Return (type, options) of an input, or None if the node's class has no such input."""
    kind = registry.nodes.get(node.get("class_type", ""))
    found = None if kind is None else find_input(input_types(kind), name)
    return None if found is None or found[1] == "hidden" else (found[0], found[2])


def _read_value(node: dict, name: str, value: str, text: str, registry: Registry) -> Any:
    """Read a value as its input's type says."""
    spec = _spec(node, name, registry)
    assert spec is not None
    kind, options = spec
    if isinstance(kind, list) or kind == "COMBO":
        return _read_choice(kind if isinstance(kind, list) else options.get("options", []), value)
    if not is_widget(kind, {**options, "forceInput": False}):
        raise OverrideError(f"--set {text}: the input {name!r} takes a {kind} from another node, no value")
    try:
        return _READERS.get(kind, _read_json)(value)
    except ValueError:
        raise OverrideError(
            f"--set {text}: the input {name!r} takes {_EXPECTED.get(kind, kind)}, got {value!r}"
        ) from None


def _read_choice(choices: Iterable[Any], value: str) -> Any:
    """Return the choice that is written like `value`; validation refuses what is none."""
    return next((choice for choice in choices if str(choice) == value), value)


def _read_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _read_boolean(value: str) -> bool:
    if value.lower() not in _TRUTH:
        raise ValueError(value)
    return _TRUTH[value.lower()]


_READERS: dict[str, Callable[[str], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": _read_boolean,
}
_EXPECTED = {"INT": "a whole number", "FLOAT": "a number", "BOOLEAN": "true or false"}
