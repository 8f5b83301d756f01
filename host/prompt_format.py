"""The API's prompt format: nodes, links, constants and types.

A prompt is `{node id: {"class_type": ..., "inputs": {...}, "_meta": {"title": ...}}}`.
"""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = [
    "Prompt",
    "PromptNode",
    "is_link",
    "node_title",
    "types_match",
    "unwrap_constant",
    "wrap_constant",
]

PromptNode = dict[str, Any]
Prompt = dict[str, PromptNode]

_WRAPPER = "__value__"


def is_link(value: Any) -> TypeGuard[list[Any]]:
    """Return whether an input's value is a link, `[node id, output slot]`, rather than a constant."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def wrap_constant(value: Any) -> Any:
    """Return a constant as a prompt carries it: a list is wrapped, because a bare one would be read as a link."""
    return {_WRAPPER: value} if isinstance(value, list) else value


def unwrap_constant(value: Any) -> Any:
    """Return the constant inside `wrap_constant`'s result."""
    return value[_WRAPPER] if isinstance(value, dict) and _WRAPPER in value else value


def node_title(node: PromptNode) -> Any:
    """Return the title that the editor gave a node, or None."""
    meta = node.get("_meta")
    return meta.get("title") if isinstance(meta, dict) else None


def types_match(output_type: Any, input_type: Any) -> bool:
    """Return whether an output of one type may feed an input of another.

    A type is a string, of which "A,B" means either and "*" anything, or a list of choices.
    """
    if not output_type != input_type:  # `!=` on purpose: some packs' wildcard types override only __ne__
        return True
    if output_type == "*" or input_type == "*":
        return True
    if isinstance(output_type, list) and input_type == "COMBO":
        return True
    if not isinstance(output_type, str) or not isinstance(input_type, str):
        return False
    given, accepted = ({part.strip() for part in text.split(",")} for text in (output_type, input_type))
    return "*" in given | accepted or bool(given & accepted)
