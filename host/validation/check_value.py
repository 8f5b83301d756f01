"""One input value against its declaration: conversion, range, choice. Errors in ComfyUI's shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = ["Problem", "check_value", "problem", "types_match"]

Problem = dict[str, Any]  # {"type", "message", "details", "extra_info"}

_LONG_LIST = 20  # a list of more choices is named by its length only


def problem(kind: str, message: str, details: str, extra_info: dict[str, Any]) -> Problem:
    """Return an error in the shape that ComfyUI's clients read."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def types_match(received: Any, expected: Any) -> bool:
    """Say whether an output of type `received` may feed an input of type `expected`.

    Types are strings, of which "A,B" means either and "*" anything, or lists of choices.
    """
    if not received != expected:  # `!=` on purpose: packs' any-types override __ne__
        return True
    if received == "*" or expected == "*":
        return True
    if isinstance(received, list) and expected == "COMBO":
        return True
    if not isinstance(received, str) or not isinstance(expected, str):
        return False
    ours, theirs = ({part.strip() for part in text.split(",")} for text in (received, expected))
    return "*" in ours | theirs or bool(ours & theirs)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a finite number is expected")
    return number


_CONVERT: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": _finite, "STRING": str, "BOOLEAN": bool}


def check_value(name: str, kind: Any, options: dict, value: Any, *, ranged: bool) -> tuple[Any, Problem | None]:
    """Convert a constant to the type of its input and hold it against the input's range or choices.

    Args:
        name: The input.
        kind: Its declared type: a string, or a list of choices.
        options: Its declared options.
        value: What the prompt gives.
        ranged: Whether range and choices count; a class that validates an input itself does not want them
            checked.

    Returns:
        The converted value, and what is wrong with it or None.
    """
    config = [kind, options]
    if isinstance(value, dict) and "__value__" in value:  # how a list travels: a bare one would be a link
        value = value["__value__"]
    if isinstance(kind, str) and kind in _CONVERT:
        try:
            value = _CONVERT[kind](value)
        except Exception as error:
            return value, problem(
                "invalid_input_type",
                f"Failed to convert an input value to a {kind} value",
                f"{name}, {value}, {error}",
                {
                    "input_name": name,
                    "input_config": config,
                    "received_value": value,
                    "exception_message": str(error),
                },
            )
    if not ranged:
        return value, None
    return value, _out_of_range(name, config, options, value) or _not_a_choice(name, kind, options, value)


def _out_of_range(name: str, config: list, options: dict, value: Any) -> Problem | None:
    """Return what is wrong with a number outside [min, max], or None."""
    if not isinstance(value, (int, float)):
        return None
    extra = {"input_name": name, "input_config": config, "received_value": value}
    if "min" in options and value < options["min"]:
        return problem("value_smaller_than_min", f"Value {value} smaller than min of {options['min']}", name, extra)
    if "max" in options and value > options["max"]:
        return problem("value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, extra)
    return None


def _not_a_choice(name: str, kind: Any, options: dict, value: Any) -> Problem | None:
    """Return what is wrong with a value that the input's list does not hold, or None."""
    if not (isinstance(kind, list) or kind == "COMBO"):  # not `!=`: packs' any-types override __ne__
        return None
    choices = kind if isinstance(kind, list) else options.get("options", [])
    chosen = value if options.get("multiselect", False) and isinstance(value, list) else [value]
    wrong = [item for item in chosen if item not in choices]
    if not wrong:
        return None
    long = len(choices) > _LONG_LIST
    listed = f"(list of length {len(choices)})" if long else str(list(choices))
    return problem(
        "value_not_in_list",
        "Value not in list",
        f"{name}: {', '.join(map(repr, wrong))} not in {listed}",
        {"input_name": name, "input_config": None if long else [kind, options], "received_value": value},
    )
