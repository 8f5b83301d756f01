"""What the editor in the browser asks for and gets: routes, reports of schedules and inversions, step replay."""

from __future__ import annotations

from .messages import levels_note
from .payloads import fit_report, inversion_report, schedule_report
from .remembered import remember
from .replay import Replay
from .routes import register_routes

__all__ = ["Replay", "fit_report", "inversion_report", "levels_note", "register_routes", "remember", "schedule_report"]
