"""The events of a run with ComfyUI's names: which of them the history keeps, and the events about progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from host.execution.dynamic_prompt import DynamicPrompt
from host.strict_json import jsonable

__all__ = ["Emit", "EventLog", "ProgressEvents"]

# emit(event, data). The events in the order of a run: execution_start, execution_cached, then for each node
# progress_state, executing, [progress_state, preview, progress]..., executed, progress_state; and last one of
# execution_success, execution_error, execution_interrupted. The data of all but `preview` is plain JSON. `preview`
# carries {"image": a PIL image, "format": "JPEG" | "PNG", "max_size": int | None} with the node's ids.
Emit = Callable[[str, dict[str, Any]], None]


class EventLog:
    """Sends the events that the history keeps, adds their time, and keeps them."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.events: list[tuple[str, dict[str, Any]]] = []

    def send(self, event: str, data: dict[str, Any]) -> None:
        """Record an event and send it."""
        self._emit(event, self.record(event, data))

    def record(self, event: str, data: dict[str, Any]) -> dict[str, Any]:
        """Record an event without sending it. Returns the data to send."""
        message: dict[str, Any] = jsonable({**data, "timestamp": int(time.time() * 1000)})
        self.events.append((event, message))
        return message


class ProgressEvents:
    """The progress of each node that was started. Every change sends `progress_state` with all of them.

    Args:
        prompt_id: The prompt that is running.
        graph: Knows the ids under which nodes are shown.
        emit: Receives the events.
    """

    def __init__(self, prompt_id: str, graph: DynamicPrompt, emit: Emit) -> None:
        self._prompt_id = prompt_id
        self._graph = graph
        self._emit = emit
        self._nodes: dict[str, dict[str, Any]] = {}

    def start(self, node_id: str) -> None:
        """Report that a node starts."""
        self._set(node_id, 0.0, 1.0, "running")

    def update(self, node_id: str, value: float, total: float, preview: Any = None) -> None:
        """Report that a node has done `value` of `total` steps, with an optional preview."""
        value, total = jsonable(value), jsonable(total)
        self._set(node_id, value, total, "running")
        if preview is not None:
            self._emit("preview", {**self._ids(node_id), **_preview_data(preview)})
        self._emit("progress", {"value": value, "max": total, "prompt_id": self._prompt_id, "node": node_id})

    def finish(self, node_id: str) -> None:
        """Report that a node is done."""
        total = self._nodes.get(node_id, {"max": 1.0})["max"]
        self._set(node_id, total, total, "finished")

    def _set(self, node_id: str, value: float, total: float, state: str) -> None:
        self._nodes[node_id] = {"value": value, "max": total, "state": state, **self._ids(node_id)}
        # Entries are replaced, never changed, so that an event can share them.
        self._emit("progress_state", {"prompt_id": self._prompt_id, "nodes": dict(self._nodes)})

    def _ids(self, node_id: str) -> dict[str, Any]:
        return {
            "node_id": node_id,
            "prompt_id": self._prompt_id,
            "display_node_id": self._graph.get_display_node_id(node_id),
            "parent_node_id": self._graph.get_parent_node_id(node_id),
            "real_node_id": self._graph.get_real_node_id(node_id),
        }


def _preview_data(preview: Any) -> dict[str, Any]:
    """Read a preview: a PIL image, or ComfyUI's (format, image, max_size)."""
    image_format, image, max_size = preview if isinstance(preview, tuple) else ("JPEG", preview, None)
    return {"format": image_format, "image": image, "max_size": max_size}
