"""What a run tells: ComfyUI's events with their shapes, and how it ended."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from host.checking.node_check import type_name
from host.context import ExecutionBlocker, Interrupted
from host.execution.events import Emit
from host.execution.graph import DynamicPrompt

__all__ = ["Ending", "Failure", "NodeError", "Report"]

log = logging.getLogger(__name__)

_SHOWN_LENGTH = 2000  # characters of an input's text in an error message


@dataclass(frozen=True)
class Failure:
    """Where and why a run stopped: the node, its class, the exception (None where the person cancelled)."""

    node_id: str
    class_type: str
    exception: BaseException | None


@dataclass(frozen=True)
class Ending:
    """The last event of a run."""

    status: Literal["success", "error", "interrupted"]
    event: str
    data: dict[str, Any]
    failure: Failure | None = None


class NodeError(Exception):
    """A node raised: `cause` inside node `node_id`, which had `inputs`."""

    def __init__(self, node_id: str, cause: Exception, inputs: Mapping[str, list]) -> None:
        super().__init__(node_id, cause)
        self.node_id, self.cause, self.inputs = node_id, cause, inputs


class Report:
    """Tells what nodes do and show, and keeps it for history.

    Attributes:
        ui_outputs: {node id: ui result} so far.
        meta: {node id: who shows it} so far.
        executed: The nodes that ran, in order.
    """

    def __init__(self, prompt_id: str, graph: DynamicPrompt, emit: Emit) -> None:
        self.ui_outputs: dict[str, dict[str, list]] = {}
        self.meta: dict[str, dict[str, Any]] = {}
        self.executed: list[str] = []
        self._prompt_id, self._graph, self._emit = prompt_id, graph, emit

    def executing(self, node_id: str) -> None:
        """Tell that a node begins."""
        self._emit("executing", self._place(node_id))

    def shown(self, node_id: str, ui: dict[str, list] | None) -> None:
        """Tell what a node shows; a cached node that shows nothing is told of too."""
        if ui is not None:
            self.ui_outputs[node_id] = ui
            self.meta[node_id] = {
                "node_id": node_id,
                "display_node": self._graph.get_display_node_id(node_id),
                "parent_node": self._graph.get_parent_node_id(node_id),
                "real_node_id": self._graph.get_real_node_id(node_id),
            }
        self._emit("executed", {**self._place(node_id), "output": ui})

    def blocked(self, node_id: str, blocker: ExecutionBlocker) -> ExecutionBlocker:
        """Tell the message of a blocker once; what is behind the node is blocked silently."""
        if blocker.message is not None:
            data = self._position(node_id) | {
                "exception_message": f"Execution Blocked: {blocker.message}",
                "exception_type": "ExecutionBlocked",
                "traceback": [],
                "current_inputs": [],
                "current_outputs": [],
            }
            self._emit("execution_error", data)
        return ExecutionBlocker(None)

    def ending(self, error: NodeError | None) -> Ending:
        """Return the last event: of a run that came through, or one that an exception or the person ended."""
        if error is None:
            return Ending("success", "execution_success", {"prompt_id": self._prompt_id})
        node_id = self._graph.get_real_node_id(error.node_id)
        position, cause = self._position(node_id), error.cause
        if isinstance(cause, Interrupted):
            log.info("run %s was cancelled at node %s", self._prompt_id, node_id)
            failure = Failure(node_id, position["node_type"], None)
            return Ending("interrupted", "execution_interrupted", position, failure)
        log.error("node %s (%s) raised", node_id, position["node_type"], exc_info=cause)
        data = position | {
            "exception_message": f"{cause}\n",
            "exception_type": type_name(type(cause)),
            "traceback": traceback.format_tb(cause.__traceback__),
            "current_inputs": {name: list(map(_shown, values)) for name, values in error.inputs.items()},
            "current_outputs": list(self._graph.get_original_prompt()),
        }
        return Ending("error", "execution_error", data, Failure(node_id, position["node_type"], cause))

    def _place(self, node_id: str) -> dict[str, Any]:
        display = self._graph.get_display_node_id(node_id)
        return {"node": node_id, "display_node": display, "prompt_id": self._prompt_id}

    def _position(self, node_id: str) -> dict[str, Any]:
        kind = self._graph.get_node(node_id)["class_type"]
        return {"prompt_id": self._prompt_id, "node_id": node_id, "node_type": kind, "executed": list(self.executed)}


def _shown(value: Any) -> Any:
    """Return an input as an error message shows it."""
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:_SHOWN_LENGTH]
