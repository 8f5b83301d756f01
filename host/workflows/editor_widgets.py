"""Which widgets the frontend gives a node, in which order: that is what `widgets_values` of a file lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from host.object_info import NodeClass, input_types

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
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload")
_SEED_NAMES = ("seed", "noise_seed")
_CONTROL, _FILTER = " control ", " filter "  # no input's name begins with a space
_CONTROL_WORDS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
_ZEROS: dict[str, Any] = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False, "STRING": ""}


def is_widget(kind: Any, options: dict) -> bool:
    """Say whether the frontend draws a widget for an input of this type."""
    name = options.get("widgetType", "COMBO" if isinstance(kind, list) else kind)
    return name in _WIDGET_TYPES and not options.get("forceInput", False)


def widget_inputs(node: NodeClass) -> dict[str, tuple[Any, dict]]:
    """Return the inputs of a class that have widgets: {name: (type, options)}."""
    return {name: spec for name, spec in _specs(node) if is_widget(*spec)}


def widget_values(node: NodeClass, values: list | dict | None) -> dict[str, Any]:
    """Return {input name: value} of a node's widgets, defaults where the file has none.

    Args:
        node: The class.
        values: The file's `widgets_values`. A list may be of four lengths: with or without the values of the
            widgets that steer another one after each run, and, from old frontends, of inputs that have no
            widget any more.
    """
    known = widget_inputs(node)
    if isinstance(values, list):
        layout = _fitting_layout(node, values)
        values = dict(zip(layout, values, strict=False))
    values = values or {}
    return {name: values[name] if name in values else _default(*spec) for name, spec in known.items()}


def _specs(node: NodeClass) -> Iterator[tuple[str, tuple[Any, dict]]]:
    """Yield (name, (type, options)) of the visible inputs in order."""
    declared = input_types(node)
    for category in ("required", "optional"):
        for name, spec in declared.get(category, {}).items():
            yield name, (spec[0], spec[1] if len(spec) > 1 else {})


def _fitting_layout(node: NodeClass, values: list) -> list[str]:
    """Return the names that a list of widget values belongs to; inputs that were added later have none.

    Editors write the steering widgets' values, people's scripts may not. Where one of the editor's words stands in such
    a place, the list has them; only else does its length decide.
    """
    with_controls = [_layout(node, controls=True, forced=forced) for forced in (False, True)]
    without = [_layout(node, controls=False, forced=forced) for forced in (False, True)]
    steered = [layout for layout in with_controls if _has_control_words(layout, values)]
    fitting = (layout for layout in steered or (*without, *with_controls) if len(layout) == len(values))
    return next(fitting, (steered or with_controls)[0])


def _has_control_words(layout: list[str], values: list) -> bool:
    """Say whether the values of the steering widgets are the editor's words, and there is one."""
    found = [value for name, value in zip(layout, values, strict=False) if name.startswith(_CONTROL)]
    return bool(found) and all(isinstance(word, str) and word in _CONTROL_WORDS for word in found)


def _layout(node: NodeClass, *, controls: bool, forced: bool) -> list[str]:
    """Return the names of all widgets in order, with those that belong to no input."""
    names: list[str] = []
    uploads = False
    declared = input_types(node)
    for category in ("required", "optional"):
        for name, spec in declared.get(category, {}).items():
            kind, options = spec[0], spec[1] if len(spec) > 1 else {}
            if is_widget(kind, options) or (forced and is_widget(kind, {**options, "forceInput": False})):
                names.append(name)
                names += _control_names(name, kind, options) if controls else []
            uploads = uploads or (category == "required" and any(options.get(key) for key in _UPLOADS))
        if category == "required" and uploads:
            names.append(" upload")
    return names


def _control_names(name: str, kind: Any, options: dict) -> list[str]:
    """Return the widgets that steer an input's value after each run."""
    default = kind == "INT" and name in _SEED_NAMES
    if not options.get("control_after_generate", default):
        return []
    is_combo = isinstance(kind, list) or kind == "COMBO"
    return [_CONTROL + name, _FILTER + name] if is_combo else [_CONTROL + name]


def _default(kind: Any, options: dict) -> Any:
    """Return what a new widget holds."""
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options", [])
    return choices[0] if choices else _ZEROS.get(kind if isinstance(kind, str) else "")
