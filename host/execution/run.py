"""One run of a prompt, from its first node to its last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from host.context import CancelFlag, ExecutionBlocker, Interrupted, NodeCall, enter_node_call
from host.error_format import show
from host.execution.cache import Cache
from host.execution.calls import Inputs, Returned, await_tasks, call_all, join_outputs, read_returns
from host.execution.dynamic_prompt import DynamicPrompt
from host.execution.events import Emit, EventLog, ProgressEvents
from host.execution.node_events import Ending, NodeError, NodeEvents
from host.execution.node_inputs import gather_inputs, hidden_inputs
from host.execution.node_outputs import NodeOutputs
from host.execution.ready_queue import ReadyQueue
from host.packs import Registry, is_output_node
from host.prompt_format import Prompt, is_link
from host.strict_json import jsonable

__all__ = ["Run"]


def _unchanged(blocker: ExecutionBlocker) -> ExecutionBlocker:
    return blocker


class Run:
    """The state of one run. `execute` is called once.

    Attributes:
        node_events: What the nodes did and showed so far.
        log: The events that the history keeps.
    """

    def __init__(
        self,
        registry: Registry,
        cache: Cache,
        prompt: Prompt,
        prompt_id: str,
        extra_data: Mapping[str, Any],
        emit: Emit,
        cancel: CancelFlag,
    ) -> None:
        self._prompt_id, self._extra_data, self._cancel = prompt_id, extra_data, cancel
        self._graph = DynamicPrompt(prompt)
        self._outputs = NodeOutputs(registry, cache, self._graph)
        self._classes = self._outputs.classes
        self._queue = ReadyQueue(self._graph, self._classes, lambda node_id: self._outputs.get(node_id) is not None)
        self._progress = ProgressEvents(prompt_id, self._graph, emit)
        self._tasks: dict[str, asyncio.Future[list[Any]]] = {}  # async nodes that have not finished
        self._expanded: dict[str, Returned] = {}  # nodes whose outputs come from nodes that they added
        self.node_events = NodeEvents(prompt_id, self._graph, emit)
        self.log = EventLog(emit)

    async def execute(self, outputs: Sequence[str]) -> Ending:
        """Run the nodes that `outputs` depend on, and return how the run ended."""
        self.log.send("execution_start", {"prompt_id": self._prompt_id})
        cached = await self._outputs.open(self._query)
        self.log.send("execution_cached", {"nodes": cached, "prompt_id": self._prompt_id})
        for node_id in outputs:
            self._queue.add(node_id)
        try:
            while self._queue:
                await self._advance()
        except NodeError as error:
            return self.node_events.ending(error)
        self._show_intermediate(cached)
        return self.node_events.ending(None)

    async def _advance(self) -> None:
        """Run one node, or wait for an async one if nothing else can run."""
        for node_id in [node_id for node_id, task in self._tasks.items() if task.done()]:
            self._queue.release(node_id)
        picked = self._queue.pick()
        if picked is None and self._tasks:
            await self._wait_for_tasks()
        elif picked is None:
            raise NodeError(self._queue.stuck()[0], RuntimeError("Dependency cycle detected"), {})
        elif await self._run_node(picked):
            self._queue.finish(picked)
            self._progress.finish(picked)

    async def _wait_for_tasks(self) -> None:
        """Sleep until an async node is done, or the run is cancelled."""
        while not any(task.done() for task in self._tasks.values()):
            await asyncio.wait(self._tasks.values(), timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
            if self._cancel.is_set():
                raise NodeError(next(iter(self._tasks)), Interrupted(), {})

    async def _run_node(self, node_id: str) -> bool:
        """Run a node. Returns False if it must wait: for a lazy input, its async call, or nodes that it added."""
        cached = self._outputs.get(node_id)
        if cached is not None:
            self.node_events.send_executed(node_id, cached.ui)
            return True
        inputs: Inputs = {}
        try:
            returned = await self._start_or_resume(node_id, inputs)
            if returned is None:
                return False
            if returned.ui:
                self.node_events.send_executed(node_id, jsonable(returned.ui))
            if returned.expansions:
                await self._expand(node_id, returned)
                return False
            outputs = join_outputs(returned.tuples, self._classes[node_id])
        except Exception as error:
            raise NodeError(node_id, error, inputs) from error
        self._outputs.put(node_id, outputs, self.node_events.ui_outputs.get(node_id))
        self.node_events.executed.append(node_id)
        return True

    async def _start_or_resume(self, node_id: str, inputs: Inputs) -> Returned | None:
        """Return a node's result, or None if it has to wait. Fills `inputs` with its arguments."""
        node = self._classes[node_id]
        if node_id in self._tasks:
            return read_returns(self._tasks.pop(node_id).result(), node)
        if node_id in self._expanded:
            return Returned(self._resolve_expansion(self._expanded.pop(node_id)))
        self._progress.start(node_id)
        values, missing = gather_inputs(node, self._graph.get_node(node_id)["inputs"], self._outputs.fetch)
        inputs |= values | hidden_inputs(node, node_id, self._graph, self._extra_data)
        self.node_events.send_executing(node_id)
        obj = self._outputs.object_of(node_id)
        if await self._wait_for_lazy(node_id, obj, inputs, missing):
            return None
        on_block = partial(self.node_events.send_blocked, node_id)
        results = await self._call(node_id, getattr(obj, node.FUNCTION), inputs, on_block)
        if any(isinstance(result, asyncio.Task) for result in results):
            self._tasks[node_id] = asyncio.ensure_future(await_tasks(results))
            self._queue.hold(node_id)
            return None
        return read_returns(results, node)

    async def _call(
        self,
        node_id: str,
        method: Any,
        inputs: Inputs,
        on_block: Callable[[ExecutionBlocker], ExecutionBlocker] = _unchanged,
    ) -> list[Any]:
        """Call a method of the node for each set of its inputs, unless the run is cancelled."""

        def enter(index: int) -> AbstractContextManager[None]:
            if self._cancel.is_set():
                raise Interrupted
            return self._enter_call(node_id, index)

        return await call_all(method, inputs, self._wants_lists(node_id), enter, on_block)

    async def _query(self, node_id: str, method: Any, inputs: Inputs) -> list[Any]:
        """Call a method that only describes the node, such as IS_CHANGED; also in a cancelled run."""
        return await call_all(
            method, inputs, self._wants_lists(node_id), partial(self._enter_call, node_id), _unchanged
        )

    def _wants_lists(self, node_id: str) -> bool:
        return bool(getattr(self._classes[node_id], "INPUT_IS_LIST", False))

    def _enter_call(self, node_id: str, index: int) -> AbstractContextManager[None]:
        """Open the context of one call, in which the node may report progress and learn that it should stop."""
        report = partial(self._progress.update, node_id)
        return enter_node_call(NodeCall(self._prompt_id, node_id, report, self._cancel, index))

    async def _wait_for_lazy(self, node_id: str, obj: Any, inputs: Inputs, missing: set[str]) -> bool:
        """Ask the node which lazy inputs it needs. Returns whether it now waits for one."""
        check = getattr(obj, "check_lazy_status", None)
        if check is None:
            return False
        answers = await await_tasks(await self._call(node_id, check, inputs))
        wanted = {name for answer in answers if isinstance(answer, list) for name in answer}
        lacking = [name for name in sorted(wanted) if name in missing or name not in inputs]
        for name in lacking:
            link = self._graph.get_node(node_id)["inputs"].get(name)
            if not is_link(link):
                raise ValueError(f"check_lazy_status asks for the input {show(name)}, which is not linked to a node")
            self._queue.require(node_id, link[0])
        return bool(lacking)

    async def _expand(self, node_id: str, returned: Returned) -> None:
        """Add a node's new nodes to the graph, and make it wait for those that its outputs come from."""
        added = {new_id: node for expansion in returned.expansions for new_id, node in (expansion or {}).items()}
        await self._outputs.add_nodes(added, node_id, self._query)
        self._expanded[node_id] = returned
        for new_id in added:
            if is_output_node(self._classes[new_id]):
                self._queue.add(new_id)
        for expansion, outputs in zip(returned.expansions, returned.tuples, strict=True):
            for value in outputs if expansion is not None else ():
                if is_link(value):
                    self._queue.require(node_id, value[0])

    def _resolve_expansion(self, returned: Returned) -> list[list[Any]]:
        """Return an expanded node's outputs, with links replaced by the values of the nodes that it added."""
        resolved = []
        for expansion, outputs in zip(returned.expansions, returned.tuples, strict=True):
            values: list[Any] = []
            for value in outputs:
                if expansion is not None and is_link(value):
                    values.extend(self._outputs.fetch(*value) or [None])
                else:
                    values.append(value)
            resolved.append(values)
        return resolved

    def _show_intermediate(self, cached: Sequence[str]) -> None:
        """Send again what cached nodes inside the graph show, if their class says that this matters."""
        for node_id in cached:
            entry = self._outputs.get(node_id)
            shows = getattr(self._classes[node_id], "HAS_INTERMEDIATE_OUTPUT", False) is True
            if shows and entry is not None and node_id not in self.node_events.ui_outputs:
                self.node_events.send_executed(node_id, entry.ui)
