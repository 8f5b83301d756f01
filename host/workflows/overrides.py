"""Values of a prompt that the command line replaces: which input is meant, and what its value's text says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from host.error_format import shorten, show
from host.limits import MAX_PROMPT_DEPTH
from host.packs import InputSpec, Registry, find_input, input_types, visible_inputs
from host.prompt_format import Prompt, PromptNode, node_title
from host.strict_json import nests_deeper_than
from host.workflows.editor_widgets import is_widget

__all__ = ["OverrideError", "OverrideTarget", "apply_overrides", "find_target", "replace_values"]

_MAX_LABEL_CHARACTERS = 120  # of what is quoted without quotation marks
_MAX_LISTED = 20  # nodes or inputs that an error names


class OverrideError(ValueError):
    """A `--set` that matches nothing, or whose value has the wrong type. The message's length is limited."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))


@dataclass(frozen=True)
class OverrideTarget:
    """An input whose value is replaced.

    Attributes:
        node_id: The node.
        name: The input.
        spec: Its declaration.
        class_type: The node's class.
    """

    node_id: str
    name: str
    spec: InputSpec
    class_type: str

    @property
    def is_choice(self) -> bool:
        """Whether the input takes one of a list of choices."""
        return isinstance(self.spec.type, list) or self.spec.type == "COMBO"

    def read(self, value: str) -> Any:
        """Read a value's text as the input's declared type. Validation checks ranges and choices.

        Raises:
            OverrideError: The text is no such value.
        """
        if self.is_choice:
            return _read_choice(self.spec, value)
        try:
            return _READERS.get(self.spec.type, _read_json)(value)
        except RecursionError:
            raise OverrideError(f"the value of {show(self.name)} nests too deeply") from None
        except ValueError:
            expected = _EXPECTED.get(self.spec.type, self.spec.type)
            raise OverrideError(f"the input {show(self.name)} takes {expected}, got {show(value)}") from None


def find_target(prompt: Prompt, text: str, registry: Registry) -> OverrideTarget:
    """Return the input that "NODE.INPUT" names.

    Args:
        prompt: A prompt in the API's format.
        text: NODE is a node's id, or its title or class if only one node has it.
        registry: The node classes.

    Raises:
        OverrideError: No node or several nodes match, or the input takes no value.
    """
    node_id, name = _find_input(prompt, text, registry)
    node = prompt[node_id]
    spec = _input_spec(node, name, registry)
    assert spec is not None
    target = OverrideTarget(node_id, name, spec, node["class_type"])
    if not target.is_choice and not is_widget(spec.type, {**spec.options, "forceInput": False}):
        raise OverrideError(f"the input {show(name)} takes a {spec.type} from another node, not a value")
    if not isinstance(node.get("inputs", {}), dict):
        raise OverrideError(f"{_node_label(node_id, node)} has no object 'inputs'")
    return target


def replace_values(prompt: Prompt, values: Mapping[tuple[str, str], Any]) -> Prompt:
    """Return a copy of `prompt` with other values. A link into an input is replaced.

    Args:
        prompt: A prompt in the API's format.
        values: {(node id, input): value}, for inputs that `find_target` found.

    Raises:
        OverrideError: The prompt nests too deeply to be copied.
    """
    if nests_deeper_than(prompt, MAX_PROMPT_DEPTH):
        raise OverrideError(f"the values of a prompt nest at most {MAX_PROMPT_DEPTH} deep")
    result = copy.deepcopy(prompt)
    for (node_id, name), value in values.items():
        result[node_id].setdefault("inputs", {})[name] = value
    return result


def apply_overrides(prompt: Prompt, overrides: Iterable[str], registry: Registry) -> Prompt:
    """Return a copy of `prompt` with the values of `overrides`.

    Args:
        prompt: A prompt in the API's format.
        overrides: Each is "NODE.INPUT=VALUE", with one value, which is read as the input's declared type.
        registry: The node classes.

    Raises:
        OverrideError: See `find_target`, `OverrideTarget.read` and `replace_values`.
    """
    values = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise OverrideError(f"--set expects NODE.INPUT=VALUE, got {show(text)}")
        try:
            target = find_target(prompt, name, registry)
            values[target.node_id, target.name] = target.read(value)
        except OverrideError as error:
            raise OverrideError(f"{shorten(f'--set {text}', _MAX_LABEL_CHARACTERS)}: {error}") from None
    return replace_values(prompt, values)


def _find_input(prompt: Prompt, target: str, registry: Registry) -> tuple[str, str]:
    """Return (node id, input name). Both may contain dots, so every split is tried, the last dot first."""
    failures: list[str] = []
    for position in reversed([index for index, letter in enumerate(target) if letter == "."]):
        label, name = target[:position], target[position + 1 :]
        nodes = _find_nodes(prompt, label)
        if len(nodes) > 1:
            called = _listed([_described(node_id, prompt[node_id], label) for node_id in nodes])
            raise OverrideError(f"{len(nodes)} nodes are called {show(label)}; name one by its id: {called}")
        for node_id in nodes:
            if _input_spec(prompt[node_id], name, registry) is not None:
                return node_id, name
            failures.append(
                f"{_node_label(node_id, prompt[node_id])} has no input {show(name)}; it has "
                f"{_listed(_input_names(prompt[node_id], registry)) or 'none'}"
            )
    if failures:
        raise OverrideError(failures[0])
    nodes = [f"node {_described(node_id, node)}" for node_id, node in prompt.items()]
    raise OverrideError(f"no node is called {show(target.rpartition('.')[0])}; there are {_listed(nodes)}")


def _find_nodes(prompt: Prompt, label: str) -> list[str]:
    """Return the nodes that `label` names: the one with this id, else those with this title, else of this class."""
    if label in prompt:
        return [label]
    titled = [node_id for node_id, node in prompt.items() if node_title(node) == label]
    return titled or [node_id for node_id, node in prompt.items() if node.get("class_type") == label]


def _node_label(node_id: str, node: PromptNode) -> str:
    return shorten(f"node {node_id} ({node.get('class_type')})", _MAX_LABEL_CHARACTERS)


def _described(node_id: str, node: PromptNode, known: str = "") -> str:
    """Return a node's id with its title and its class, without the one that is known."""
    title, class_type = node_title(node), node.get("class_type")
    parts = [f'"{title}"'] if isinstance(title, str) and title not in ("", known, class_type) else []
    parts += [f"({class_type})"] if class_type != known else []
    return shorten(" ".join([node_id, *parts]), _MAX_LABEL_CHARACTERS)


def _listed(names: list[str]) -> str:
    """List the first names, and count the rest."""
    more = [f"and {len(names) - _MAX_LISTED} more"] if len(names) > _MAX_LISTED else []
    return ", ".join([*(shorten(name, _MAX_LABEL_CHARACTERS) for name in names[:_MAX_LISTED]), *more])


def _input_names(node: PromptNode, registry: Registry) -> list[str]:
    """Return the names of the inputs that can be given a value."""
    cls = registry.nodes.get(node.get("class_type", ""))
    return [] if cls is None else list(visible_inputs(input_types(cls, _values(node))))


def _values(node: PromptNode) -> dict[str, Any]:
    values = node.get("inputs")
    return values if isinstance(values, dict) else {}


def _input_spec(node: PromptNode, name: str, registry: Registry) -> InputSpec | None:
    """Return the declaration of an input, or None if the node's class has no such input."""
    cls = registry.nodes.get(node.get("class_type", ""))
    spec = None if cls is None else find_input(input_types(cls, _values(node)), name)
    return None if spec is None or spec.category == "hidden" else spec


def _read_choice(spec: InputSpec, value: str) -> Any:
    """Return the choice whose text is `value`. Validation refuses a value that is not a choice."""
    choices = spec.type if isinstance(spec.type, list) else spec.options.get("options", [])
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
