"""Socket types and kinds of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

__all__ = [
    "CONDITIONING",
    "DDIM_SCHEDULE",
    "DDIM_STEPS",
    "IMAGE",
    "LATENT",
    "MODEL",
    "SAMPLER",
    "SIGMAS",
    "VARIANCE_NOISE",
    "Input",
    "InputTypes",
    "Node",
    "choice",
    "integer",
    "number",
    "socket",
    "switch",
    "text",
]

MODEL = "MODEL"
CONDITIONING = "CONDITIONING"
LATENT = "LATENT"
IMAGE = "IMAGE"
SIGMAS = "SIGMAS"
SAMPLER = "SAMPLER"
DDIM_SCHEDULE = "DDIM_SCHEDULE"  # carries a ddim.Schedule
DDIM_STEPS = "DDIM_STEPS"  # carries a RunSteps
VARIANCE_NOISE = "VARIANCE_NOISE"  # carries a RecordedNoise

Options: TypeAlias = dict[str, Any]
Input: TypeAlias = tuple[str | list[str], Options]  # a type and its options; the type of a combo is its list of names
InputTypes: TypeAlias = dict[str, dict[str, Input]]  # {"required": {name: input}, "optional": {name: input}}


class Node(Protocol):
    """A node class, as far as the pack itself has to know it; hosts read more attributes."""

    FUNCTION: str

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        """Declare the inputs."""


def socket(kind: str, tooltip: str) -> Input:
    """Define an input that takes a link."""
    return kind, {"tooltip": tooltip}


def integer(
    default: int, low: int, high: int, tooltip: str, *, advanced: bool = False, control_after_generate: bool = False
) -> Input:
    """Define a whole number in ``[low, high]``."""
    options = {"default": default, "min": low, "max": high, "step": 1, "tooltip": tooltip}
    return "INT", {**options, **_flags(advanced=advanced, control_after_generate=control_after_generate)}


def number(default: float, low: float, high: float, step: float, tooltip: str, *, advanced: bool = False) -> Input:
    """Define a number in ``[low, high]``, kept as typed: the editor rounds to no less than a millionth."""
    options = {"default": default, "min": low, "max": high, "step": step, "round": 1e-6, "tooltip": tooltip}
    return "FLOAT", {**options, **_flags(advanced=advanced)}


def choice(names: Sequence[str], default: str, tooltip: str, *, advanced: bool = False) -> Input:
    """Define a choice of one of several names."""
    return list(names), {"default": default, "tooltip": tooltip, **_flags(advanced=advanced)}


def switch(default: bool, tooltip: str, *, advanced: bool = False) -> Input:
    """Define an on/off switch."""
    return "BOOLEAN", {"default": default, "tooltip": tooltip, **_flags(advanced=advanced)}


def text(default: str, tooltip: str, *, advanced: bool = False, multiline: bool = False) -> Input:
    """Define a line of text, or several lines."""
    return "STRING", {"default": default, "tooltip": tooltip, **_flags(advanced=advanced, multiline=multiline)}


def _flags(**flags: bool) -> Options:
    """Return the options that are switched on; a host reads a missing one as off."""
    return {name: True for name, on in flags.items() if on}
