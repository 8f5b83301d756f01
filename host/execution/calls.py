"""Calling a node, once per element where its inputs are lists, and joining the results of the calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from host.context import ExecutionBlocker
from host.error_format import show
from host.packs import NodeClass, node_output_is_list
from host.prompt_format import Prompt

__all__ = ["Inputs", "Returned", "await_tasks", "call_all", "join_outputs", "read_returns"]

# {name: the list of the input's values, with one element unless something upstream gave a list}
Inputs = dict[str, list[Any]]


def _argument_sets(inputs: Inputs, wants_lists: bool) -> Iterator[dict[str, Any]]:
    """Yield the arguments of each call: all lists at once, or by element; shorter lists repeat their last element."""
    if wants_lists or not inputs:
        yield dict(inputs)
        return
    empty = [name for name, values in inputs.items() if not values]
    if empty:
        raise ValueError(f"the input {empty[0]} got an empty list; at least one value is needed")
    for index in range(max(map(len, inputs.values()))):
        yield {name: values[min(index, len(values) - 1)] for name, values in inputs.items()}


def _find_blocker(arguments: dict[str, Any], wants_lists: bool) -> ExecutionBlocker | None:
    """Return the first blocker among the arguments of a call, or None."""
    for value in arguments.values():
        candidates = value if wants_lists else [value]
        for candidate in candidates:
            if isinstance(candidate, ExecutionBlocker):
                return candidate
    return None


async def call_all(
    method: Callable[..., Any],
    inputs: Inputs,
    wants_lists: bool,
    enter: Callable[[int], AbstractContextManager[Any]],
    on_block: Callable[[ExecutionBlocker], ExecutionBlocker],
) -> list[Any]:
    """Call a node's method for each set of arguments.

    Args:
        method: Bound method, plain or async.
        inputs: The node's inputs.
        wants_lists: The class's INPUT_IS_LIST.
        enter: Opens the context of call number i; raises if the run is cancelled.
        on_block: What a blocked call returns, given the blocker.

    Returns:
        One result per call; for an async method that has not finished, its task.
    """
    results: list[Any] = []
    for index, arguments in enumerate(_argument_sets(inputs, wants_lists)):
        blocker = _find_blocker(arguments, wants_lists)
        with enter(index):
            if blocker is not None:
                results.append(on_block(blocker))
            elif inspect.iscoroutinefunction(method):
                task = asyncio.create_task(method(**arguments))
                await asyncio.sleep(0)  # a method that never awaits anything is done after one turn of the loop
                results.append(task.result() if task.done() else task)
            else:
                results.append(method(**arguments))
    return results


async def await_tasks(results: Sequence[Any]) -> list[Any]:
    """Return the results with every task replaced by its result. All tasks end before one of them may raise."""
    await asyncio.gather(*(result for result in results if isinstance(result, asyncio.Task)), return_exceptions=True)
    return [result.result() if isinstance(result, asyncio.Task) else result for result in results]


@dataclass(frozen=True)
class Returned:
    """The return values of a node's calls, sorted.

    Attributes:
        tuples: The outputs of each call.
        ui: What the node shows, with lists joined over the calls.
        expansions: The nodes that each call adds to the graph, or None. Empty if no call adds any.
    """

    tuples: Sequence[Sequence[Any]] = field(default_factory=list)
    ui: dict[str, list[Any]] = field(default_factory=dict)
    expansions: list[Prompt | None] = field(default_factory=list)


def read_returns(results: Sequence[Any], node: NodeClass) -> Returned:
    """Sort the return values of a node's calls: each is a tuple, or {"ui", "result", "expand"}."""
    tuples: list[Sequence[Any]] = []
    expansions: list[Prompt | None] = []
    ui: dict[str, list[Any]] = {}
    for result in results:
        shaped = result if isinstance(result, dict) else {"result": result}
        for key, values in shaped.get("ui", {}).items():
            ui.setdefault(key, []).extend(_checked_ui_list(node, key, values))
        if "result" in shaped or "expand" in shaped:
            tuples.append(_as_tuple(node, shaped.get("result", ())))
            expansions.append(shaped.get("expand"))
    return Returned(tuples, ui, expansions if any(expansion is not None for expansion in expansions) else [])


def _checked_ui_list(node: NodeClass, key: str, values: Any) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{node.__name__} returned ui[{show(key)}] of type {type(values).__name__}; a list is expected")
    return values


def _as_tuple(node: NodeClass, result: Any) -> Sequence[Any]:
    if isinstance(result, ExecutionBlocker):
        return [result] * len(node.RETURN_TYPES)
    if not isinstance(result, (list, tuple)):
        raise TypeError(
            f"{node.__name__}.{node.FUNCTION} returned {type(result).__name__}; "
            f"a tuple of {len(node.RETURN_TYPES)} outputs is expected"
        )
    return result


def join_outputs(tuples: Sequence[Sequence[Any]], node: NodeClass) -> list[list[Any]]:
    """Return, for each output, the list of its values over all calls; outputs that are lists are concatenated."""
    if not tuples:
        return []
    joined = []
    for index, is_list in zip(range(len(tuples[0])), node_output_is_list(node), strict=False):
        values: list[Any] = []
        for outputs in tuples:
            value = outputs[index]
            if is_list and not isinstance(value, ExecutionBlocker):
                values.extend(value)
            else:
                values.append(value)
        joined.append(values)
    return joined
