"""`--dry-run`: what would be run, where it would be written, and by whom."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from host.cli.options.engines import PoolDescription
from host.engines.spec import EngineSpec
from host.error_format import shorten
from host.sweep.file_names import safe_name, value_text
from host.sweep.plan import SweepPlan

__all__ = ["print_plan"]

_FIRST, _LAST = 5, 2  # jobs that are printed
_MAX_VALUES = 8  # of an axis
_MAX_FILES = 10
_MAX_TEXT = 60  # characters of a value


def print_plan(
    plan: SweepPlan, notes: Sequence[str], description: PoolDescription, output: Path, folder: Path | None = None
) -> None:
    """Print a plan.

    Args:
        plan: The plan.
        notes: What the user should know.
        description: The workers.
        output: The output folder.
        folder: The sweep's folder, if it exists already.
    """
    lines = [f"{plan.name}: {_count(len(plan), 'job')}", *_axes(plan), ""]
    if plan.axes:
        lines += [*_jobs(plan), ""]
        below = folder or output / f"{safe_name(plan.name, 80)}-<date>-<time>"
        lines.append(f"files: {below}")
    else:
        lines.append(f"files: {output}, under the names that the nodes give")
    lines += _input_files(plan)
    lines.append(f"engine: {_engines(description)}")
    lines += [f"note: {note}" for note in notes]
    sys.stdout.write("\n".join(lines) + "\n")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _axes(plan: SweepPlan) -> list[str]:
    lines = []
    for axis in plan.axes:
        for number, each in enumerate(axis.inputs):
            values = [shorten(value_text(value), _MAX_TEXT) for value in each.values[:_MAX_VALUES]]
            more = [f"... {value_text(each.values[-1])[:_MAX_TEXT]}"] if len(each.values) > _MAX_VALUES else []
            shown = ", ".join([*values, *more])
            together = " (together with the one above)" if number else ""
            lines.append(f"  {each.target}, node {each.node_id}: {_count(len(axis), 'value')}{together}: {shown}")
    return lines


def _jobs(plan: SweepPlan) -> list[str]:
    total = len(plan)
    if total <= _FIRST + _LAST + 1:
        chosen: list[int | None] = list(range(total))
    else:
        chosen = [*range(_FIRST), None, *range(total - _LAST, total)]
    return ["  ..." if index is None else f"  {plan.file_stem(index)}" for index in chosen]


def _input_files(plan: SweepPlan) -> list[str]:
    files = plan.input_files
    names = ", ".join(f"{shorten(file.name, _MAX_TEXT)} ({file.size:,} bytes)" for file in files[:_MAX_FILES])
    more = f" and {len(files) - _MAX_FILES:,} more" if len(files) > _MAX_FILES else ""
    return [f"input files: {names}{more}"] if files else []


def _engines(description: PoolDescription) -> str:
    groups = [(spec, len(list(same))) for spec, same in itertools.groupby(description.specs)]
    if description.address:
        workers = f"{description.workers} workers" if description.workers else "a worker for each device"
        return f"{_engine(description.specs[0])}, {workers} of the cluster at {description.address}"
    return "; ".join(
        f"{_engine(spec)}, {_count(count, 'worker')}, {_count(spec.threads, 'thread')} each" for spec, count in groups
    )


def _engine(spec: EngineSpec) -> str:
    return {"embedded": "embedded", "comfyui": f"the ComfyUI in {spec.address}"}.get(
        spec.kind, f"the ComfyUI at {spec.address}"
    )
