"""`--set NODE.INPUT=VALUE`: replaces values of a prompt from the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from typing import Any

from host.packs import InputSpec, Registry, find_input, input_types, visible_inputs
from host.prompt_format import Prompt, PromptNode, node_title
from host.workflows.editor_widgets import is_widget

__all__ = ["OverrideError", "apply_overrides"]


class OverrideError(ValueError):
    """A `--set` that matches nothing, or whose value has the wrong type."""


def apply_overrides(prompt: Prompt, overrides: Iterable[str], registry: Registry) -> Prompt:
    """Return a copy of `prompt` with the values of `overrides`.

    Args:
        prompt: A prompt in the API's format.
        overrides: Each is "NODE.INPUT=VALUE". NODE is a node's id, or its title or class if only one node has it.
            VALUE is parsed as the input's declared type. A link into the input is replaced.
        registry: The node classes.

    Raises:
        OverrideError: No node or several nodes match, or VALUE does not have the input's type.
    """
    result = copy.deepcopy(prompt)
    for text in overrides:
        target, equals, value = text.partition("=")
        if not equals or "." not in target:
            raise OverrideError(f"--set expects NODE.INPUT=VALUE, got {text!r}")
        node_id, name = _find_input(result, target, text, registry)
        inputs = result[node_id].setdefault("inputs", {})
        if not isinstance(inputs, dict):
            raise OverrideError(f"--set {text}: {_node_label(node_id, result[node_id])} has no object 'inputs'")
        inputs[name] = _read_value(result[node_id], name, value, text, registry)
    return result


def _find_input(prompt: Prompt, target: str, text: str, registry: Registry) -> tuple[str, str]:
    """Return (node id, input name). Both may contain dots, so every split is tried, the last dot first."""
    failures: list[str] = []
    for position in reversed([index for index, letter in enumerate(target) if letter == "."]):
        label, name = target[:position], target[position + 1 :]
        nodes = _find_nodes(prompt, label)
        if len(nodes) > 1:
            raise OverrideError(
                f"--set {text}: {len(nodes)} nodes are called {label!r}; name one by its id: {', '.join(nodes)}"
            )
        for node_id in nodes:
            if _input_spec(prompt[node_id], name, registry) is not None:
                return node_id, name
            failures.append(
                f"{_node_label(node_id, prompt[node_id])} has no input {name!r}; it has "
                f"{', '.join(_input_names(prompt[node_id], registry)) or 'none'}"
            )
    if failures:
        raise OverrideError(f"--set {text}: {failures[0]}")
    nodes = [_node_label(node_id, node) for node_id, node in prompt.items()]
    raise OverrideError(f"--set {text}: no node is called {target.rpartition('.')[0]!r}; there are {', '.join(nodes)}")


def _find_nodes(prompt: Prompt, label: str) -> list[str]:
    """Return the nodes that `label` names: the one with this id, else those with this title, else of this class."""
    if label in prompt:
        return [label]
    titled = [node_id for node_id, node in prompt.items() if node_title(node) == label]
    return titled or [node_id for node_id, node in prompt.items() if node.get("class_type") == label]


def _node_label(node_id: str, node: PromptNode) -> str:
    return f"node {node_id} ({node.get('class_type')})"


def _input_names(node: PromptNode, registry: Registry) -> list[str]:
    """Return the names of the inputs that can be given a value."""
    cls = registry.nodes.get(node.get("class_type", ""))
    return [] if cls is None else list(visible_inputs(input_types(cls)))


def _input_spec(node: PromptNode, name: str, registry: Registry) -> InputSpec | None:
    """Return the declaration of an input, or None if the node's class has no such input."""
    cls = registry.nodes.get(node.get("class_type", ""))
    spec = None if cls is None else find_input(input_types(cls), name)
    return None if spec is None or spec.category == "hidden" else spec


def _read_value(node: PromptNode, name: str, value: str, text: str, registry: Registry) -> Any:
    """Parse a value as its input's type."""
    spec = _input_spec(node, name, registry)
    assert spec is not None
    if isinstance(spec.type, list) or spec.type == "COMBO":
        return _read_choice(spec.type if isinstance(spec.type, list) else spec.options.get("options", []), value)
    if not is_widget(spec.type, {**spec.options, "forceInput": False}):
        raise OverrideError(f"--set {text}: the input {name!r} takes a {spec.type} from another node, not a value")
    try:
        return _READERS.get(spec.type, _read_json)(value)
    except ValueError:
        expected = _EXPECTED.get(spec.type, spec.type)
        raise OverrideError(f"--set {text}: the input {name!r} takes {expected}, got {value!r}") from None


def _read_choice(choices: Iterable[Any], value: str) -> Any:
    """Return the choice whose text is `value`. Validation refuses a value that is not a choice."""
    return next((choice for choice in choices if str(choice) == value), value)


def _read_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


_BOOLEANS = {
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
    if value.lower() not in _BOOLEANS:
        raise ValueError(value)
    return _BOOLEANS[value.lower()]


_READERS: dict[str, Callable[[str], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": _read_boolean,
}
_EXPECTED = {"INT": "a whole number", "FLOAT": "a number", "BOOLEAN": "true or false"}
