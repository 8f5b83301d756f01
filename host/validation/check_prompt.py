"""A prompt against the registry, before anything runs: every problem at once, in ComfyUI's shapes.

A prompt is hostile until it has passed here: this module never raises on one, whatever it holds.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from host.checking.links import find_cycles, reachable
from host.checking.node_check import NodeCheck, check_node
from host.checking.values import Problem, problem
from host.registry import Registry

__all__ = ["MAX_DEPTH", "MAX_NODES", "Validation", "validate"]

log = logging.getLogger(__name__)

MAX_NODES = 3000  # a prompt of more nodes is refused
MAX_DEPTH = 64  # as is one whose values nest deeper than this
_NAMED_OF_CYCLE = 50  # nodes of a cycle that a message names


@dataclass(frozen=True)
class Validation:
    """What was found in a prompt.

    Attributes:
        error: None if at least one output can run; else ComfyUI's {"type", "message", "details",
            "extra_info"}.
        node_errors: {node id: {"errors": [...], "dependent_outputs": [...], "class_type": ...}}. May be
            filled although `error` is None: then the outputs that depend on those nodes are left out, the
            others run.
        outputs: The ids of the output nodes to execute.
        prompt: The prompt to execute and to store: a copy with every value converted to its declared type.
    """

    error: Problem | None
    node_errors: dict[str, dict[str, Any]]
    outputs: tuple[str, ...]
    prompt: dict[str, dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.error is None and not self.node_errors


def validate(prompt: Any, registry: Registry, targets: Sequence[str] | None = None) -> Validation:
    """Check a prompt in API format.

    May call the nodes' INPUT_TYPES and VALIDATE_INPUTS, which may take time: a server calls this in a worker
    thread.

    Args:
        prompt: What a client sent: {node id: {"class_type": ..., "inputs": {...}}}, or anything else.
        registry: The nodes that exist.
        targets: Execute these output nodes only (`partial_execution_targets`); None for all.
    """
    refusal = _refuse_shape(prompt, targets) or _refuse_nodes(prompt, registry)
    if refusal is not None:
        return Validation(refusal, {}, (), {})
    outputs = [
        node_id
        for node_id, node in prompt.items()
        if getattr(registry.nodes[node["class_type"]], "OUTPUT_NODE", False) is True
        and (targets is None or node_id in targets)
    ]
    if not outputs:
        return Validation(problem("prompt_no_outputs", "Prompt has no outputs", "", {}), {}, (), {})
    checks = _check_all(prompt, registry, outputs)
    return _conclude(prompt, outputs, checks)


def _refuse_shape(prompt: Any, targets: Any) -> Problem | None:
    """Refuse what is no prompt at all, or one too large or too deep to look into."""
    if targets is not None and not (isinstance(targets, Sequence) and all(isinstance(x, str) for x in targets)):
        return _invalid("partial_execution_targets must be a list of node ids")
    if not isinstance(prompt, dict):
        return _invalid(f"a prompt is an object of nodes by id, got {type(prompt).__name__}")
    if len(prompt) > MAX_NODES:
        return _invalid(f"a prompt has at most {MAX_NODES} nodes, got {len(prompt)}")
    for node_id, node in prompt.items():
        if not isinstance(node_id, str):
            return _invalid(f"node ids must be strings, got {node_id!r}")
        if not isinstance(node, dict):
            return _invalid(f"node {node_id} must be an object with class_type and inputs, got {type(node).__name__}")
    if _deeper_than(prompt, MAX_DEPTH):
        return _invalid(f"the values of a prompt nest at most {MAX_DEPTH} deep")
    return None


def _invalid(details: str) -> Problem:
    return problem("invalid_prompt", f"Invalid prompt: {details}", details, {})


def _deeper_than(value: Any, limit: int) -> bool:
    """Say whether lists and objects nest deeper than `limit`, without recursion."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, (dict, list)) for item in level)


def _refuse_nodes(prompt: dict, registry: Registry) -> Problem | None:
    """Refuse a prompt with a node that no class is known for. ComfyUI's answer names the first."""
    for node_id, node in prompt.items():
        kind = node.get("class_type")
        if isinstance(kind, str) and kind in registry.nodes:
            continue
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        if "class_type" not in node:
            message = (
                f"Node '{title or f'ID #{node_id}'}' has no class_type. The workflow may be corrupted or a "
                "custom node is missing."
            )
        else:
            title = title or kind
            message = f"Node '{title}' not found. The custom node may not be installed."
        return problem(
            "missing_node_type",
            message,
            f"Node ID '#{node_id}'",
            {"node_id": node_id, "class_type": kind, "node_title": title},
        )
    return None


def _check_all(prompt: dict, registry: Registry, outputs: list[str]) -> dict[str, NodeCheck]:
    """Check every node that an output depends on, then the cycles among them."""
    declared: dict[str, dict] = {}
    checks: dict[str, NodeCheck] = {}
    pending = list(reversed(outputs))
    while pending:
        node_id = pending.pop()
        if node_id not in checks:
            checks[node_id] = check_node(node_id, prompt, registry, declared)
            pending += [link.node_id for link in reversed(checks[node_id].links)]
    _report_cycles(prompt, checks, outputs)
    return checks


def _report_cycles(prompt: dict, checks: dict[str, NodeCheck], outputs: list[str]) -> None:
    """Put each cycle among the problems of its nodes; a node is told of one, and of a long one the beginning."""
    told: set[str] = set()
    for cycle in find_cycles(_edges(checks), outputs):
        if not told.isdisjoint(cycle):
            continue
        told.update(cycle)
        named = cycle[:_NAMED_OF_CYCLE]
        steps = [f"{node_id} ({prompt[node_id]['class_type']})" for node_id in named]
        path = " -> ".join([*steps, *(["..."] if named != cycle else []), steps[0]])
        for node_id in cycle:
            info = {"node_id": node_id, "cycle_nodes": named}
            checks[node_id].problems.append(problem("dependency_cycle", "Dependency cycle detected", path, info))


def _edges(checks: dict[str, NodeCheck]) -> dict[str, list[str]]:
    """Return {node: the nodes it takes values from}, links of mismatched type left out."""
    return {node_id: [link.node_id for link in check.links if link.matches] for node_id, check in checks.items()}


def _conclude(prompt: dict, outputs: list[str], checks: dict[str, NodeCheck]) -> Validation:
    """Say which outputs can run, and what is wrong with the others."""
    node_errors: dict[str, dict[str, Any]] = {}
    good = []
    for output, bad in _bad_sources(outputs, checks).items():
        if not bad:
            good.append(output)
        for node_id in bad:
            kind, problems = prompt[node_id]["class_type"], checks[node_id].problems
            entry = {"errors": problems, "dependent_outputs": [], "class_type": kind}
            node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
    for node_id, entry in node_errors.items():
        log.info("node %s (%s): %s", node_id, entry["class_type"], _lines(entry["errors"]))
    error = None
    if not good:
        details = _lines([found for output in outputs for found in checks[output].problems])
        error = problem("prompt_outputs_failed_validation", "Prompt outputs failed validation", details, {})
    converted = {node_id: {**node, "inputs": _inputs_of(node, checks.get(node_id))} for node_id, node in prompt.items()}
    return Validation(error, node_errors, tuple(good), converted)


def _bad_sources(outputs: list[str], checks: dict[str, NodeCheck]) -> dict[str, list[str]]:
    """Return, for each output, the nodes with problems that it depends on, itself included."""
    bad = {node_id for node_id, check in checks.items() if check.problems}
    sources = {node_id: [link.node_id for link in check.links] for node_id, check in checks.items()}
    return {
        output: [node_id for node_id in reachable(sources, output) if node_id in bad] if bad else []
        for output in outputs
    }


def _lines(problems: list[Problem]) -> str:
    return "\n".join(f"{found['message']}: {found['details']}" for found in problems)


def _inputs_of(node: dict, check: NodeCheck | None) -> dict[str, Any]:
    """Return a node's inputs: converted where it was checked, as they came where no output needs it."""
    if check is not None:
        return check.inputs
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, dict) else {}
