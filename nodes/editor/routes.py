"""What the editor asks for while a graph is edited, before anything runs.

Both routes call the node itself, so that the plot shows what a run will do and nothing is computed in two ways. An
invalid request is refused (status 400). A schedule that cannot exist, such as more steps than timesteps, is an answer:
``{"error": reason}``. While the user types, that is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from ...ddim import VARIANCE_PRESERVING, DDIMError, Schedule
from ..backend import planned_output
from ..inputs import Node
from ..values import FROM_MODEL
from .http import serve, serve_table
from .partial_replay import serve_partial_replays
from .remembered import recall
from .replay_sheet import serve_sheets

__all__ = ["config_answer", "register_routes", "schedule_answer", "widget_values"]

SCHEDULE_NODE = "DDIMSchedule"
CONFIG_NODE = "DDIMScheduleFromConfig"
CONFIG_TEXT = "config"
MAX_TEXT = 500_000  # characters
MAX_SHOWN = 60  # characters of a wrong value in an error message
MAX_NAMED = 5  # unknown inputs named in an error message


def register_routes(nodes: Mapping[str, type[Node]], presets: Mapping[str, Any]) -> None:
    """Register the pack's routes with the host. Called once, when the nodes are loaded.

    Args:
        nodes: The pack's node classes by id.
        presets: What the page is told of the presets of DDIM Schedule.
    """
    serve_table("/ddim/presets", presets)
    serve("/ddim/schedule", lambda given: schedule_answer(given, nodes))
    serve("/ddim/config", lambda given: config_answer(given, nodes))
    serve_sheets()
    serve_partial_replays()


def schedule_answer(given: Mapping[str, Any], nodes: Mapping[str, type[Node]]) -> Mapping[str, Any]:
    """Return what a schedule node with these values would show after a run.

    Args:
        given: ``node``, the id of one of the two schedule nodes, and ``inputs``, its widgets' values; those that are
            missing have their defaults. ``model_levels`` of the last run's report, if its MODEL is still connected.
        nodes: The pack's node classes by id.

    Returns:
        ``schedule``: see :func:`schedule_report`; ``config``: what the import of a config read, or None. Or ``error``.

    Raises:
        DDIMError: For unknown nodes, unknown inputs, values of the wrong type or outside an input's range.
    """
    node = given.get("node")
    if node not in (SCHEDULE_NODE, CONFIG_NODE):
        raise DDIMError(f"node must be {SCHEDULE_NODE!r} or {CONFIG_NODE!r}, got {_shown(node)}")
    if node not in nodes:
        raise DDIMError(f"this pack has no node {node}")
    values = widget_values(nodes[node], given.get("inputs", {}))
    facts = recall(given.get("model_levels"))
    if facts is not None and node == SCHEDULE_NODE:
        values["model"] = facts
    done, refusal = _call(nodes[node], {**values, "check": False})
    if done is None:
        return {"error": refusal}
    return {"schedule": done["ui"]["ddim_schedule"][0], "config": (done["ui"].get("ddim_config") or [None])[0]}


def config_answer(given: Mapping[str, Any], nodes: Mapping[str, type[Node]]) -> Mapping[str, Any]:
    """Return what a scheduler_config.json means here.

    Args:
        given: ``text``, the content of the file.
        nodes: The pack's node classes by id.

    Returns:
        ``config``: what the import read; ``schedule``: its plot; ``inputs``: the values of the same settings on the
        schedule node, none for a flow model. Or ``error``: why the text is no scheduler's configuration that DDIM can
        use.

    Raises:
        DDIMError: If there is no text.
    """
    text = given.get("text")
    if not isinstance(text, str):
        raise DDIMError(f"text must be the content of a scheduler_config.json, got {type(text).__name__}")
    values = widget_values(nodes[CONFIG_NODE], {CONFIG_TEXT: text})
    done, refusal = _call(nodes[CONFIG_NODE], {**values, "check": False})
    if done is None:
        return {"error": refusal}
    schedule: Schedule = done["result"][0]
    shown = {"config": done["ui"]["ddim_config"][0], "schedule": done["ui"]["ddim_schedule"][0]}
    if schedule.noise.kind != VARIANCE_PRESERVING:
        return {**shown, "inputs": {}}
    named = {name: schedule.config[name] for name in widget_specs(nodes[SCHEDULE_NODE]) if name in schedule.config}
    return {**shown, "inputs": {**named, "prediction_type": planned_output(schedule) or FROM_MODEL}}


def widget_specs(node: type[Node]) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """Return ``{input: (type, options)}`` of the inputs that have a widget; a combo's type is its list of names."""
    declared = node.INPUT_TYPES()
    every = {**declared.get("required", {}), **declared.get("optional", {})}
    specs = {name: (spec[0], spec[1] if len(spec) > 1 else {}) for name, spec in every.items()}
    return {name: spec for name, spec in specs.items() if _is_combo(spec[0]) or spec[0] in _WIDGETS}


def widget_values(node: type[Node], given: Any) -> dict[str, Any]:
    """Return the node's arguments: the given values, checked as a host checks a prompt, and defaults for the rest."""
    specs = widget_specs(node)
    if not isinstance(given, Mapping):
        raise DDIMError(f"inputs must be an object of widget values, got {type(given).__name__}")
    unknown = sorted(str(name)[:MAX_SHOWN] for name in given if name not in specs)
    if unknown:
        raise DDIMError(f"inputs must be among {', '.join(specs)}; got {', '.join(unknown[:MAX_NAMED])}")
    return {
        name: _checked(name, *spec, given[name]) if name in given else _default(*spec) for name, spec in specs.items()
    }


def _call(node: type[Node], values: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """Return what the node returns, or None and the message with which it refuses."""
    try:
        return getattr(node(), node.FUNCTION)(**values), ""
    except DDIMError as error:
        return None, str(error)


def _default(kind: Any, options: Mapping[str, Any]) -> Any:
    return options.get("default", kind[0] if _is_combo(kind) else _WIDGETS[kind][1])


def _checked(name: str, kind: Any, options: Mapping[str, Any], value: Any) -> Any:
    if _is_combo(kind):
        if value not in kind:
            raise DDIMError(f"{name} must be one of {', '.join(map(str, kind))}, got {_shown(value)}")
        return value
    is_valid, _, expected = _WIDGETS[kind]
    if not is_valid(value):
        raise DDIMError(f"{name} must be {expected}, got {_shown(value)}")
    low, high = options.get("min", -float("inf")), options.get("max", float("inf"))
    if kind in ("INT", "FLOAT") and not low <= value <= high:
        raise DDIMError(f"{name} must be between {low} and {high}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return repr(str(value)[:MAX_SHOWN])


def _is_combo(kind: Any) -> bool:
    return isinstance(kind, (list, tuple))


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


# By widget type: is a value valid, the value where a node has no default, what is expected in words.
_WIDGETS: dict[str, tuple[Callable[[Any], bool], Any, str]] = {
    "INT": (_is_integer, 0, "a whole number"),
    "FLOAT": (_is_number, 0.0, "a number"),
    "BOOLEAN": (lambda value: isinstance(value, bool), False, "true or false"),
    "STRING": (
        lambda value: isinstance(value, str) and len(value) <= MAX_TEXT,
        "",
        f"text of at most {MAX_TEXT} characters",
    ),
}
