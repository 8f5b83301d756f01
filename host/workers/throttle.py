"""Sending a job's events no faster than somebody can look at them."""

from __future__ import annotations

import time
from typing import Any

from host.engines.contract import Emit

__all__ = ["Throttle"]

_PAUSE = 0.1  # seconds between two events of a kind that may be dropped


class Throttle:
    """Passes events on, but previews and progress within a node only about ten times a second.

    Everything else is passed on: above all that a node started or finished, which `progress_state` says too.

    Args:
        emit: Receives the events.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._sent: dict[str, float] = {}  # when an event of each kind was passed on
        self._states: dict[str, Any] = {}

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        """Handle an event; this is an `emit`."""
        if event in ("progress", "preview") or (event == "progress_state" and not self._is_turn(data)):
            now = time.monotonic()
            if now < self._sent.get(event, 0.0) + _PAUSE:
                return
            self._sent[event] = now
        self._emit(event, data)

    def _is_turn(self, data: dict[str, Any]) -> bool:
        """Return whether a node has started or finished since the last `progress_state`."""
        before, self._states = self._states, {node: entry.get("state") for node, entry in data["nodes"].items()}
        return before != self._states
