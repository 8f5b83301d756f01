"""The plan of a sweep: a checked prompt, the axes with their values, and from these every job by its index.

It can be written as JSON, so that a sweep that was stopped goes on with the same jobs, whatever became of its files.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from host.engines.contract import Job
from host.error_format import shorten, show
from host.limits import MAX_SWEEP_JOBS
from host.prompt_format import Prompt
from host.strict_json import dumps, loads
from host.sweep.file_names import file_stem
from host.sweep.input_files import InputFile

__all__ = ["Axis", "SweepPlan", "VaryingInput"]

_FORMAT = 1


@dataclass(frozen=True)
class VaryingInput:
    """An input that varies.

    Attributes:
        target: NODE.INPUT as the user wrote it.
        node_id: The node.
        name: The input.
        values: Its values, of the declared type.
    """

    target: str
    node_id: str
    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Axis:
    """Inputs that vary together. All have the same number of values, at least 2."""

    inputs: tuple[VaryingInput, ...]

    def __len__(self) -> int:
        return len(self.inputs[0].values)


@dataclass(frozen=True)
class SweepPlan:
    """The jobs of a sweep; see `host.sweep.contract.Jobs`.

    Attributes:
        name: What the workflow is called.
        prompt: The checked prompt of job 0.
        axes: What varies; the last one fastest. None for a single run.
        extra_data: The `extra_data` of every job.
        input_files: The files that jobs read from the input folder.
        key: Unique to this sweep; the jobs' ids are made from it.
    """

    name: str
    prompt: Prompt
    axes: tuple[Axis, ...]
    extra_data: dict[str, Any]
    input_files: tuple[InputFile, ...]
    key: str

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.axes)

    def rows(self, index: int) -> tuple[int, ...]:
        """Return the place of a job on each axis. Raises IndexError for an index that there is none for."""
        if not 0 <= index < len(self):
            raise IndexError(f"the jobs are numbered 0 to {len(self) - 1}, got {index}")
        places = []
        for axis in reversed(self.axes):
            index, place = divmod(index, len(axis))
            places.append(place)
        return tuple(reversed(places))

    def job(self, index: int) -> Job:
        """Return the job `index`, 0 to len - 1. Nodes without varying inputs are shared between the jobs' prompts."""
        prompt = dict(self.prompt)
        for axis, row in zip(self.axes, self.rows(index), strict=True):
            for each in axis.inputs:
                node = prompt[each.node_id]
                prompt[each.node_id] = {**node, "inputs": {**node["inputs"], each.name: each.values[row]}}
        return Job(str(uuid.uuid5(uuid.UUID(self.key), str(index))), prompt, self.extra_data)

    def values(self, index: int) -> dict[str, Any]:
        """Return {NODE.INPUT as the user wrote it: value} of a job, in the order of the axes."""
        return {
            each.target: each.values[row]
            for axis, row in zip(self.axes, self.rows(index), strict=True)
            for each in axis.inputs
        }

    def file_stem(self, index: int) -> str:
        """Return the beginning of a job's file names."""
        return file_stem(index, len(self), self.values(index))

    def definition(self) -> dict[str, Any]:
        """Return the whole plan as JSON values. The values of an input are one text, however many there are."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "prompt": self.prompt,
            "axes": [[_written(each) for each in axis.inputs] for axis in self.axes],
            "extra_data": self.extra_data,
            "input_files": [asdict(file) for file in self.input_files],
            "key": self.key,
        }

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> SweepPlan:
        """Return the plan that `definition` describes.

        Raises:
            ValueError: It is no definition, or that of another version.
        """
        if not isinstance(definition, Mapping) or definition.get("format") != _FORMAT:
            raise ValueError(f"expected a plan of format {_FORMAT}, got {show(definition)}")
        try:
            axes = tuple(Axis(tuple(_read_input(each) for each in axis)) for axis in definition["axes"])
            files = tuple(InputFile(**file) for file in definition["input_files"])
            if not all(isinstance(definition[key], dict) for key in ("prompt", "extra_data")):
                raise TypeError("the prompt or its metadata is no object")
            if not definition["prompt"]:
                raise ValueError("its prompt has no node")
            plan = cls(
                str(definition["name"]),
                definition["prompt"],
                axes,
                definition["extra_data"],
                files,
                str(uuid.UUID(definition["key"])),
            )
            if len(plan) > MAX_SWEEP_JOBS:
                raise ValueError(f"it has {len(plan)} jobs")
            plan.job(len(plan) - 1)
            plan.file_stem(len(plan) - 1)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise ValueError(
                f"the plan is incomplete or damaged: {type(error).__name__}: {shorten(str(error), 200)}"
            ) from error
        return plan


def _written(each: VaryingInput) -> dict[str, Any]:
    return {"target": each.target, "node_id": each.node_id, "name": each.name, "values": dumps(list(each.values))}


def _read_input(entry: Mapping[str, Any]) -> VaryingInput:
    values = loads(str(entry["values"]))
    if not isinstance(values, list) or len(values) > MAX_SWEEP_JOBS:
        raise ValueError(f"expected a list of at most {MAX_SWEEP_JOBS} values")
    return VaryingInput(str(entry["target"]), str(entry["node_id"]), str(entry["name"]), tuple(values))
