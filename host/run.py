"""One prompt on its way from the first node to the last."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from host.cache import Cache, Entry
from host.calls import Returned, call_all, finished, join_outputs, read_returns
from host.context import ExecutionBlocker, Flag, Interrupted, NodeRun, open_node
from host.events import Emit, Messages
from host.graph import DynamicPrompt
from host.links import is_link
from host.node_check import type_name
from host.node_inputs import gather_inputs, hidden_inputs
from host.payload import jsonable
from host.progress import Progress
from host.registry import Registry
from host.signatures import Signatures
from host.waiting import Waiting

__all__ = ["Ending", "Failure", "Run"]

log = logging.getLogger(__name__)


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


class _NodeError(Exception):
    """A node raised: `cause` inside node `node_id`, which had `inputs`."""

    def __init__(self, node_id: str, cause: Exception, inputs: Mapping[str, list]) -> None:
        self.node_id, self.cause, self.inputs = node_id, cause, inputs


class Run:
    """The state of one run. `execute` is called once.

    Attributes:
        ui_outputs: {node id: ui result} so far.
        meta: {node id: who shows it} so far.
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
        self.ui_outputs: dict[str, dict[str, list]] = {}
        self.meta: dict[str, dict[str, Any]] = {}
        self.messages = Messages(emit)
        self._registry, self._cache, self._prompt_id = registry, cache, prompt_id
        self._extra_data, self._emit, self._cancel = extra_data, emit, cancel
        self._graph = DynamicPrompt(prompt)
        self._classes = {node_id: registry.nodes[node["class_type"]] for node_id, node in prompt.items()}
        self._changed: dict[str, Any] = {}
        self._signatures = Signatures(self._graph, self._classes, self._changed)
        self._waiting = Waiting(self._graph, self._classes, lambda node_id: self._cached(node_id) is not None)
        self._progress = Progress(prompt_id, self._graph, emit)
        self._executed: dict[str, None] = {}
        self._announced: set[str] = set()
        self._tasks: dict[str, asyncio.Future] = {}  # async nodes that have not finished
        self._expanded: dict[str, Returned] = {}  # nodes whose outputs are those of nodes they added

    async def execute(self, outputs: Sequence[str]) -> Ending:
        """Run the nodes that `outputs` depend on, and say how it ended."""
        self.messages.send("execution_start", {"prompt_id": self._prompt_id})
        queued = list(self._graph.get_original_prompt())
        await self._ask_changed(queued)
        self._cache.keep_only({self._signatures.of(node_id) for node_id in queued}, set(map(self._object_key, queued)))
        self.messages.send(
            "execution_cached",
            {
                "nodes": [node_id for node_id in queued if self._cached(node_id) is not None],
                "prompt_id": self._prompt_id,
            },
        )
        for node_id in outputs:
            self._waiting.add(node_id)
        try:
            while self._waiting:
                await self._advance()
        except _NodeError as error:
            return self._end_with(error)
        self._announce_intermediate()
        return Ending("success", "execution_success", {"prompt_id": self._prompt_id})

    # -- one node after the other

    async def _advance(self) -> None:
        """Run one node, or wait for an async one where nothing else can run."""
        for node_id in [node_id for node_id, task in self._tasks.items() if task.done()]:
            self._waiting.release(node_id)
        node_id = self._waiting.pick()
        if node_id is None and self._tasks:
            await self._wait_for_tasks()
        elif node_id is None:
            stuck = self._waiting.stuck()
            raise _NodeError(stuck[0], RuntimeError("Dependency cycle detected"), {})
        elif await self._run_node(node_id):
            self._waiting.finish(node_id)
            self._progress.finish(node_id)

    async def _wait_for_tasks(self) -> None:
        """Sleep until an async node is done, or the run is cancelled."""
        while not any(task.done() for task in self._tasks.values()):
            await asyncio.wait(self._tasks.values(), timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
            if self._cancel.is_set():
                raise _NodeError(next(iter(self._tasks)), Interrupted(), {})

    async def _run_node(self, node_id: str) -> bool:
        """Run a node; False where it must wait: for a lazy input, its async call, or the nodes it added."""
        cached = self._cached(node_id)
        if cached is not None:
            self._announce(node_id, cached.ui)
            return True
        inputs: dict[str, list] = {}
        try:
            returned = await self._outcome(node_id, inputs)
            if returned is None:
                return False
            if returned.ui:
                self._announce(node_id, jsonable(returned.ui))
            if returned.graphs:
                await self._expand(node_id, returned)
                return False
            joined = join_outputs(returned.tuples, self._classes[node_id])
        except Exception as error:
            raise _NodeError(node_id, error, inputs) from error
        self._cache.put(self._signatures.of(node_id), Entry(joined, self.ui_outputs.get(node_id), self._owner(node_id)))
        self._executed[node_id] = None
        return True

    async def _outcome(self, node_id: str, inputs: dict[str, list]) -> Returned | None:
        """Return what the node gave, or None where it has to wait. Fills `inputs` with its arguments."""
        node = self._classes[node_id]
        if node_id in self._tasks:
            return read_returns(self._tasks.pop(node_id).result(), node)
        if node_id in self._expanded:
            return Returned(self._resolve_expansion(self._expanded.pop(node_id)))
        self._progress.start(node_id)
        values, missing = gather_inputs(node, self._graph.get_node(node_id)["inputs"], self._fetch)
        inputs |= values | hidden_inputs(node, node_id, self._graph, self._extra_data)
        self._emit(
            "executing",
            {
                "node": node_id,
                "display_node": self._graph.get_display_node_id(node_id),
                "prompt_id": self._prompt_id,
            },
        )
        obj = self._cache.object_for(self._object_key(node_id), node)
        if await self._wait_for_lazy(node_id, obj, inputs, missing):
            return None
        results = await self._call(node_id, getattr(obj, node.FUNCTION), inputs, partial(self._report_block, node_id))
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
        """Call a method of the node for each set of its inputs."""
        return await call_all(
            method,
            inputs,
            getattr(self._classes[node_id], "INPUT_IS_LIST", False),
            partial(self._enter, node_id),
            on_block,
        )

    @contextmanager
    def _enter(self, node_id: str, index: int) -> Iterator[None]:
        """Open the context of one call, in which the node may report and be told to stop."""
        if self._cancel.is_set():
            raise Interrupted
        with open_node(NodeRun(self._prompt_id, node_id, partial(self._progress.update, node_id), self._cancel, index)):
            yield

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

    # -- nodes that add nodes

    async def _expand(self, node_id: str, returned: Returned) -> None:
        """Put a node's new nodes into the graph, and let it wait for those that its outputs come from."""
        added = {new_id: node for graph in returned.graphs for new_id, node in (graph or {}).items()}
        for new_id, node in added.items():
            if node.get("class_type") not in self._registry.nodes:
                raise ValueError(f"the expansion adds a node of the unknown class {node.get('class_type')!r}")
            self._graph.add_node(new_id, node, node_id)
            self._classes[new_id] = self._registry.nodes[node["class_type"]]
        await self._ask_changed(list(added))
        self._cache.keep_owned(self._owner_key(node_id), {self._signatures.of(new_id) for new_id in added})
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
                if graph is not None and is_link(value):
                    values.extend(self._fetch(*value) or [None])
                else:
                    values.append(value)
            resolved.append(values)
        return resolved

    # -- the cache

    def _cached(self, node_id: str) -> Entry | None:
        return self._cache.get(self._signatures.of(node_id))

    def _fetch(self, node_id: str, slot: int) -> list | None:
        """Return the values of an output, or None if its node has not run or has no such output."""
        entry = self._cached(node_id)
        return entry.outputs[slot] if entry is not None and slot < len(entry.outputs) else None

    def _object_key(self, node_id: str) -> tuple[str, str]:
        return node_id, self._graph.get_node(node_id)["class_type"]

    def _owner_key(self, node_id: str) -> tuple[str, str]:
        return self._object_key(self._graph.get_real_node_id(node_id))

    def _owner(self, node_id: str) -> tuple[str, str] | None:
        return None if self._graph.get_parent_node_id(node_id) is None else self._owner_key(node_id)

    async def _ask_changed(self, node_ids: Sequence[str]) -> None:
        """Ask each node's IS_CHANGED for what its result depends on beside its inputs."""
        for node_id in node_ids:
            node = self._classes[node_id]
            method = getattr(node, "IS_CHANGED", None)
            if method is None:
                continue
            inputs, _ = gather_inputs(node, self._graph.get_node(node_id)["inputs"], lambda source, slot: None)
            inputs |= hidden_inputs(node, node_id, None, {})
            try:
                self._changed[node_id] = await finished(await self._call(node_id, method, inputs))
            except Interrupted:
                raise
            except Exception as error:
                log.warning("IS_CHANGED of node %s raised, so it runs anew: %s", node_id, error)
                self._changed[node_id] = float("nan")

    # -- what is told

    def _announce(self, node_id: str, ui: dict[str, list] | None) -> None:
        """Tell what a node shows, and keep it for history."""
        display = self._graph.get_display_node_id(node_id)
        if ui is not None:
            self.ui_outputs[node_id] = ui
            self.meta[node_id] = {
                "node_id": node_id,
                "display_node": display,
                "parent_node": self._graph.get_parent_node_id(node_id),
                "real_node_id": self._graph.get_real_node_id(node_id),
            }
        self._announced.add(node_id)
        self._emit("executed", {"node": node_id, "display_node": display, "output": ui, "prompt_id": self._prompt_id})

    def _announce_intermediate(self) -> None:
        """Show anew what cached nodes inside the graph show, where their class says that this matters."""
        for node_id in self._graph.get_original_prompt():
            entry = self._cached(node_id)
            shows = getattr(self._classes[node_id], "HAS_INTERMEDIATE_OUTPUT", False) is True
            if shows and entry is not None and node_id not in self._announced and node_id not in self._executed:
                self._announce(node_id, entry.ui)

    def _report_block(self, node_id: str, blocker: ExecutionBlocker) -> ExecutionBlocker:
        """Tell the message of a blocker once; what is behind the node is blocked silently."""
        if blocker.message is not None:
            self._emit(
                "execution_error",
                {
                    **self._position(node_id),
                    "exception_message": f"Execution Blocked: {blocker.message}",
                    "exception_type": "ExecutionBlocked",
                    "traceback": [],
                    "current_inputs": [],
                    "current_outputs": [],
                },
            )
        return ExecutionBlocker(None)

    def _position(self, node_id: str) -> dict[str, Any]:
        return {
            "prompt_id": self._prompt_id,
            "node_id": node_id,
            "node_type": self._graph.get_node(node_id)["class_type"],
            "executed": list(self._executed),
        }

    def _end_with(self, error: _NodeError) -> Ending:
        """Return the last event of a run that a node's exception, or the person, ended."""
        node_id = self._graph.get_real_node_id(error.node_id)
        position, cause = self._position(node_id), error.cause
        if isinstance(cause, Interrupted):
            log.info("run %s was cancelled at node %s", self._prompt_id, node_id)
            return Ending(
                "interrupted",
                "execution_interrupted",
                position,
                Failure(node_id, position["node_type"], None),
            )
        log.error("node %s (%s) raised", node_id, position["node_type"], exc_info=cause)
        return Ending(
            "error",
            "execution_error",
            {
                **position,
                "exception_message": f"{cause}\n",
                "exception_type": type_name(type(cause)),
                "traceback": traceback.format_tb(cause.__traceback__),
                "current_inputs": {name: list(map(_shown, values)) for name, values in error.inputs.items()},
                "current_outputs": list(self._graph.get_original_prompt()),
            },
            Failure(node_id, position["node_type"], cause),
        )


_SHOWN_LENGTH = 2000  # characters of an input's text in an error message


def _shown(value: Any) -> Any:
    """Return an input as an error message shows it."""
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:_SHOWN_LENGTH]
