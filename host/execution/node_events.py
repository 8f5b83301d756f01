"""The events about nodes, in ComfyUI's shapes, and how a run ended."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from host.context import ExecutionBlocker, Interrupted
from host.error_format import qualified_name
from host.execution.dynamic_prompt import DynamicPrompt
from host.execution.events import Emit

__all__ = ["Ending", "Failure", "NodeError", "NodeEvents"]

log = logging.getLogger(__name__)

_MAX_SHOWN_INPUT = 2000  # characters of an input in an error event
_MAX_SHOWN_MESSAGE = 10_000  # characters of an error's text, which may repeat an input; every list of jobs shows it


@dataclass(frozen=True)
class Failure:
    """Where and why a run stopped: the node, its class, and the exception (None if the run was cancelled)."""

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
    """A node raised: `cause` in node `node_id`, which had `inputs`."""

    def __init__(self, node_id: str, cause: Exception, inputs: Mapping[str, list[Any]]) -> None:
        super().__init__(node_id, cause)
        self.node_id, self.cause, self.inputs = node_id, cause, inputs


class NodeEvents:
    """Sends the events about nodes, and keeps what the history needs of them.

    Attributes:
        ui_outputs: {node id: ui result} so far.
        meta: {node id: the node that shows it} so far.
        executed: The nodes that ran, in order.
    """

    def __init__(self, prompt_id: str, graph: DynamicPrompt, emit: Emit) -> None:
        self.ui_outputs: dict[str, dict[str, list[Any]]] = {}
        self.meta: dict[str, dict[str, Any]] = {}
        self.executed: list[str] = []
        self._prompt_id, self._graph, self._emit = prompt_id, graph, emit

    def send_executing(self, node_id: str) -> None:
        """Report that a node starts."""
        self._emit("executing", self._shown_ids(node_id))

    def send_executed(self, node_id: str, ui: dict[str, list[Any]] | None) -> None:
        """Report what a node shows. For a cached node the event is sent even if it shows nothing."""
        if ui is not None:
            self.ui_outputs[node_id] = ui
            self.meta[node_id] = {
                "node_id": node_id,
                "display_node": self._graph.get_display_node_id(node_id),
                "parent_node": self._graph.get_parent_node_id(node_id),
                "real_node_id": self._graph.get_real_node_id(node_id),
            }
        self._emit("executed", {**self._shown_ids(node_id), "output": ui})

    def send_blocked(self, node_id: str, blocker: ExecutionBlocker) -> ExecutionBlocker:
        """Report a blocker's message, once. Returns the silent blocker for the nodes that depend on this one."""
        if blocker.message is not None:
            data = self._error_ids(node_id) | {
                "exception_message": f"Execution Blocked: {blocker.message}",
                "exception_type": "ExecutionBlocked",
                "traceback": [],
                "current_inputs": [],
                "current_outputs": [],
            }
            self._emit("execution_error", data)
        return ExecutionBlocker(None)

    def ending(self, error: NodeError | None) -> Ending:
        """Return the last event of a run: it succeeded, a node raised, or it was cancelled."""
        if error is None:
            return Ending("success", "execution_success", {"prompt_id": self._prompt_id})
        node_id = self._graph.get_real_node_id(error.node_id)
        ids, cause = self._error_ids(node_id), error.cause
        if isinstance(cause, Interrupted):
            log.info("run %s was cancelled at node %s", self._prompt_id, node_id)
            return Ending("interrupted", "execution_interrupted", ids, Failure(node_id, ids["node_type"], None))
        log.error("node %s (%s) raised", node_id, ids["node_type"], exc_info=cause)
        data = ids | {
            "exception_message": f"{str(cause)[:_MAX_SHOWN_MESSAGE]}\n",
            "exception_type": qualified_name(type(cause)),
            "traceback": traceback.format_tb(cause.__traceback__),
            "current_inputs": {name: list(map(_shown_input, values)) for name, values in error.inputs.items()},
            "current_outputs": list(self._graph.get_original_prompt()),
        }
        return Ending("error", "execution_error", data, Failure(node_id, ids["node_type"], cause))

    def _shown_ids(self, node_id: str) -> dict[str, Any]:
        display = self._graph.get_display_node_id(node_id)
        return {"node": node_id, "display_node": display, "prompt_id": self._prompt_id}

    def _error_ids(self, node_id: str) -> dict[str, Any]:
        class_type = self._graph.get_node(node_id)["class_type"]
        executed = list(self.executed)
        return {"prompt_id": self._prompt_id, "node_id": node_id, "node_type": class_type, "executed": executed}


def _shown_input(value: Any) -> Any:
    """Return an input as an error event shows it."""
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:_MAX_SHOWN_INPUT]
