"""Checks one input's value against its declaration: type, range, choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from host.error_format import ErrorInfo, error_info, shorten
from host.packs import InputSpec
from host.prompt_format import unwrap_constant

__all__ = ["check_value"]

_LONG_LIST = 20  # of a list with more choices, an error gives only the length


def check_value(name: str, spec: InputSpec, value: Any, *, check_range: bool) -> tuple[Any, ErrorInfo | None]:
    """Convert a constant to its input's type, and check it against the input's range or choices.

    Args:
        name: The input.
        spec: Its declaration.
        value: The value in the prompt.
        check_range: Whether to check range and choices. A class that validates an input itself does without.

    Returns:
        The converted value, and its error or None.
    """
    value = unwrap_constant(value)
    if isinstance(spec.type, str) and spec.type in _CONVERTERS:
        try:
            value = _CONVERTERS[spec.type](value)
        except Exception as error:
            return value, _conversion_error(name, spec, value, error)
    if not check_range:
        return value, None
    return value, _range_error(name, spec, value) or _choice_error(name, spec, value)


def _finite_float(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a finite number is expected")
    return number


_CONVERTERS: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": _finite_float, "STRING": str, "BOOLEAN": bool}


def _conversion_error(name: str, spec: InputSpec, value: Any, error: Exception) -> ErrorInfo:
    return error_info(
        "invalid_input_type",
        f"Failed to convert an input value to a {spec.type} value",
        f"{name}, {value}, {error}",
        {
            "input_name": name,
            "input_config": [spec.type, spec.options],
            "received_value": value,
            "exception_message": shorten(str(error)),
        },
    )


def _range_error(name: str, spec: InputSpec, value: Any) -> ErrorInfo | None:
    """Return the error of a number outside of [min, max], or None."""
    if not isinstance(value, (int, float)):
        return None
    options = spec.options
    extra = {"input_name": name, "input_config": [spec.type, options], "received_value": value}
    if "min" in options and value < options["min"]:
        return error_info("value_smaller_than_min", f"Value {value} smaller than min of {options['min']}", name, extra)
    if "max" in options and value > options["max"]:
        return error_info("value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, extra)
    return None


def _choice_error(name: str, spec: InputSpec, value: Any) -> ErrorInfo | None:
    """Return the error of a value that is not among the input's choices, or None."""
    is_combo = isinstance(spec.type, list) or spec.type == "COMBO"  # not `!=`: packs' wildcard types override __ne__
    if not is_combo:
        return None
    choices = spec.type if isinstance(spec.type, list) else spec.options.get("options", [])
    chosen = value if spec.options.get("multiselect", False) and isinstance(value, list) else [value]
    wrong = [item for item in chosen if item not in choices]
    if not wrong:
        return None
    is_long = len(choices) > _LONG_LIST
    listed = f"(list of length {len(choices)})" if is_long else str(list(choices))
    config = None if is_long else [spec.type, spec.options]
    return error_info(
        "value_not_in_list",
        "Value not in list",
        f"{name}: {', '.join(map(repr, wrong))} not in {listed}",
        {"input_name": name, "input_config": config, "received_value": value},
    )
