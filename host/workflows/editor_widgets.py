"""Which widgets the frontend gives a node, and in which order: a file's `widgets_values` lists their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from host.packs import InputSpec, NodeClass, has_live_inputs, input_types, visible_inputs

__all__ = ["is_widget", "widget_inputs", "widget_values"]

# Input types that the frontend draws a widget for; a list of choices counts as COMBO.
_WIDGET_TYPES = frozenset(
    {
        "INT",
        "FLOAT",
        "BOOLEAN",
        "STRING",
        "COMBO",
        "MARKDOWN",
        "COLOR",
        "CURVE",
        "RANGE",
        "TEXTAREA",
        "BOUNDING_BOX",
        "CHART",
        "GALLERIA",
        "IMAGECOMPARE",
        "PAINTER",
        "COLORS",
        "BOUNDING_BOXES",
    }
)
_MAX_LEVELS = 10  # choices that add inputs, whose choices add inputs, ...
_UPLOAD_OPTIONS = ("image_upload", "video_upload", "animated_image_upload")
_SEED_NAMES = ("seed", "noise_seed")
_CONTROL, _FILTER, _UPLOAD_BUTTON = " control ", " filter ", " upload"  # no input's name begins with a space
_CONTROL_WORDS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
_EMPTY_VALUES: dict[str, Any] = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False, "STRING": ""}


def is_widget(input_type: Any, options: dict[str, Any]) -> bool:
    """Return whether the frontend draws a widget for an input of this type."""
    name = options.get("widgetType", "COMBO" if isinstance(input_type, list) else input_type)
    has_no_socket = options.get("socketless", False)  # so its value can come from a widget only
    return (name in _WIDGET_TYPES or bool(has_no_socket)) and not options.get("forceInput", False)


def widget_inputs(node: NodeClass, values: dict[str, Any] | None = None) -> dict[str, InputSpec]:
    """Return the inputs of a class that have widgets; with a node's values, also those that the values add."""
    inputs = visible_inputs(input_types(node, values))
    return {name: spec for name, spec in inputs.items() if is_widget(spec.type, spec.options)}


def widget_values(node: NodeClass, values: list[Any] | dict[str, Any] | None) -> dict[str, Any]:
    """Return {input name: value} of a node's widgets, with defaults where the file has no value.

    Args:
        node: The class.
        values: The file's `widgets_values`. A list may have four lengths: with or without the values of control
            widgets (which change another widget after each run), and, from old frontends, with or without the values
            of inputs that no longer have a widget.
    """
    if isinstance(values, list):
        names = _choose_layout(node, values)
        values = dict(zip(names, values, strict=False))
    given, filled = values or {}, _filled(node, values or {})
    for _ in range(_MAX_LEVELS if has_live_inputs(node) else 0):
        before, filled = filled, _filled(node, {**filled, **given})
        if before == filled:
            break
    return filled


def _filled(node: NodeClass, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a node's widgets, with defaults for those without one."""
    known = widget_inputs(node, values)
    return {name: values[name] if name in values else _default(spec) for name, spec in known.items()}


def _choose_layout(node: NodeClass, values: list[Any]) -> list[str]:
    """Return the widgets' names that a list of values belongs to; inputs that were added later have no value.

    The editor writes the values of control widgets, users' scripts may not. If one of the editor's control words is in
    such a place, the list includes them; otherwise its length decides.
    """
    with_controls = [_layout(node, values, controls=True, forced=forced) for forced in (False, True)]
    without = [_layout(node, values, controls=False, forced=forced) for forced in (False, True)]
    controlled = [layout for layout in with_controls if _has_control_words(layout, values)]
    same_length = (layout for layout in controlled or (*without, *with_controls) if len(layout) == len(values))
    return next(same_length, (controlled or with_controls)[0])


def _has_control_words(layout: list[str], values: list[Any]) -> bool:
    """Return whether there are control widgets and all of their values are control words of the editor."""
    found = [value for name, value in zip(layout, values, strict=False) if name.startswith(_CONTROL)]
    return bool(found) and all(isinstance(word, str) and word in _CONTROL_WORDS for word in found)


def _layout(node: NodeClass, values: list[Any], *, controls: bool, forced: bool) -> list[str]:
    """Return the names of all widgets in order, including those that belong to no input.

    A value may add the widgets that follow its own, so the names are found level by level.
    """
    names = _names_of_widgets(node, {}, controls=controls, forced=forced)
    for _ in range(_MAX_LEVELS if has_live_inputs(node) else 0):
        known = dict(zip(names, values, strict=False))
        before, names = names, _names_of_widgets(node, known, controls=controls, forced=forced)
        if before == names:
            break
    return names


def _names_of_widgets(node: NodeClass, values: dict[str, Any], *, controls: bool, forced: bool) -> list[str]:
    names: list[str] = []
    inputs = visible_inputs(input_types(node, values))
    for category in ("required", "optional"):
        has_upload = False
        for name in _with_added([name for name, spec in inputs.items() if spec.category == category], inputs):
            spec = inputs[name]
            if is_widget(spec.type, spec.options | {"forceInput": False} if forced else spec.options):
                names.append(name)
                names += _control_names(name, spec) if controls else []
            has_upload = has_upload or any(spec.options.get(key) for key in _UPLOAD_OPTIONS)
        if category == "required" and has_upload:
            names.append(_UPLOAD_BUTTON)
    return names


def _with_added(names: list[str], inputs: Mapping[str, InputSpec]) -> Iterator[str]:
    """Yield the inputs of a category, each followed by those that its value adds: `a.b` belongs to `a`."""
    for name in names:
        if _adder(name, inputs) is None:
            yield name
            yield from _added_by(name, inputs)


def _added_by(name: str, inputs: Mapping[str, InputSpec]) -> Iterator[str]:
    for other in inputs:
        if other.startswith(f"{name}.") and _adder(other, inputs) == name:
            yield other
            yield from _added_by(other, inputs)


def _adder(name: str, inputs: Mapping[str, InputSpec]) -> str | None:
    """Return the input whose value adds the input `name`, or None."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in inputs:
            return name
    return None


def _control_names(name: str, spec: InputSpec) -> list[str]:
    """Return the control widgets of an input, which change its value after each run."""
    default = spec.type == "INT" and name in _SEED_NAMES
    if not spec.options.get("control_after_generate", default):
        return []
    is_combo = isinstance(spec.type, list) or spec.type == "COMBO"
    return [_CONTROL + name, _FILTER + name] if is_combo else [_CONTROL + name]


def _default(spec: InputSpec) -> Any:
    """Return a new widget's value."""
    if "default" in spec.options:
        return spec.options["default"]
    choices = spec.type if isinstance(spec.type, list) else spec.options.get("options", [])
    return choices[0] if choices else _EMPTY_VALUES.get(spec.type if isinstance(spec.type, str) else "")
