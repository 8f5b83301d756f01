"""The messages of a run: ComfyUI's event names, and what of them history keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from host.payload import jsonable

__all__ = ["Emit", "Messages"]

# emit(event, data). The events, in the order of a run: execution_start, execution_cached, then for each node
# progress_state, executing, [progress_state, preview, progress]..., executed, progress_state; last one of
# execution_success, execution_error, execution_interrupted. The data of all but `preview` is plain JSON.
# `preview` carries {"image": a PIL image, "format": "JPEG" | "PNG", "max_size": int | None} with the node's
# ids.
Emit = Callable[[str, dict[str, Any]], None]


class Messages:
    """Sends the events that history keeps, with their time, and keeps them."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.kept: list[tuple[str, dict[str, Any]]] = []

    def send(self, event: str, data: dict[str, Any]) -> None:
        """Send an event and keep it."""
        message = self.keep(event, data)
        self._emit(event, message)

    def keep(self, event: str, data: dict[str, Any]) -> dict[str, Any]:
        """Keep an event without sending it yet; returns its data as it is to be sent."""
        message = jsonable({**data, "timestamp": int(time.time() * 1000)})
        self.kept.append((event, message))
        return message
