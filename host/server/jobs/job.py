"""A job and its result as values, and how they lie in a row of the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DONE", "FULL", "LIGHT", "STATUSES", "Job", "Result", "read_job"]

DONE = ("completed", "failed", "cancelled")
STATUSES = ("pending", "in_progress", *DONE)
# The columns that `read_job` takes: for a list, and for a whole job.
LIGHT = "id, number, status, create_time, start_time, end_time, workflow_id, summary"
FULL = f"{LIGHT}, prompt, extra_data, targets, result"


@dataclass(frozen=True)
class Result:
    """What a run left: ComfyUI's history entry without the prompt, and its outcome (one of ``DONE``)."""

    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One accepted prompt. Times are milliseconds since 1970; the heavy fields are None in a light listing."""

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
        """The five-part list in which /queue and /history show a prompt."""
        return [self.number, self.id, self.prompt, self.extra_data, self.targets]


def read_job(row: Sequence[Any]) -> Job:
    """The job in a row of ``LIGHT`` or ``FULL`` columns."""
    job_id, number, status, created, started, ended, workflow_id, summary, *heavy = row
    whole = int(number) if float(number).is_integer() else number
    parsed = [None if text is None else json.loads(text) for text in heavy] or [None] * 4
    prompt, extra_data, targets, result = parsed
    return Job(
        job_id,
        whole,
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
