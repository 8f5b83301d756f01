"""Makes the plan of a sweep from a workflow and its options, and reports every problem of every job at once."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from host.error_format import shorten, show
from host.folders import Folders
from host.limits import MAX_VALUE_CHARACTERS
from host.packs import Registry, find_input, input_types, is_output_node
from host.prompt_format import Prompt, is_link
from host.sweep.check_jobs import UNREADABLE, Problems, check_values
from host.sweep.input_files import InputFile, InputFileError, find_input_files, names_files
from host.sweep.plan import Axis, SweepPlan, VaryingInput
from host.sweep.values import AxisOption, Column, ValuesError, read_axes
from host.validation import Validation, error_line, validate
from host.validation.links import upstream
from host.workflows import OverrideError, OverrideTarget, Workflow, find_target, replace_values
from host.workflows.examples import runnable_examples

__all__ = ["PlanError", "Planned", "make_plan"]

_MAX_ERROR_LINES = 30
_MAX_LINE = 1000  # characters
_MISSING_NODES = (
    "this host has this project's nodes and LoadImage, SaveImage, PreviewImage; --engine comfyui:PATH or "
    "http://HOST:PORT runs the nodes of a ComfyUI"
)
_MISSING_THERE = "install the packs that have them in the ComfyUI that runs the jobs"


class PlanError(ValueError):
    """Jobs that cannot be run. The message lists the problems, of many the first."""


@dataclass(frozen=True)
class Planned:
    """A plan, with the checked prompt of its first job and what the user should know.

    Attributes:
        plan: The plan.
        checked: The validation of job 0.
        notes: Sentences about what may not be meant.
    """

    plan: SweepPlan
    checked: Validation
    notes: tuple[str, ...]


def make_plan(
    workflow: Workflow,
    name: str,
    options: Sequence[str | Sequence[str]],
    registry: Registry,
    folders: Folders,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Planned:
    """Plan the jobs of a workflow, and check every one.

    Args:
        workflow: The workflow.
        name: What the workflow is called.
        options: See `read_axes`.
        registry: The node classes of the engine.
        folders: Where input files are.
        progress: Called with how many of how many combinations of values are checked.

    Raises:
        PlanError: Something cannot be run: options, values, nodes or files.
    """
    try:
        given = read_axes(options)
    except ValuesError as error:
        raise PlanError(str(error)) from error
    _require_known_classes(workflow.prompt, registry, name)
    targets = _find_targets(given, workflow.prompt, registry)
    problems = Problems()
    all_axes = _read_values(given, targets, problems)
    prompt = _with_first_values(workflow.prompt, all_axes)
    checked = validate(prompt, registry)
    files = _input_files(checked.prompt or prompt, all_axes, registry, folders)
    axes = [axis for axis in all_axes if len(axis) > 1]
    lines = _fixed_problems(checked, axes, {file.name for file in files})
    if checked.prompt:
        names = {file.name: None for file in files}
        check_values(checked.prompt, axes, registry, names, problems, progress)
    lines += problems.lines(math.prod(len(axis) for axis in axes))
    if lines:
        raise PlanError(f"{name} cannot be run:\n  " + "\n  ".join(_first_lines(lines)))
    # With other values, the editor's graph would show those that did not make the picture: leave it out.
    extra = workflow.extra_pnginfo if not options else {}
    plan = SweepPlan(
        name, checked.prompt, tuple(axes), {"extra_pnginfo": extra} if extra else {}, tuple(files), str(uuid.uuid4())
    )
    return Planned(plan, checked, tuple(_notes(given, targets, plan, registry)))


def _require_known_classes(prompt: Prompt, registry: Registry, name: str) -> None:
    """Refuse a prompt with nodes of unknown classes, and name all of them; `validate` names only the first."""
    malformed = [node_id for node_id, node in prompt.items() if not isinstance(node, dict)]
    if malformed:
        raise PlanError(
            f"{name} cannot be run: node {shorten(malformed[0], 80)} must be an object with class_type and inputs"
        )
    unknown = [
        f"node {shorten(node_id, 80)}: no class {show(node.get('class_type'))} is known"
        for node_id, node in prompt.items()
        if not (isinstance(node.get("class_type"), str) and node["class_type"] in registry.nodes)
    ]
    if unknown:
        raise PlanError("\n  ".join([f"{name} cannot be run:", *_first_lines(unknown), *_ways_out(registry)]))


def _ways_out(registry: Registry) -> Iterator[str]:
    """Yield what can be done where a node's class is not known."""
    if registry.is_described:
        yield _MISSING_THERE
        return
    yield _MISSING_NODES
    if examples := runnable_examples(registry):
        folders = sorted({f"{path.parent.name}{os.sep}" for path in examples})
        yield f"examples that run here, in {', '.join(folders)}: {', '.join(path.stem for path in examples)}"


def _first_lines(lines: list[str]) -> list[str]:
    """Return the beginnings of the first lines of a long list, and how many follow."""
    rest = len(lines) - _MAX_ERROR_LINES
    first = [shorten(line, _MAX_LINE) for line in lines[:_MAX_ERROR_LINES]]
    return first if rest <= 0 else [*first, f"and {rest} more"]


# -- the options' inputs and values

_Targets = list[list[OverrideTarget]]  # for each axis, its columns' inputs


def _find_targets(given: Sequence[AxisOption], prompt: Prompt, registry: Registry) -> _Targets:
    """Return the inputs that the options name, or report all that name none."""
    found: _Targets = []
    lines: list[str] = []
    varying: dict[tuple[str, str], bool] = {}
    for axis in given:
        found.append([])
        for column in axis.columns:
            try:
                target = find_target(prompt, column.target, registry)
            except OverrideError as error:
                lines.append(f"{column.option}: {error}")
                continue
            key = (target.node_id, target.name)
            if key in varying and (varying[key] or axis.count > 1):
                lines.append(f"{column.option}: expected one option for each input that varies, got a second one")
            varying[key] = varying.get(key, False) or axis.count > 1
            found[-1].append(target)
    if lines:
        raise PlanError("\n".join(_first_lines(lines)))
    return found


def _read_values(given: Sequence[AxisOption], targets: _Targets, problems: Problems) -> list[Axis]:
    """Read all values by their inputs' types. What cannot be read is reported, and `UNREADABLE` takes its place."""
    counts = [axis.count for axis in given]
    axes = []
    for place, (axis, found) in enumerate(zip(given, targets, strict=True)):
        others = math.prod(counts) // counts[place]
        inputs = []
        for column, target in zip(axis.columns, found, strict=True):
            step = math.prod(counts[place + 1 :])
            values = tuple(_read_column(column, target, step, others, problems))
            inputs.append(VaryingInput(column.target, target.node_id, target.name, values))
        axes.append(Axis(tuple(inputs)))
    return axes


def _read_column(column: Column, target: OverrideTarget, step: int, others: int, problems: Problems) -> Iterator[Any]:
    kind = (target.node_id, target.name, "unreadable")
    for row, text in enumerate(column.values):
        try:
            if len(text) > MAX_VALUE_CHARACTERS:
                raise OverrideError(f"a value has at most {MAX_VALUE_CHARACTERS} characters, got {len(text)}")
            yield target.read(text)
        except OverrideError as error:
            problems.add(kind, f"{column.option}: {error}", row * step, others, {column.target: text})
            yield UNREADABLE


def _with_first_values(prompt: Prompt, axes: Sequence[Axis]) -> Prompt:
    """Return the prompt of job 0; in the place of a value that cannot be read, the next one that can be."""
    values = {}
    for axis in axes:
        for each in axis.inputs:
            first = next((value for value in each.values if value is not UNREADABLE), UNREADABLE)
            if first is not UNREADABLE:
                values[each.node_id, each.name] = first
    try:
        return replace_values(prompt, values)
    except OverrideError as error:
        raise PlanError(str(error)) from error


# -- checks


def _fixed_problems(checked: Validation, axes: Sequence[Axis], files: set[str]) -> list[str]:
    """Return the errors of what is the same in every job."""
    if checked.error is not None and not checked.node_errors:
        details = f" ({checked.error['details']})" if checked.error["details"] else ""
        return [f"{checked.error['message']}{details}"]
    varying = {(each.node_id, each.name) for axis in axes for each in axis.inputs}
    nodes = {node_id for node_id, _ in varying}
    lines = []
    for node_id, entry in checked.node_errors.items():
        for error in entry["errors"]:
            name = error["extra_info"].get("input_name")
            belongs_to_values = (node_id, name) in varying or (name is None and node_id in nodes and _raised(error))
            is_sent_along = error["type"] == "value_not_in_list" and error["extra_info"].get("received_value") in files
            if not belongs_to_values and not is_sent_along:
                lines.append(error_line(node_id, entry["class_type"], error))
    return lines


def _raised(error: Any) -> bool:
    return bool(error["type"] == "exception_during_validation")


def _input_files(prompt: Prompt, axes: Sequence[Axis], registry: Registry, folders: Folders) -> list[InputFile]:
    try:
        return find_input_files(_file_names(prompt, axes, registry), folders)
    except InputFileError as error:
        raise PlanError(str(error)) from error


def _file_names(prompt: Prompt, axes: Sequence[Axis], registry: Registry) -> Iterator[Any]:
    """Yield the values of all inputs that may name a file of the input folder."""
    varying: dict[tuple[str, str], tuple[Any, ...]] = {
        (each.node_id, each.name): each.values for axis in axes for each in axis.inputs
    }
    for node_id, node in prompt.items():
        inputs = node.get("inputs")
        if not isinstance(inputs, dict):
            continue
        declared = input_types(registry.nodes[node["class_type"]])
        for name, value in inputs.items():
            spec = find_input(declared, name)
            if spec is not None and names_files(spec):
                yield from varying.get((node_id, name), (value,))


# -- notes


def _notes(given: Sequence[AxisOption], targets: _Targets, plan: SweepPlan, registry: Registry) -> Iterator[str]:
    """Yield what may not be meant: commas that split texts, and inputs that change no output."""
    for axis, found in zip(given, targets, strict=True):
        for column, target in zip(axis.columns, found, strict=True):
            if column.values.was_split and target.spec.type == "STRING":
                yield (
                    f"the commas in {column.option} separate {column.values.count} values; a value that keeps its "
                    f"commas is written in quotes: '{column.target}=\"a, b\"'"
                )
    needed = _needed_nodes(plan.prompt, registry)
    for each in (each for axis in plan.axes for each in axis.inputs):
        if each.node_id not in needed:
            yield f"{each.target} changes no result: no output depends on node {shorten(each.node_id, 80)}"


def _needed_nodes(prompt: Prompt, registry: Registry) -> set[str]:
    sources = {
        node_id: [value[0] for value in node["inputs"].values() if is_link(value)] for node_id, node in prompt.items()
    }
    outputs = [node_id for node_id, node in prompt.items() if is_output_node(registry.nodes[node["class_type"]])]
    return {node_id for output in outputs for node_id in upstream(sources, output)}
