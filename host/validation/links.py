"""Links of a prompt, and the two walks over them that validation needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Link", "find_cycles", "is_link", "reachable"]


@dataclass(frozen=True)
class Link:
    """A connection into an input: the node it comes from, and whether the types at its ends agree."""

    node_id: str
    matches: bool


def is_link(value: Any) -> bool:
    """Say whether a prompt's value is a connection, `[node id, output slot]`, rather than a constant."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def reachable(sources: Mapping[str, Sequence[str]], start: str) -> list[str]:
    """Return `start` and all that it depends on, nearest first."""
    seen = {start: True}
    queue = [start]
    for node_id in queue:
        for source in sources.get(node_id, ()):
            if source not in seen:
                seen[source] = True
                queue.append(source)
    return queue


def find_cycles(sources: Mapping[str, Sequence[str]], starts: Iterable[str]) -> list[list[str]]:
    """Return the cycles met on a depth-first walk upstream from `starts`, each once, as a list of nodes."""
    done: set[str] = set()
    cycles: list[list[str]] = []
    for start in starts:
        path: dict[str, int] = {}
        stack: list[tuple[str, Iterable[str]]] = []
        _enter(start, sources, path, stack, done)
        while stack:
            node_id, remaining = stack[-1]
            following = next(iter(remaining), None)
            if following is None:
                stack.pop()
                path.pop(node_id)
                done.add(node_id)
            elif following in path:
                cycles.append(list(path)[path[following] :])
            else:
                _enter(following, sources, path, stack, done)
    return cycles


def _enter(
    node_id: str,
    sources: Mapping[str, Sequence[str]],
    path: dict[str, int],
    stack: list[tuple[str, Iterable[str]]],
    done: set[str],
) -> None:
    """Step onto a node that has not been finished."""
    if node_id not in done:
        path[node_id] = len(path)
        stack.append((node_id, iter(sources.get(node_id, ()))))
