"""When a widget has an effect, as data that reaches the editor with the definition of the input.

The editor greys a widget that has none. The node itself decides what a run does; these options only say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .kinds import Input

__all__ = ["applies", "unless_linked"]

APPLIES = "ddim_applies"
UNLESS_LINKED = "ddim_unless_linked"


def applies(definitions: Mapping[str, Input], **choices: Sequence[str]) -> dict[str, Input]:
    """Return inputs that have an effect only while other widgets of the node have certain values.

    Args:
        definitions: The inputs.
        choices: By the name of another input, the choices of it with which these have an effect.
    """
    return _with(definitions, APPLIES, {name: list(values) for name, values in choices.items()})


def unless_linked(definitions: Mapping[str, Input], *links: str) -> dict[str, Input]:
    """Return inputs that have no effect once one of these inputs of the node is connected."""
    return _with(definitions, UNLESS_LINKED, list(links))


def _with(definitions: Mapping[str, Input], option: str, value: object) -> dict[str, Input]:
    return {name: (kind, {**options, option: value}) for name, (kind, options) in definitions.items()}
