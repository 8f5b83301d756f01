"""One prompt on its way from the first node to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from host.checking.links import is_link
from host.context import ExecutionBlocker, Flag, Interrupted, NodeRun, open_node
from host.execution.cache import Cache
from host.execution.calls import Returned, call_all, finished, join_outputs, read_returns
from host.execution.events import Emit, Messages
from host.execution.graph import DynamicPrompt
from host.execution.node_inputs import gather_inputs, hidden_inputs
from host.execution.progress import Progress
from host.execution.report import Ending, NodeError, Report
from host.execution.results import Results
from host.execution.waiting import Waiting
from host.payload import jsonable
from host.registry import Registry

__all__ = ["Run"]


class Run:
    """The state of one run. `execute` is called once.

    Attributes:
        report: What was told so far.
        messages: The events that history keeps.
    """

    def __init__(
        self,
        registry: Registry,
        cache: Cache,
        prompt: Mapping[str, dict],
        prompt_id: str,
        extra_data: Mapping[str, Any],
        emit: Emit,
        cancel: Flag,
    ) -> None:
        self._prompt_id, self._extra_data, self._cancel = prompt_id, extra_data, cancel
        self._graph = DynamicPrompt(prompt)
        self._results = Results(registry, cache, self._graph)
        self._classes = self._results.classes
        self._waiting = Waiting(self._graph, self._classes, lambda node_id: self._results.get(node_id) is not None)
        self._progress = Progress(prompt_id, self._graph, emit)
        self._tasks: dict[str, asyncio.Future] = {}  # async nodes that have not finished
        self._expanded: dict[str, Returned] = {}  # nodes whose outputs are those of nodes they added
        self.report = Report(prompt_id, self._graph, emit)
        self.messages = Messages(emit)

    async def execute(self, outputs: Sequence[str]) -> Ending:
        """Run the nodes that `outputs` depend on, and say how it ended."""
        self.messages.send("execution_start", {"prompt_id": self._prompt_id})
        cached = await self._results.open(self._ask)
        self.messages.send("execution_cached", {"nodes": cached, "prompt_id": self._prompt_id})
        for node_id in outputs:
            self._waiting.add(node_id)
        try:
            while self._waiting:
                await self._advance()
        except NodeError as error:
            return self.report.ending(error)
        self._show_intermediate(cached)
        return self.report.ending(None)

    async def _advance(self) -> None:
        """Run one node, or wait for an async one where nothing else can run."""
        for node_id in [node_id for node_id, task in self._tasks.items() if task.done()]:
            self._waiting.release(node_id)
        picked = self._waiting.pick()
        if picked is None and self._tasks:
            await self._wait_for_tasks()
        elif picked is None:
            raise NodeError(self._waiting.stuck()[0], RuntimeError("Dependency cycle detected"), {})
        elif await self._run_node(picked):
            self._waiting.finish(picked)
            self._progress.finish(picked)

    async def _wait_for_tasks(self) -> None:
        """Sleep until an async node is done, or the run is cancelled."""
        while not any(task.done() for task in self._tasks.values()):
            await asyncio.wait(self._tasks.values(), timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
            if self._cancel.is_set():
                raise NodeError(next(iter(self._tasks)), Interrupted(), {})

    async def _run_node(self, node_id: str) -> bool:
        """Run a node; False where it must wait: for a lazy input, its async call, or the nodes it added."""
        cached = self._results.get(node_id)
        if cached is not None:
            self.report.shown(node_id, cached.ui)
            return True
        inputs: dict[str, list] = {}
        try:
            returned = await self._outcome(node_id, inputs)
            if returned is None:
                return False
            if returned.ui:
                self.report.shown(node_id, jsonable(returned.ui))
            if returned.graphs:
                await self._expand(node_id, returned)
                return False
            outputs = join_outputs(returned.tuples, self._classes[node_id])
        except Exception as error:
            raise NodeError(node_id, error, inputs) from error
        self._results.put(node_id, outputs, self.report.ui_outputs.get(node_id))
        self.report.executed.append(node_id)
        return True

    async def _outcome(self, node_id: str, inputs: dict[str, list]) -> Returned | None:
        """Return what the node gave, or None where it has to wait. Fills `inputs` with its arguments."""
        node = self._classes[node_id]
        if node_id in self._tasks:
            return read_returns(self._tasks.pop(node_id).result(), node)
        if node_id in self._expanded:
            return Returned(self._resolve_expansion(self._expanded.pop(node_id)))
        self._progress.start(node_id)
        values, missing = gather_inputs(node, self._graph.get_node(node_id)["inputs"], self._results.fetch)
        inputs |= values | hidden_inputs(node, node_id, self._graph, self._extra_data)
        self.report.executing(node_id)
        obj = self._results.object_of(node_id)
        if await self._wait_for_lazy(node_id, obj, inputs, missing):
            return None
        results = await self._call(node_id, getattr(obj, node.FUNCTION), inputs, partial(self.report.blocked, node_id))
        if any(isinstance(result, asyncio.Task) for result in results):
            self._tasks[node_id] = asyncio.ensure_future(finished(results))
            self._waiting.hold(node_id)
            return None
        return read_returns(results, node)

    async def _call(
        self,
        node_id: str,
        method: Any,
        inputs: dict[str, list],
        on_block: Callable[[ExecutionBlocker], ExecutionBlocker] = lambda blocker: blocker,
    ) -> list[Any]:
        """Call a method of the node for each set of its inputs, unless the run is cancelled."""

        def enter(index: int) -> AbstractContextManager[None]:
            if self._cancel.is_set():
                raise Interrupted
            return self._enter(node_id, index)

        return await call_all(method, inputs, self._wants_lists(node_id), enter, on_block)

    async def _ask(self, node_id: str, method: Any, inputs: dict[str, list]) -> list[Any]:
        """Call a method that only says something about the node; a cancelled run still gets its answer."""
        return await call_all(
            method, inputs, self._wants_lists(node_id), partial(self._enter, node_id), lambda blocker: blocker
        )

    def _wants_lists(self, node_id: str) -> bool:
        return getattr(self._classes[node_id], "INPUT_IS_LIST", False)

    def _enter(self, node_id: str, index: int) -> AbstractContextManager[None]:
        """Open the context of one call, in which the node may report and be told to stop."""
        report = partial(self._progress.update, node_id)
        return open_node(NodeRun(self._prompt_id, node_id, report, self._cancel, index))

    async def _wait_for_lazy(self, node_id: str, obj: Any, inputs: dict[str, list], missing: set[str]) -> bool:
        """Ask the node which lazy inputs it needs; True if it now waits for one."""
        check = getattr(obj, "check_lazy_status", None)
        if check is None:
            return False
        answers = await finished(await self._call(node_id, check, inputs))
        wanted = {name for answer in answers if isinstance(answer, list) for name in answer}
        lacking = [name for name in sorted(wanted) if name in missing or name not in inputs]
        for name in lacking:
            link = self._graph.get_node(node_id)["inputs"].get(name)
            if not is_link(link):
                raise ValueError(f"check_lazy_status asks for the input {name!r}, which is not linked to a node")
            self._waiting.require(node_id, link[0])
        return bool(lacking)

    async def _expand(self, node_id: str, returned: Returned) -> None:
        """Put a node's new nodes into the graph, and let it wait for those that its outputs come from."""
        added = {new_id: node for graph in returned.graphs for new_id, node in (graph or {}).items()}
        await self._results.add_nodes(added, node_id, self._ask)
        self._expanded[node_id] = returned
        for new_id in added:
            if getattr(self._classes[new_id], "OUTPUT_NODE", False) is True:
                self._waiting.add(new_id)
        for graph, outputs in zip(returned.graphs, returned.tuples, strict=True):
            for value in outputs if graph is not None else ():
                if is_link(value):
                    self._waiting.require(node_id, value[0])

    def _resolve_expansion(self, returned: Returned) -> list[list]:
        """Return an expanded node's outputs, links replaced by the values of the nodes that it added."""
        resolved = []
        for graph, outputs in zip(returned.graphs, returned.tuples, strict=True):
            values: list[Any] = []
            for value in outputs:
                expands = graph is not None and is_link(value)
                values.extend(self._results.fetch(*value) or [None]) if expands else values.append(value)
            resolved.append(values)
        return resolved

    def _show_intermediate(self, cached: Sequence[str]) -> None:
        """Show anew what cached nodes inside the graph show, where their class says that this matters."""
        for node_id in cached:
            entry = self._results.get(node_id)
            shows = getattr(self._classes[node_id], "HAS_INTERMEDIATE_OUTPUT", False) is True
            if shows and entry is not None and node_id not in self.report.ui_outputs:
                self.report.shown(node_id, entry.ui)
