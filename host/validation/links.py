"""The links between a prompt's nodes, and the two walks over them that validation needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Link", "find_cycles", "upstream"]


@dataclass(frozen=True)
class Link:
    """A link into an input: the node it comes from, and whether the types at its ends match."""

    node_id: str
    matches: bool


def upstream(sources: Mapping[str, Sequence[str]], start: str) -> list[str]:
    """Return `start` and every node that it depends on, nearest first."""
    seen = {start}
    queue = [start]
    for node_id in queue:
        for source in sources.get(node_id, ()):
            if source not in seen:
                seen.add(source)
                queue.append(source)
    return queue


def find_cycles(sources: Mapping[str, Sequence[str]], starts: Iterable[str]) -> list[list[str]]:
    """Return the cycles found on a depth-first walk upstream from `starts`, each once, as a list of nodes."""
    done: set[str] = set()
    cycles: list[list[str]] = []
    for start in starts:
        path: dict[str, int] = {}  # {node: its depth} of the walk's current path
        stack: list[tuple[str, Iterator[str]]] = []
        _enter(start, sources, path, stack, done)
        while stack:
            node_id, remaining = stack[-1]
            source = next(remaining, None)
            if source is None:
                stack.pop()
                path.pop(node_id)
                done.add(node_id)
            elif source in path:
                cycles.append(list(path)[path[source] :])
            else:
                _enter(source, sources, path, stack, done)
    return cycles


def _enter(
    node_id: str,
    sources: Mapping[str, Sequence[str]],
    path: dict[str, int],
    stack: list[tuple[str, Iterator[str]]],
    done: set[str],
) -> None:
    """Extend the path by a node that is not done yet."""
    if node_id not in done:
        path[node_id] = len(path)
        stack.append((node_id, iter(sources.get(node_id, ()))))
