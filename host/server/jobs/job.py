"""A job and its result, and how they are read from a row of the store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from host.strict_json import loads

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
    """One accepted prompt. Times are milliseconds since 1970.

    The large fields are kept as the JSON texts in which they are stored, and parsed only where somebody asks: what is
    parsed takes ten times the memory. They are None in a light listing.
    """

    id: str
    number: float
    status: str
    create_time: int
    start_time: int | None
    end_time: int | None
    workflow_id: str | None
    summary: dict[str, Any]
    prompt_text: str | None = None
    extra_data_text: str | None = None
    targets_text: str | None = None
    result_text: str | None = None

    @property
    def prompt(self) -> dict[str, Any] | None:
        """The prompt."""
        return None if self.prompt_text is None else loads(self.prompt_text)

    @property
    def extra_data(self) -> dict[str, Any] | None:
        """The request's extra data."""
        return None if self.extra_data_text is None else loads(self.extra_data_text)

    @property
    def targets(self) -> list[str] | None:
        """The output nodes to execute."""
        return None if self.targets_text is None else loads(self.targets_text)

    @property
    def result(self) -> Result | None:
        """The result, or None if the job has not finished."""
        return None if self.result_text is None else Result(status=self.status, **loads(self.result_text))

    @property
    def entry_texts(self) -> list[str]:
        """The five-part list as which /queue and /history show a prompt, as JSON in pieces."""
        texts = (self.prompt_text or "null", self.extra_data_text or "null", self.targets_text or "null")
        return [f"[{json.dumps(self.number)}, {json.dumps(self.id)}, ", texts[0], ", ", texts[1], ", ", texts[2], "]"]


def read_job(row: Sequence[Any]) -> Job:
    """Return the job in a row of `LIGHT_COLUMNS` or `FULL_COLUMNS`."""
    job_id, number, status, created, started, ended, workflow_id, summary, *large = row
    parsed_summary = json.loads(summary or "{}")
    return Job(job_id, whole_number(number), status, created, started, ended, workflow_id, parsed_summary, *large)


def whole_number(number: float) -> float:
    """Return a number as clients expect it: an int if it is whole."""
    return int(number) if float(number).is_integer() else number


def is_job_id(value: Any) -> bool:
    """Return whether a value may be a job's id: a UUID in canonical lowercase hyphenated form."""
    try:
        return bool(str(uuid.UUID(value)) == value)
    except (ValueError, AttributeError, TypeError):
        return False
