"""What the editor asks while a graph is edited, before anything runs.

Both routes call the node itself, so that the plot shows what a run will do and nothing is worked out twice. A request
that makes no sense is refused (status 400); a schedule that cannot be, such as more steps than timesteps, is an answer:
``{"error": why}``. While a person types, that is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from ..ddim import DDIMError
from .bridge_routes import serve
from .ui_payloads import schedule_report

__all__ = ["config_answer", "register", "schedule_answer", "widget_values"]

SCHEDULE_NODE = "DDIMSchedule"
CONFIG_NODE = "DDIMScheduleFromConfig"
CONFIG_TEXT = "config"
MAX_TEXT = 500_000


def register(nodes: Mapping[str, type]) -> None:
    """Offer the pack's routes to the host. Called once, when the nodes are loaded.

    Args:
        nodes: the pack's node classes by id.
    """
    serve("/ddim/schedule", lambda given: schedule_answer(given, nodes))
    serve("/ddim/config", lambda given: config_answer(given, nodes))


def schedule_answer(given: Mapping[str, Any], nodes: Mapping[str, type]) -> Mapping[str, Any]:
    """What a schedule node with these values shows after a run.

    Args:
        given: ``node``, one of the two schedule nodes' ids, and ``inputs``, its widgets' values; those left out have
            their defaults.
        nodes: the pack's node classes by id.

    Returns:
        ``schedule``: see :func:`schedule_report`; ``config``: what a config's import took, or None. Or ``error``.

    Raises:
        DDIMError: for unknown nodes, unknown inputs, values of the wrong type or out of an input's range.
    """
    node = given.get("node")
    if node not in (SCHEDULE_NODE, CONFIG_NODE):
        raise DDIMError(f"node must be {SCHEDULE_NODE!r} or {CONFIG_NODE!r}, got {str(node)[:60]!r}")
    if node not in nodes:
        raise DDIMError(f"this pack has no node {node}")
    values = widget_values(nodes[node], given.get("inputs", {}))
    spoken = values.get("prediction_type")
    # A MODEL may bring another prediction type with the run; the plan is the same, and the report warns.
    done, refusal = _run(nodes[node], {**values, **({"prediction_type": "sample"} if spoken else {})})
    if done is None:
        return {"error": refusal}
    schedule = done["result"][0]
    if spoken:
        schedule = replace(schedule, config=replace(schedule.config, prediction_type=spoken))
    return {"schedule": schedule_report(schedule), "config": (done["ui"].get("ddim_config") or [None])[0]}


def config_answer(given: Mapping[str, Any], nodes: Mapping[str, type]) -> Mapping[str, Any]:
    """What a scheduler_config.json means here.

    Args:
        given: ``text``, the file's content.
        nodes: the pack's node classes by id.

    Returns:
        ``config``: what the import took; ``schedule``: its plot; ``inputs``: the values of the same settings on the
        schedule node. Or ``error``: why the text is no scheduler's configuration that DDIM can follow.

    Raises:
        DDIMError: if there is no text.
    """
    text = given.get("text")
    if not isinstance(text, str):
        raise DDIMError(f"text must be the content of a scheduler_config.json, got {type(text).__name__}")
    done, refusal = _run(nodes[CONFIG_NODE], widget_values(nodes[CONFIG_NODE], {CONFIG_TEXT: text}))
    if done is None:
        return {"error": refusal}
    schedule = done["result"][0]
    widgets = widget_specs(nodes[SCHEDULE_NODE])
    return {
        "config": done["ui"]["ddim_config"][0],
        "schedule": schedule_report(schedule),
        "inputs": {name: schedule.config[name] for name in widgets if name in schedule.config},
    }


def widget_specs(node: type) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """``{input: (type, options)}`` of the inputs that have a widget; a combo's type is its list of names."""
    declared = node.INPUT_TYPES()
    every = {**declared.get("required", {}), **declared.get("optional", {})}
    specs = {name: (spec[0], spec[1] if len(spec) > 1 else {}) for name, spec in every.items()}
    return {name: spec for name, spec in specs.items() if isinstance(spec[0], (list, tuple)) or spec[0] in _KINDS}


def widget_values(node: type, given: Any) -> dict[str, Any]:
    """The node's arguments: the given values, checked as a host checks a prompt, and defaults for the rest."""
    specs = widget_specs(node)
    if not isinstance(given, Mapping):
        raise DDIMError(f"inputs must be an object of widget values, got {type(given).__name__}")
    unknown = sorted(str(name)[:60] for name in given if name not in specs)
    if unknown:
        raise DDIMError(f"inputs must be among {', '.join(specs)}; got {', '.join(unknown[:5])}")
    return {
        name: _value(name, *spec, given[name]) if name in given else _default(*spec) for name, spec in specs.items()
    }


def _run(node: type, values: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """What the node gives, or None and the sentence with which it refuses."""
    try:
        return getattr(node(), node.FUNCTION)(**values), ""
    except DDIMError as error:
        return None, str(error)


def _default(kind: Any, options: Mapping[str, Any]) -> Any:
    return options.get("default", kind[0] if isinstance(kind, (list, tuple)) else _KINDS[kind][1])


def _value(name: str, kind: Any, options: Mapping[str, Any], value: Any) -> Any:
    if isinstance(kind, (list, tuple)):
        if value not in kind:
            raise DDIMError(f"{name} must be one of {', '.join(map(str, kind))}, got {str(value)[:60]!r}")
        return value
    fits, _, expected = _KINDS[kind]
    if not fits(value):
        raise DDIMError(f"{name} must be {expected}, got {str(value)[:60]!r}")
    low, high = options.get("min", -float("inf")), options.get("max", float("inf"))
    if kind in ("INT", "FLOAT") and not low <= value <= high:
        raise DDIMError(f"{name} must be between {low} and {high}, got {value}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


# widget type: (does a value fit, the value where a node gives no default, in words)
_KINDS: dict[str, tuple[Callable[[Any], bool], Any, str]] = {
    "INT": (lambda value: isinstance(value, Integral) and not isinstance(value, bool), 0, "a whole number"),
    "FLOAT": (_is_number, 0.0, "a number"),
    "BOOLEAN": (lambda value: isinstance(value, bool), False, "true or false"),
    "STRING": (
        lambda value: isinstance(value, str) and len(value) <= MAX_TEXT,
        "",
        f"text of at most {MAX_TEXT} characters",
    ),
}
