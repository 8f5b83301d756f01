"""What the settings of all kinds of models share: untrusted configurations are checked here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np

from ..arguments import check_list
from ..errors import DDIMError, check_number, show

__all__ = [
    "MAX_TRAIN_TIMESTEPS",
    "FrozenSettings",
    "check_numbers",
    "check_switches",
    "check_x0_settings",
    "keep_number_type",
]

MAX_TRAIN_TIMESTEPS = 1_000_000  # keeps an untrusted configuration from allocating all memory


class FrozenSettings(Mapping[str, Any]):
    """Base of frozen dataclasses of settings, which can also be read as mappings."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the settings, in order."""
        return _names_of(cls)

    def _set(self, name: str, value: Any) -> None:
        """Replace a value by its checked form, at construction."""
        object.__setattr__(self, name, value)

    def __getitem__(self, key: str) -> Any:
        if key not in self.names():
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())


@cache
def _names_of(settings: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(settings))


def check_numbers(name: str, values: Any, largest: float = math.inf, *, smallest: float = 0.0) -> tuple[float, ...]:
    """Convert a list, tuple, numpy array or tensor with one number per training timestep.

    Raises:
        DDIMError: for anything else, or a number that is below ``smallest``, above ``largest`` or not finite.
    """
    listed = check_list(name, values) if hasattr(values, "tolist") else values
    if not isinstance(listed, (list, tuple)) or not 1 <= len(listed) <= MAX_TRAIN_TIMESTEPS:
        raise DDIMError(
            f"{name} must be a flat list, array or tensor of numbers, one per training timestep "
            f"(1 to {MAX_TRAIN_TIMESTEPS}), got {show(values)}"
        )
    if all(type(value) is float and smallest <= value <= largest and math.isfinite(value) for value in listed):
        return tuple(listed)  # most lists: a name for each of a million values takes seconds
    return tuple(check_number(f"{name}[{i}]", value, smallest, largest) for i, value in enumerate(listed))


def check_x0_settings(given: Any, *, lowest_cap: float) -> dict[str, Any]:
    """Check the settings of clipping and dynamic thresholding.

    Args:
        given: an object with these settings as attributes.
        lowest_cap: least ``sample_max_value``; below 1, thresholding would amplify.

    Returns:
        The settings by name.

    Raises:
        DDIMError: for a value of the wrong type or outside its range.
    """
    limits = {
        "dynamic_thresholding_ratio": (0.0, 1.0, ""),
        "clip_sample_range": (0.0, math.inf, ""),
        "sample_max_value": (lowest_cap, math.inf, " (below 1, thresholding would amplify)"),
    }
    numbers = {
        name: keep_number_type(check_number(name, getattr(given, name), low, high, why=why), getattr(given, name))
        for name, (low, high, why) in limits.items()
    }
    return {**numbers, **check_switches({name: getattr(given, name) for name in ("clip_sample", "thresholding")})}


def check_switches(given: Mapping[str, Any]) -> dict[str, bool]:
    """Check settings that are True or False.

    Raises:
        DDIMError: for anything else.
    """
    for name, value in given.items():
        if not isinstance(value, (bool, np.bool_)):
            raise DDIMError(f"{name} must be True or False, got {show(value)}")
    return {name: bool(value) for name, value in given.items()}


def keep_number_type(checked: float, given: Any) -> int | float:
    """Return a plain int or float as it was given, since files distinguish 1 from 1.0; anything else as a float."""
    return given if type(given) in (int, float) else checked
