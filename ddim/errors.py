"""The one exception of the core, and the checks that raise it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

__all__ = ["DDIMError", "check_choice", "check_integer", "check_number", "show"]


class DDIMError(ValueError):
    """A wrong argument: the message says what was expected, what came and what to do."""


def show(value: Any, limit: int = 80) -> str:
    """A value for an error message: its repr, cut; never fails, whatever the value is."""
    try:
        text = repr(value)
    except Exception:  # a stranger's object, or an integer too long to print
        return f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= limit else f"{text[:limit]}..."


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        DDIMError: otherwise, with the nearest right spelling where there is one.
    """
    if isinstance(value, str) and value in choices:
        return value
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    expected = ", ".join(repr(choice) for choice in choices)
    raise DDIMError(f"{name} must be one of {expected}, got {show(value)}{hint}")


def check_integer(name: str, value: Any, low: float, high: float = math.inf, *, why: str = "") -> int:
    """Return ``value`` as an int if it is a whole number in ``[low, high]``.

    Raises:
        DDIMError: for booleans, fractions, other types and numbers out of the range.
    """
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not whole or not low <= int(value) <= high:
        limit = f"between {low} and {high}" if high != math.inf else f"at least {low}"
        raise DDIMError(f"{name} must be a whole number {limit}{why}, got {show(value)}")
    return int(value)


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, why: str = "") -> float:
    """Return ``value`` as a float if it is a finite number in ``[low, high]``.

    Raises:
        DDIMError: for booleans, NaN, infinities, other types and numbers out of the range.
    """
    number = _as_float(value)
    if not math.isfinite(number) or not low <= number <= high:
        limit = f"from {low:g} to {high:g}" if high != math.inf else f"of at least {low:g}"
        raise DDIMError(f"{name} must be a finite number {limit}{why}, got {show(value)}")
    return number


def _as_float(value: Any) -> float:
    """The value as a float; NaN for what is no number, or too large for one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
