"""Runs prompts: the interface that the command line and the server use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from host.context import CancelFlag
from host.execution.cache import Cache
from host.execution.events import Emit
from host.execution.node_events import Failure
from host.execution.run import Run
from host.packs import Registry
from host.prompt_format import Prompt

__all__ = ["Executor", "RunResult"]


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        status: "success", "error" or "interrupted". Outputs that were finished before an error remain.
        outputs: {node id: its ui result}, cached ones included, as strict JSON: the history's "outputs".
        meta: {node id: {"node_id", "display_node", "parent_node", "real_node_id"}}: the history's "meta".
        messages: (event, data) pairs in order: the history's "status.messages".
        failure: Where and why the run stopped, or None.
    """

    status: Literal["success", "error", "interrupted"]
    outputs: dict[str, dict[str, list[Any]]]
    meta: dict[str, dict[str, Any]]
    messages: list[tuple[str, dict[str, Any]]]
    failure: Failure | None = None


class Executor:
    """Runs one prompt after another, and keeps the results that the next one can use.

    Args:
        registry: The known nodes.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._cache = Cache()

    def run(
        self,
        prompt: Prompt,
        prompt_id: str,
        outputs: Sequence[str],
        extra_data: dict[str, Any],
        emit: Emit,
        cancel: CancelFlag,
        *,
        before_end: Callable[[RunResult], None] | None = None,
    ) -> RunResult:
        """Run a prompt. Blocks; call it from a worker thread, or from a main thread without an event loop.

        A node that raises ends the run with status "error"; this method itself raises only for faults of the host.

        Args:
            prompt: `Validation.prompt`.
            prompt_id: The id of the run in every event.
            outputs: `Validation.outputs`.
            extra_data: The request's extra_data; its `extra_pnginfo` is stored in saved pictures.
            emit: emit(event, data); see `host.execution.events`. May be called from a node's own threads.
            cancel: Set it to stop the run before the next node, or at the node's next progress report.
            before_end: Called with the result before the last event is sent, so that a client that reacts to that
                event finds the result in the history. `executing {node: None}`, which ends the stream for old clients,
                is left to the caller.
        """
        run = Run(self.registry, self._cache, prompt, prompt_id, extra_data, emit, cancel)
        with torch.inference_mode():
            ending = asyncio.run(run.execute(outputs))
        last_data = run.log.record(ending.event, ending.data)
        node_events = run.node_events
        result = RunResult(ending.status, node_events.ui_outputs, node_events.meta, run.log.events, ending.failure)
        if before_end is not None:
            before_end(result)
        emit(ending.event, last_data)
        return result

    def forget_written(self) -> None:
        """Drop the results of nodes that end a graph or wrote files that are kept, so that they run again.

        For a caller that takes the files of each run away. What those nodes depend on stays cached.
        """
        self._cache.drop_written()

    def free(self) -> None:
        """Drop all results and node objects, and the models that they hold."""
        self._cache.clear()
