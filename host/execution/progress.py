"""The progress of the nodes of one run, and the messages that tell of it."""

from __future__ import annotations

from typing import Any

from host.execution.events import Emit
from host.execution.graph import DynamicPrompt
from host.payload import jsonable

__all__ = ["Progress"]


class Progress:
    """How far each node that was started has come. Every change sends `progress_state` with all of them.

    Args:
        prompt_id: The run.
        graph: For the ids under which nodes are shown.
        emit: Where messages go.
    """

    def __init__(self, prompt_id: str, graph: DynamicPrompt, emit: Emit) -> None:
        self._prompt_id = prompt_id
        self._graph = graph
        self._emit = emit
        self._nodes: dict[str, dict[str, Any]] = {}

    def start(self, node_id: str) -> None:
        """A node begins."""
        self._set(node_id, 0.0, 1.0, "running")

    def update(self, node_id: str, value: float, total: float, preview: Any = None) -> None:
        """A node has done `value` of `total` steps, and shows `preview`."""
        value, total = jsonable(value), jsonable(total)
        self._set(node_id, value, total, "running")
        if preview is not None:
            self._emit("preview", {**self._ids(node_id), **_preview(preview)})
        self._emit("progress", {"value": value, "max": total, "prompt_id": self._prompt_id, "node": node_id})

    def finish(self, node_id: str) -> None:
        """A node is done."""
        total = self._nodes.get(node_id, {"max": 1.0})["max"]
        self._set(node_id, total, total, "finished")

    def _set(self, node_id: str, value: float, total: float, state: str) -> None:
        self._nodes[node_id] = {"value": value, "max": total, "state": state, **self._ids(node_id)}
        # Entries are replaced, never changed, so that a message may share them.
        self._emit("progress_state", {"prompt_id": self._prompt_id, "nodes": dict(self._nodes)})

    def _ids(self, node_id: str) -> dict[str, Any]:
        return {
            "node_id": node_id,
            "prompt_id": self._prompt_id,
            "display_node_id": self._graph.get_display_node_id(node_id),
            "parent_node_id": self._graph.get_parent_node_id(node_id),
            "real_node_id": self._graph.get_real_node_id(node_id),
        }


def _preview(preview: Any) -> dict[str, Any]:
    """Read a PIL image, or ComfyUI's (format, image, max_size)."""
    kind, image, max_size = preview if isinstance(preview, tuple) else ("JPEG", preview, None)
    return {"format": kind, "image": image, "max_size": max_size}
