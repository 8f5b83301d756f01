"""What the editor in the browser asks for and gets: routes, reports of schedules and inversions, step replay."""

from __future__ import annotations

from .messages import levels_note
from .partial_replay import partial_kept
from .payloads import fit_report, schedule_report
from .remembered import remember
from .replay import Replay, RunSteps
from .replay_sheet import lay_out
from .round_trip import inversion_report
from .routes import register_routes

__all__ = [
    "Replay",
    "RunSteps",
    "fit_report",
    "inversion_report",
    "lay_out",
    "levels_note",
    "partial_kept",
    "register_routes",
    "remember",
    "schedule_report",
]
