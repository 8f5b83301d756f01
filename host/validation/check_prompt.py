"""Checks a prompt against the registry, and reports every error at once in ComfyUI's shapes.

A prompt is untrusted input: validation never raises on one, whatever it contains.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from host.error_format import ErrorInfo, error_info, show
from host.limits import MAX_PROMPT_DEPTH, MAX_PROMPT_NODES
from host.packs import Registry, is_output_node
from host.prompt_format import Prompt, PromptNode, node_title
from host.strict_json import nests_deeper_than
from host.validation.check_node import NodeReport, check_node
from host.validation.links import find_cycles, upstream

__all__ = ["Validation", "validate"]

log = logging.getLogger(__name__)

_SHOWN_CYCLE_NODES = 50  # of a longer cycle, a message names the beginning


@dataclass(frozen=True)
class Validation:
    """The result of checking a prompt.

    Attributes:
        error: None if at least one output can run; else ComfyUI's {"type", "message", "details", "extra_info"}.
        node_errors: {node id: {"errors": [...], "dependent_outputs": [...], "class_type": ...}}. It may be filled
            although `error` is None: then the outputs that depend on those nodes are left out, and the others run.
        outputs: The ids of the output nodes to execute.
        prompt: The prompt to execute and to store: a copy with every value converted to its declared type.
    """

    error: ErrorInfo | None
    node_errors: dict[str, dict[str, Any]]
    outputs: tuple[str, ...]
    prompt: Prompt

    @property
    def ok(self) -> bool:
        """Whether there is no error at all."""
        return self.error is None and not self.node_errors


def validate(prompt: Any, registry: Registry, targets: Sequence[str] | None = None) -> Validation:
    """Check a prompt in the API's format.

    This may call the nodes' INPUT_TYPES and VALIDATE_INPUTS, which may be slow: a server should call it in a worker
    thread.

    Args:
        prompt: What a client sent: {node id: {"class_type": ..., "inputs": {...}}}, or anything else.
        registry: The known nodes.
        targets: Execute only these output nodes (`partial_execution_targets`); None for all.
    """
    refusal = _shape_error(prompt, targets) or _unknown_class_error(prompt, registry)
    if refusal is not None:
        return Validation(refusal, {}, (), {})
    outputs = [
        node_id
        for node_id, node in prompt.items()
        if is_output_node(registry.nodes[node["class_type"]]) and (targets is None or node_id in targets)
    ]
    if not outputs:
        return Validation(error_info("prompt_no_outputs", "Prompt has no outputs"), {}, (), {})
    return _conclude(prompt, outputs, _check_nodes(prompt, registry, outputs))


def _shape_error(prompt: Any, targets: Any) -> ErrorInfo | None:
    """Return the error of what is not a prompt, or is too large or too deep to examine."""
    if targets is not None and not (isinstance(targets, Sequence) and all(isinstance(x, str) for x in targets)):
        return _invalid("partial_execution_targets must be a list of node ids")
    if not isinstance(prompt, dict):
        return _invalid(f"a prompt is an object of nodes by id, got {type(prompt).__name__}")
    if len(prompt) > MAX_PROMPT_NODES:
        return _invalid(f"a prompt has at most {MAX_PROMPT_NODES} nodes, got {len(prompt)}")
    for node_id, node in prompt.items():
        if not isinstance(node_id, str):
            return _invalid(f"node ids must be strings, got {show(node_id)}")
        if not isinstance(node, dict):
            return _invalid(f"node {node_id} must be an object with class_type and inputs, got {type(node).__name__}")
    if nests_deeper_than(prompt, MAX_PROMPT_DEPTH):
        return _invalid(f"the values of a prompt nest at most {MAX_PROMPT_DEPTH} deep")
    return None


def _invalid(details: str) -> ErrorInfo:
    return error_info("invalid_prompt", f"Invalid prompt: {details}", details)


def _unknown_class_error(prompt: Prompt, registry: Registry) -> ErrorInfo | None:
    """Return the error of the first node whose class is not known, as ComfyUI does."""
    for node_id, node in prompt.items():
        class_type = node.get("class_type")
        if isinstance(class_type, str) and class_type in registry.nodes:
            continue
        title = node_title(node)
        if "class_type" not in node:
            message = (
                f"Node '{title or f'ID #{node_id}'}' has no class_type. The workflow may be corrupted or a "
                "custom node is missing."
            )
        else:
            title = title or class_type
            message = f"Node '{title}' not found. The custom node may not be installed."
        info = {"node_id": node_id, "class_type": class_type, "node_title": title}
        return error_info("missing_node_type", message, f"Node ID '#{node_id}'", info)
    return None


def _check_nodes(prompt: Prompt, registry: Registry, outputs: list[str]) -> dict[str, NodeReport]:
    """Check every node that an output depends on, then look for cycles among them."""
    declarations: dict[str, dict[str, dict[str, Any]]] = {}
    reports: dict[str, NodeReport] = {}
    pending = list(reversed(outputs))
    while pending:
        node_id = pending.pop()
        if node_id not in reports:
            reports[node_id] = check_node(node_id, prompt, registry, declarations)
            pending += [link.node_id for link in reversed(reports[node_id].links)]
    _report_cycles(prompt, reports, outputs)
    return reports


def _report_cycles(prompt: Prompt, reports: dict[str, NodeReport], outputs: list[str]) -> None:
    """Add each cycle to the errors of its nodes. A node reports one cycle, and of a long one the beginning."""
    sources = {node_id: [link.node_id for link in report.links if link.matches] for node_id, report in reports.items()}
    reported: set[str] = set()
    for cycle in find_cycles(sources, outputs):
        if not reported.isdisjoint(cycle):
            continue
        reported.update(cycle)
        shown = cycle[:_SHOWN_CYCLE_NODES]
        steps = [f"{node_id} ({prompt[node_id]['class_type']})" for node_id in shown]
        path = " -> ".join([*steps, *(["..."] if shown != cycle else []), steps[0]])
        for node_id in cycle:
            info = {"node_id": node_id, "cycle_nodes": shown}
            error = error_info("dependency_cycle", "Dependency cycle detected", path, info)
            reports[node_id].errors.append(error)


def _conclude(prompt: Prompt, outputs: list[str], reports: dict[str, NodeReport]) -> Validation:
    """Decide which outputs can run, and collect the errors of the others."""
    node_errors: dict[str, dict[str, Any]] = {}
    runnable = []
    for output, faulty in _faulty_sources(outputs, reports).items():
        if not faulty:
            runnable.append(output)
        for node_id in faulty:
            class_type, errors = prompt[node_id]["class_type"], reports[node_id].errors
            entry = {"errors": errors, "dependent_outputs": [], "class_type": class_type}
            node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
    for node_id, entry in node_errors.items():
        log.info("node %s (%s): %s", node_id, entry["class_type"], _as_lines(entry["errors"]))
    error = None
    if not runnable:
        details = _as_lines([error for output in outputs for error in reports[output].errors])
        error = error_info("prompt_outputs_failed_validation", "Prompt outputs failed validation", details)
    converted = {
        node_id: {**node, "inputs": _converted_inputs(node, reports.get(node_id))} for node_id, node in prompt.items()
    }
    return Validation(error, node_errors, tuple(runnable), converted)


def _faulty_sources(outputs: list[str], reports: dict[str, NodeReport]) -> dict[str, list[str]]:
    """Return, for each output, the nodes with errors that it depends on, itself included."""
    faulty = {node_id for node_id, report in reports.items() if report.errors}
    if not faulty:
        return {output: [] for output in outputs}
    sources = {node_id: [link.node_id for link in report.links] for node_id, report in reports.items()}
    return {output: [node_id for node_id in upstream(sources, output) if node_id in faulty] for output in outputs}


def _as_lines(errors: list[ErrorInfo]) -> str:
    return "\n".join(f"{error['message']}: {error['details']}" for error in errors)


def _converted_inputs(node: PromptNode, report: NodeReport | None) -> dict[str, Any]:
    """Return a node's inputs: converted if it was checked, unchanged if no output needs the node."""
    if report is not None:
        return report.inputs
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, dict) else {}
