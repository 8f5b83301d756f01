"""The core's only exception, and the argument checks that raise it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any, cast

__all__ = ["DDIMError", "NoBetasError", "check_choice", "check_integer", "check_number", "show"]


class DDIMError(ValueError):
    """An invalid argument; the message says what was expected, what was given and what to do."""

    __module__ = "ddim"  # where it is public: a host shows it, and as a part of a node pack that would be a folder


class NoBetasError(DDIMError, AttributeError):
    """Betas of a model that has none were asked for; ``hasattr`` is False for them."""

    __module__ = "ddim"


def show(value: Any, limit: int = 80) -> str:
    """Format any value for an error message: its ``repr``, truncated. Never raises."""
    try:
        text = repr(value)
    except Exception:  # a broken __repr__, or an integer with too many digits to print
        return f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= limit else f"{text[:limit]}..."


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        DDIMError: otherwise; the message suggests the closest choice.
    """
    if isinstance(value, str) and value in choices:
        return value
    closest = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {closest[0]!r}?" if closest else ""
    expected = ", ".join(repr(choice) for choice in choices)
    raise DDIMError(f"{name} must be one of {expected}, got {show(value)}{hint}")


def check_integer(name: str, value: Any, low: float, high: float = math.inf, *, why: str = "") -> int:
    """Return ``value`` as an int if it is a whole number in ``[low, high]``.

    Raises:
        DDIMError: for booleans, fractions, other types and numbers outside the range.
    """
    if type(value) is int and low <= value <= high:  # nearly always; the abstract types below take microseconds
        return value
    if isinstance(value, bool) or not _is_whole(value) or not low <= int(value) <= high:
        limit = f" between {low} and {high}" if high != math.inf else f" of at least {low}" if low != -math.inf else ""
        limit = f" of at most {high}" if low == -math.inf and high != math.inf else limit
        raise DDIMError(f"{name} must be a whole number{limit}{why}, got {show(value)}")
    return int(value)


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, why: str = "") -> float:
    """Return ``value`` as a float if it is a finite number in ``[low, high]``.

    Raises:
        DDIMError: for booleans, NaN, infinities, other types and numbers outside the range.
    """
    number = _float_or_nan(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise DDIMError(f"{name} must be a finite number{_range_text(low, high)}{why}, got {show(value)}")
    return number


def _is_whole(value: Any) -> bool:
    try:
        return isinstance(value, Integral) or (isinstance(value, Real) and int(cast(Any, value)) == value)
    except (OverflowError, ValueError):  # infinity and NaN
        return False


def _range_text(low: float, high: float) -> str:
    if high != math.inf:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low != -math.inf else ""


def _float_or_nan(value: Any) -> float:
    """Return the value as a float, or NaN if it is not a real number or too large for a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
