"""Checks the values of every job before the first one runs, without making every job.

Validation looks at one node at a time, and at its inputs one by one, except where a class checks some of them together
(VALIDATE_INPUTS). So each axis is checked alone, and those axes together whose inputs a class takes together: together
this finds the problems of every job, of a million too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from host.error_format import ErrorInfo, shorten
from host.packs import Registry
from host.prompt_format import Prompt
from host.sweep.plan import Axis
from host.validation import error_line
from host.validation.check_node import check_node
from host.validation.custom_check import read_custom_check

__all__ = ["UNREADABLE", "Problems", "check_values", "stride"]

Progress = Callable[[int, int], None]

UNREADABLE = object()  # in the place of a value that is not of its input's type
_MAX_KINDS = 1000


@dataclass
class _Kind:
    """One kind of problem.

    Attributes:
        first_job: The first job that has it.
        values: That job's values of the axes that cause it.
        message: What is wrong there.
        jobs: How many jobs have it.
    """

    first_job: int
    values: dict[str, Any]
    message: str
    jobs: int


class Problems:
    """The problems of all jobs. The same one of many jobs is kept once, with their number."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], _Kind] = {}

    def add(self, kind: tuple[str, ...], message: str, job: int, jobs: int, values: dict[str, Any]) -> None:
        """Add a problem that `jobs` jobs have, of which `job` is the first."""
        known = self._kinds.get(kind)
        if known is not None:
            known.jobs += jobs
        elif len(self._kinds) < _MAX_KINDS:
            self._kinds[kind] = _Kind(job, values, message, jobs)

    def lines(self, jobs: int) -> list[str]:
        """Return a line for each kind of problem, in the order of the jobs, of which there are `jobs`."""
        return [_line(kind, jobs) for kind in sorted(self._kinds.values(), key=lambda kind: kind.first_job)]


def _line(kind: _Kind, jobs: int) -> str:
    if kind.jobs == jobs:
        return kind.message
    values = ", ".join(f"{shorten(target, 60)}={shorten(str(value), 60)}" for target, value in kind.values.items())
    more = f" and {kind.jobs - 1:,} more" if kind.jobs > 1 else ""
    return f"job {kind.first_job}{more} ({values}): {kind.message}"


@dataclass(frozen=True)
class _Group:
    """Axes whose values are checked together on one node.

    Attributes:
        node_id: The node.
        places: The axes' places in the plan.
    """

    node_id: str
    places: tuple[int, ...]


def check_values(
    prompt: Prompt,
    axes: Sequence[Axis],
    registry: Registry,
    files: Mapping[str, Any],
    problems: Problems,
    progress: Progress = lambda done, total: None,
) -> None:
    """Check the values of all axes, and add what is wrong to `problems`.

    Args:
        prompt: The prompt of job 0.
        axes: The axes. Values that are `UNREADABLE` are skipped; who put them there has reported them.
        registry: The node classes.
        files: The names of the input files that go to the engine, which may not list them as choices yet.
        problems: Receives the problems.
        progress: Called with how many of how many combinations are checked.
    """
    groups = list(_groups(prompt, axes, registry))
    total = sum(math.prod(len(axes[place]) for place in group.places) for group in groups)
    declarations: dict[str, dict[str, dict[str, Any]]] = {}
    done = 0
    for group in groups:
        chosen = [axes[place] for place in group.places]
        for rows in product(*(range(len(axis)) for axis in chosen)):
            values = _values_on_node(group.node_id, chosen, rows)
            if not any(value is UNREADABLE for value in values.values()):
                errors = _errors(group.node_id, values, prompt, registry, declarations, files)
                _report(errors, group, rows, prompt, axes, problems)
            done += 1
            progress(done, total)


def _groups(prompt: Prompt, axes: Sequence[Axis], registry: Registry) -> Iterator[_Group]:
    """Yield, for each node with varying inputs, the axes that have to be checked together."""
    on_node: dict[str, dict[int, list[str]]] = {}
    for place, axis in enumerate(axes):
        for each in axis.inputs:
            on_node.setdefault(each.node_id, {}).setdefault(place, []).append(each.name)
    for node_id, places in on_node.items():
        cls = registry.nodes[prompt[node_id]["class_type"]]
        custom = read_custom_check(cls)
        together = tuple(
            place
            for place, names in places.items()
            if hasattr(cls, "LIVE_INPUT_TYPES") or (custom is not None and any(map(custom.takes, names)))
        )
        if together:
            yield _Group(node_id, together)
        yield from (_Group(node_id, (place,)) for place in places if place not in together)


def _values_on_node(node_id: str, axes: Sequence[Axis], rows: Sequence[int]) -> dict[str, Any]:
    return {
        each.name: each.values[row]
        for axis, row in zip(axes, rows, strict=True)
        for each in axis.inputs
        if each.node_id == node_id
    }


def _errors(
    node_id: str,
    values: dict[str, Any],
    prompt: Prompt,
    registry: Registry,
    declarations: dict[str, dict[str, dict[str, Any]]],
    files: Mapping[str, Any],
) -> list[ErrorInfo]:
    """Return the errors of a node that come from these values."""
    node = prompt[node_id]
    changed = {**prompt, node_id: {**node, "inputs": {**node["inputs"], **values}}}
    report = check_node(node_id, changed, registry, declarations)
    return [
        error
        for error in report.errors
        if error["extra_info"].get("input_name", next(iter(values))) in values
        and not (error["type"] == "value_not_in_list" and _is_file(values, error, files))
    ]


def _is_file(values: dict[str, Any], error: ErrorInfo, files: Mapping[str, Any]) -> bool:
    value = values.get(error["extra_info"].get("input_name", ""))
    return isinstance(value, str) and value in files


def _report(
    errors: Sequence[ErrorInfo],
    group: _Group,
    rows: Sequence[int],
    prompt: Prompt,
    axes: Sequence[Axis],
    problems: Problems,
) -> None:
    """Add the errors of one combination, with the first job that has it."""
    if not errors:
        return
    job = sum(row * stride(axes, place) for place, row in zip(group.places, rows, strict=True))
    jobs = math.prod(len(axis) for axis in axes) // math.prod(len(axes[place]) for place in group.places)
    values = {
        each.target: each.values[row]
        for place, row in zip(group.places, rows, strict=True)
        for each in axes[place].inputs
        if each.node_id == group.node_id
    }
    class_type = prompt[group.node_id]["class_type"]
    for error in errors:
        kind = (group.node_id, error["extra_info"].get("input_name", ""), error["type"])
        problems.add(kind, error_line(group.node_id, class_type, error), job, jobs, values)


def stride(axes: Sequence[Axis], place: int) -> int:
    """Return by how much a job's index grows from one value of an axis to the next."""
    return math.prod(len(axis) for axis in axes[place + 1 :])
