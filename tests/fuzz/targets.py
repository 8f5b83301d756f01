"""Every target. A new place that takes untrusted input gets an entry in one of these modules."""

from __future__ import annotations

from tests.fuzz import files, names, prompts, requests
from tests.fuzz.workbench import Target

__all__ = ["TARGETS"]

TARGETS: list[Target] = [*prompts.TARGETS, *names.TARGETS, *files.TARGETS, *requests.TARGETS]
