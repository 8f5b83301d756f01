"""A job and its result, and how they are read from a row of the store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "FULL_COLUMNS",
    "LIGHT_COLUMNS",
    "STATUSES",
    "Job",
    "Result",
    "is_job_id",
    "read_job",
    "whole_number",
]

_FINISHED = ("completed", "failed", "cancelled")
STATUSES = ("pending", "in_progress", *_FINISHED)
# The columns that `read_job` takes: for a list of jobs, and for a complete job.
LIGHT_COLUMNS = "id, number, status, create_time, start_time, end_time, workflow_id, summary"
FULL_COLUMNS = f"{LIGHT_COLUMNS}, prompt, extra_data, targets, result"


@dataclass(frozen=True)
class Result:
    """The result of a run: ComfyUI's history entry without the prompt. The status says how the run ended."""

    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One accepted prompt. Times are milliseconds since 1970; the large fields are None in a light listing."""

    id: str
    number: float
    status: str
    create_time: int
    start_time: int | None
    end_time: int | None
    workflow_id: str | None
    summary: dict[str, Any]
    prompt: dict[str, Any] | None = None
    extra_data: dict[str, Any] | None = None
    targets: list[str] | None = None
    result: Result | None = None

    @property
    def entry(self) -> list[Any]:
        """The five-part list as which /queue and /history show a prompt."""
        return [self.number, self.id, self.prompt, self.extra_data, self.targets]


def read_job(row: Sequence[Any]) -> Job:
    """Return the job in a row of `LIGHT_COLUMNS` or `FULL_COLUMNS`."""
    job_id, number, status, created, started, ended, workflow_id, summary, *large = row
    parsed = [None if text is None else json.loads(text) for text in large] or [None] * 4
    prompt, extra_data, targets, result = parsed
    return Job(
        job_id,
        whole_number(number),
        status,
        created,
        started,
        ended,
        workflow_id,
        json.loads(summary or "{}"),
        prompt,
        extra_data,
        targets,
        None if result is None else Result(status=status, **result),
    )


def whole_number(number: float) -> float:
    """Return a number as clients expect it: an int if it is whole."""
    return int(number) if float(number).is_integer() else number


def is_job_id(value: Any) -> bool:
    """Return whether a value may be a job's id: a UUID in canonical lowercase hyphenated form."""
    try:
        return bool(str(uuid.UUID(value)) == value)
    except (ValueError, AttributeError, TypeError):
        return False
