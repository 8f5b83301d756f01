"""One node of a prompt against its class: what is missing, wrong or badly linked."""

from __future__ import annotations

import inspect
import logging
import traceback
from dataclasses import dataclass
from typing import Any

from host.checking.links import Link, is_link
from host.checking.values import Problem, check_value, problem, types_match
from host.context import ExecutionBlocker
from host.execution.awaiting import settle
from host.object_info import NodeClass, find_input, input_types
from host.registry import Registry

__all__ = ["NodeCheck", "check_node", "type_name"]

log = logging.getLogger(__name__)

PRIMITIVES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "*"})


@dataclass(frozen=True)
class NodeCheck:
    """What was found at one node.

    Attributes:
        inputs: The node's inputs, values converted to their declared types.
        problems: What is wrong, in ComfyUI's shapes.
        links: The connections to nodes that exist.
    """

    inputs: dict[str, Any]
    problems: list[Problem]
    links: list[Link]


def check_node(node_id: str, prompt: dict, registry: Registry, declared: dict[str, dict]) -> NodeCheck:
    """Check one node. Whatever the class's own code raises becomes a problem of the node.

    Args:
        node_id: The node.
        prompt: The whole prompt, for the other ends of the links.
        registry: The classes.
        declared: {class: its INPUT_TYPES()}, filled as classes are met: some list a folder.
    """
    node, kind = prompt[node_id], prompt[node_id]["class_type"]
    inputs = node.get("inputs")
    if not isinstance(inputs, dict):
        return NodeCheck({}, [_raised(f"node {node_id} ({kind}) has no object 'inputs'", {})], [])
    check = NodeCheck(dict(inputs), [], [])
    try:
        if kind not in declared:
            declared[kind] = input_types(registry.nodes[kind])
        _check_inputs(check, prompt, registry, declared[kind], registry.nodes[kind])
    except Exception as error:
        log.warning("validating node %s (%s) raised", node_id, kind, exc_info=True)
        lines = traceback.format_tb(error.__traceback__)
        check.problems.append(_raised(str(error), {"exception_type": type_name(type(error)), "traceback": lines}))
    return check


def _raised(details: str, extra_info: dict[str, Any]) -> Problem:
    return problem("exception_during_validation", "Exception when validating node", details, extra_info)


def type_name(kind: type) -> str:
    """Return the full name of a class, as error messages carry it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _check_inputs(check: NodeCheck, prompt: dict, registry: Registry, declared: dict, node: NodeClass) -> None:
    """Check each declared input, then let the class have its own say."""
    validator = getattr(node, "VALIDATE_INPUTS", None)
    taken, takes_all = _parameters(validator)
    received: dict[str, Any] = {}
    for name in (*declared.get("required", ()), *declared.get("optional", ())):
        found = find_input(declared, name)
        assert found is not None
        kind, category, options = found
        if name not in check.inputs:
            if category == "required":
                check.problems.append(
                    problem("required_input_missing", "Required input is missing", name, {"input_name": name})
                )
        elif isinstance(check.inputs[name], list):
            _check_link(check, prompt, registry, name, (kind, options), received, "input_types" in taken)
        else:
            _check_constant(check, registry, name, found, ranged=not (takes_all or name in taken))
    if validator is not None and (taken or takes_all):
        _ask_class(check, node, validator, declared, received)


def _check_link(
    check: NodeCheck,
    prompt: dict,
    registry: Registry,
    name: str,
    spec: tuple[Any, dict],
    received: dict[str, Any],
    own_types: bool,
) -> None:
    """Check one connection: that it leads to an output of a node, of the right type."""
    value, (kind, options) = check.inputs[name], spec
    info = {"input_name": name, "input_config": [kind, options]}
    fault = _link_fault(value, prompt, registry)
    if fault is not None:
        details = name if not is_link(value) else f"{name}: {fault}"
        check.problems.append(
            problem("bad_linked_input", f"Bad linked input, {fault}", details, {**info, "received_value": value})
        )
        return
    source, slot = value
    output = received[name] = registry.nodes[prompt[source]["class_type"]].RETURN_TYPES[slot]
    matches = own_types or types_match(output, kind)
    check.links.append(Link(source, matches))
    if not matches:
        check.problems.append(
            problem(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                f"{name}, received_type({output}) mismatch input_type({kind})",
                {**info, "received_type": output, "linked_node": value},
            )
        )


def _link_fault(value: list, prompt: dict, registry: Registry) -> str | None:
    """Return why a list is no link to an output that exists, or None."""
    if not is_link(value):
        return "must be a length-2 list of [node_id, slot_index]"
    source, slot = value
    if source not in prompt:
        return f"it leads to node {source!r}, which is not in the prompt"
    kind = prompt[source]["class_type"]
    count = len(registry.nodes[kind].RETURN_TYPES)
    if not 0 <= slot < count:
        return f"it takes output {slot} of node {source!r}, but {kind} has {count} outputs, counted from 0"
    return None


def _check_constant(
    check: NodeCheck, registry: Registry, name: str, found: tuple[Any, str, dict], *, ranged: bool
) -> None:
    """Check one value, and put the converted one in its place."""
    kind, category, options = found
    value = check.inputs[name]
    if _only_linked(kind, registry) and not (value is None and category == "optional"):
        check.problems.append(
            problem(
                "invalid_input_type",
                f"Failed to convert an input value to a {kind} value",
                f"{name}, {value}, a {kind} comes from another node: link the input to one",
                {
                    "input_name": name,
                    "input_config": [kind, options],
                    "received_value": value,
                    "exception_message": f"a {kind} comes from another node",
                },
            )
        )
        return
    check.inputs[name], wrong = check_value(name, kind, options, value, ranged=ranged)
    if wrong is not None:
        check.problems.append(wrong)


def _only_linked(kind: Any, registry: Registry) -> bool:
    """Say whether values of a type can only come from another node's output."""
    return (
        isinstance(kind, str)
        and kind not in PRIMITIVES
        and any(kind in node.RETURN_TYPES for node in registry.nodes.values())
    )


def _parameters(validator: Any) -> tuple[frozenset[str], bool]:
    """Return the names that VALIDATE_INPUTS takes, and whether it takes any name."""
    if validator is None:
        return frozenset(), False
    spec = inspect.getfullargspec(validator)
    return frozenset(spec.args) | frozenset(spec.kwonlyargs), spec.varkw is not None


def _ask_class(check: NodeCheck, node: NodeClass, validator: Any, declared: dict, received: dict[str, Any]) -> None:
    """Call VALIDATE_INPUTS with the constants it asks for; a linked input, not known yet, is None."""
    taken, takes_all = _parameters(validator)
    faulty = {found["extra_info"].get("input_name") for found in check.problems}
    values = {
        name: None if is_link(value) else value
        for name, value in check.inputs.items()
        if (takes_all or name in taken) and find_input(declared, name) is not None and name not in faulty
    }
    if "input_types" in taken:
        values["input_types"] = received
    try:
        inspect.signature(validator).bind(**values)
    except TypeError:
        return  # an input it needs is missing or wrong, which has been said
    if getattr(node, "INPUT_IS_LIST", False):
        values = {name: [value] for name, value in values.items()}
    verdict = settle(validator(**values))
    if verdict is True or isinstance(verdict, ExecutionBlocker):
        return
    reason = "" if verdict is False else str(verdict)
    for name in values or [""]:
        check.problems.append(
            problem(
                "custom_validation_failed",
                "Custom validation failed for node",
                " - ".join(filter(None, (name, reason))),
                {"input_name": name} if name else {},
            )
        )
