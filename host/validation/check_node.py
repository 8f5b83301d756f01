"""Checks one node of a prompt against its class: missing inputs, wrong values, bad links."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from host.error_format import ErrorInfo, error_info, qualified_name, shorten, show
from host.packs import InputSpec, NodeClass, Registry, find_input, has_live_inputs, input_types, visible_inputs
from host.prompt_format import Prompt, is_link, types_match
from host.validation.check_value import check_value
from host.validation.custom_check import CustomCheck, read_custom_check, run_custom_check
from host.validation.links import Link

__all__ = ["NodeReport", "check_node"]

log = logging.getLogger(__name__)

_WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "*"})


@dataclass(frozen=True)
class NodeReport:
    """The result of checking one node.

    Attributes:
        inputs: The node's inputs, with values converted to their declared types.
        errors: The node's errors in ComfyUI's shape.
        links: The links from nodes that exist.
        link_types: {input: type of the output that it is linked to}.
    """

    inputs: dict[str, Any]
    errors: list[ErrorInfo] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    link_types: dict[str, Any] = field(default_factory=dict)


def check_node(
    node_id: str, prompt: Prompt, registry: Registry, declarations: dict[str, dict[str, dict[str, Any]]]
) -> NodeReport:
    """Check one node. Whatever the class's own code raises becomes an error of the node.

    Args:
        node_id: The node.
        prompt: The whole prompt, for the other ends of the links.
        registry: The classes.
        declarations: {class: its INPUT_TYPES()}, filled as classes are met, because some of them list a folder.
    """
    node, class_type = prompt[node_id], prompt[node_id]["class_type"]
    inputs = node.get("inputs")
    if not isinstance(inputs, dict):
        return NodeReport({}, [_exception_error(f"node {node_id} ({class_type}) has no object 'inputs'", {})])
    report = NodeReport(dict(inputs))
    try:
        cls = registry.nodes[class_type]
        if class_type not in declarations and not has_live_inputs(cls):
            declarations[class_type] = input_types(cls)
        declared = declarations[class_type] if class_type in declarations else input_types(cls, report.inputs)
        _check_inputs(report, prompt, registry, declared, cls)
    except Exception as error:
        log.warning("validating node %s (%s) raised", node_id, class_type, exc_info=True)
        lines = traceback.format_tb(error.__traceback__)
        info = {"exception_type": qualified_name(type(error)), "traceback": lines}
        report.errors.append(_exception_error(shorten(str(error)), info))
    return report


def _exception_error(details: str, extra_info: dict[str, Any]) -> ErrorInfo:
    return error_info("exception_during_validation", "Exception when validating node", details, extra_info)


def _check_inputs(
    report: NodeReport, prompt: Prompt, registry: Registry, declared: Mapping[str, Any], node: NodeClass
) -> None:
    """Check each declared input, then run the class's own check."""
    custom = read_custom_check(node)
    for name, spec in visible_inputs(declared).items():
        if name not in report.inputs:
            if spec.category == "required":
                report.errors.append(
                    error_info("required_input_missing", "Required input is missing", name, {"input_name": name})
                )
        elif isinstance(report.inputs[name], list):
            _check_link(report, prompt, registry, name, spec, check_type=custom is None or not custom.checks_types)
        else:
            _check_constant(report, registry, name, spec, check_range=custom is None or not custom.takes(name))
    if custom is not None and (custom.parameters or custom.takes_all):
        _run_custom_check(report, custom, node, declared)


def _check_link(
    report: NodeReport, prompt: Prompt, registry: Registry, name: str, spec: InputSpec, *, check_type: bool
) -> None:
    """Check that a link leads to an existing output of the right type."""
    value = report.inputs[name]
    info = {"input_name": name, "input_config": [spec.type, spec.options]}
    fault = _link_fault(value, prompt, registry)
    if fault is not None:
        details = f"{name}: {fault}" if is_link(value) else name
        report.errors.append(
            error_info("bad_linked_input", f"Bad linked input, {fault}", details, {**info, "received_value": value})
        )
        return
    source, slot = value
    output_type = report.link_types[name] = registry.nodes[prompt[source]["class_type"]].RETURN_TYPES[slot]
    matches = not check_type or types_match(output_type, spec.type)
    report.links.append(Link(source, matches))
    if not matches:
        report.errors.append(
            error_info(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                f"{name}, received_type({output_type}) mismatch input_type({spec.type})",
                {**info, "received_type": output_type, "linked_node": value},
            )
        )


def _link_fault(value: list[Any], prompt: Prompt, registry: Registry) -> str | None:
    """Return why a list is not a link to an existing output, or None."""
    if not is_link(value):
        return "must be a length-2 list of [node_id, slot_index]"
    source, slot = value
    if source not in prompt:
        return f"it leads to node {show(source)}, which is not in the prompt"
    class_type = prompt[source]["class_type"]
    count = len(registry.nodes[class_type].RETURN_TYPES)
    if not 0 <= slot < count:
        return f"it takes output {slot} of node {show(source)}, but {class_type} has {count} outputs, counted from 0"
    return None


def _check_constant(report: NodeReport, registry: Registry, name: str, spec: InputSpec, *, check_range: bool) -> None:
    """Check one value, and replace it with the converted one."""
    value = report.inputs[name]
    if _needs_link(spec.type, registry) and not (value is None and spec.category == "optional"):
        report.errors.append(
            error_info(
                "invalid_input_type",
                f"Failed to convert an input value to a {spec.type} value",
                f"{name}, {value}, a {spec.type} comes from another node: link the input to one",
                {
                    "input_name": name,
                    "input_config": [spec.type, spec.options],
                    "received_value": value,
                    "exception_message": f"a {spec.type} comes from another node",
                },
            )
        )
        return
    report.inputs[name], error = check_value(name, spec, value, check_range=check_range)
    if error is not None:
        report.errors.append(error)


def _needs_link(input_type: Any, registry: Registry) -> bool:
    """Return whether values of a type can come only from another node's output. A description does not tell that."""
    return (
        not registry.is_described
        and isinstance(input_type, str)
        and input_type not in _WIDGET_TYPES
        and any(input_type in node.RETURN_TYPES for node in registry.nodes.values())
    )


def _run_custom_check(report: NodeReport, custom: CustomCheck, node: NodeClass, declared: Mapping[str, Any]) -> None:
    """Run VALIDATE_INPUTS on the inputs without errors; a link's value is not known yet and counts as None."""
    faulty = {error["extra_info"].get("input_name") for error in report.errors}
    values = {
        name: None if is_link(value) else value
        for name, value in report.inputs.items()
        if custom.takes(name) and find_input(declared, name) is not None and name not in faulty
    }
    wants_lists = bool(getattr(node, "INPUT_IS_LIST", False))
    report.errors.extend(run_custom_check(custom, values, report.link_types, wants_lists=wants_lists))
