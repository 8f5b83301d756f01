"""Runs prompts: the face that a command line and a server use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from host.context import Flag
from host.execution.cache import Cache
from host.execution.events import Emit
from host.execution.report import Failure
from host.execution.run import Run
from host.registry import Registry

__all__ = ["Executor", "RunResult"]


@dataclass(frozen=True)
class RunResult:
    """What became of a run.

    Attributes:
        status: "success", "error" or "interrupted". Outputs that were finished before an error stand.
        outputs: {node id: its ui result}, cached ones included; strict JSON. History's "outputs".
        meta: {node id: {"node_id", "display_node", "parent_node", "real_node_id"}}. History's "meta".
        messages: (event, data) pairs in order. History's "status.messages".
        failure: Where and why the run stopped, or None.
    """

    status: Literal["success", "error", "interrupted"]
    outputs: dict[str, dict[str, list]]
    meta: dict[str, dict[str, Any]]
    messages: list[tuple[str, dict[str, Any]]]
    failure: Failure | None = None


class Executor:
    """Runs one prompt after the other, and keeps results that the next one can use.

    Args:
        registry: The nodes.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._cache = Cache()

    def run(
        self,
        prompt: Mapping[str, dict],
        prompt_id: str,
        outputs: Sequence[str],
        extra_data: Mapping[str, Any],
        emit: Emit,
        cancel: Flag,
        *,
        before_end: Callable[[RunResult], None] | None = None,
    ) -> RunResult:
        """Run a prompt. Blocks; to be called from a worker thread or a main thread without an event loop.

        A node that raises ends the run with status "error"; this method raises only for faults of the host
        itself.

        Args:
            prompt: What `validate` returned as `.prompt`.
            prompt_id: The run's name in every message.
            outputs: What `validate` returned as `.outputs`.
            extra_data: The request's extra_data; `extra_pnginfo` in it goes into saved pictures.
            emit: emit(event, data), see `host.execution.events`. May be called from a node's own threads.
            cancel: Set it to stop the run before the next node, or at the node's next report of progress.
            before_end: Called with the result before the last event is sent, so that a client that acts on
                that event finds the result in history. `executing {node: None}`, which ends the stream for
                old clients, is left to the caller.
        """
        import torch

        run = Run(self.registry, self._cache, prompt, prompt_id, extra_data, emit, cancel)
        with torch.inference_mode():
            ending = asyncio.run(run.execute(outputs))
        last = run.messages.keep(ending.event, ending.data)
        result = RunResult(ending.status, run.report.ui_outputs, run.report.meta, run.messages.kept, ending.failure)
        if before_end is not None:
            before_end(result)
        emit(ending.event, last)
        return result

    def free(self) -> None:
        """Forget all results and node objects, and with them the models they hold."""
        self._cache.clear()
