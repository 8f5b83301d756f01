"""Checks of arguments that are tensors, lists of numbers, dtypes or devices; they raise :class:`DDIMError`.

A tensor can be used if it is dense, floating point, of one of four dtypes, and has values: torch accepts others in some
operators, and there gives an error about an operator, or numbers that mean nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import torch
from torch import Tensor

from .errors import DDIMError, show

__all__ = [
    "FLOATS",
    "check_batch",
    "check_device",
    "check_dtype",
    "check_function",
    "check_list",
    "as_real_tensor",
    "check_pair",
    "check_path",
    "check_tensor",
    "check_timesteps_tensor",
    "describe",
    "fits",
    "is_usable",
    "refuse_pair",
]

FLOATS = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))
_INTEGERS = frozenset((torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8))
_FLOAT_NAMES = "torch.float16, torch.bfloat16, torch.float32 or torch.float64"


def is_usable(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor that can be calculated with."""
    return (
        isinstance(value, Tensor)
        and value.dtype in FLOATS
        and value.layout is torch.strided
        and not value.is_nested
        and not value.is_meta
    )


def fits(value: object, like: Tensor) -> TypeGuard[Tensor]:
    """Whether a value can be calculated with, given that ``like`` can, and has its shape and device.

    Each step asks this for each of its tensors, so that it reads no more attributes than it must.
    """
    return (
        isinstance(value, Tensor)
        and value.dtype in FLOATS
        and value.layout is torch.strided
        and not value.is_nested
        and value.shape == like.shape
        and value.device == like.device
    )


def _has_values(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_meta


def check_tensor(name: str, value: object) -> Tensor:
    """Return ``value`` if it can be calculated with.

    Raises:
        DDIMError: for things that are no tensors, other dtypes, and tensors that are sparse or nested or on ``meta``.
    """
    if not is_usable(value):
        raise DDIMError(f"{name} must be floating point, a dense tensor ({_FLOAT_NAMES}), got {describe(value)}")
    return value


def check_batch(name: str, value: object) -> Tensor:
    """Return ``value`` if it can be calculated with and has the shape ``(B, ...)``.

    Raises:
        DDIMError: otherwise.
    """
    tensor = check_tensor(name, value)
    if tensor.ndim == 0:
        raise DDIMError(f"{name} must have the shape (B, ...), got a tensor without dimensions")
    return tensor


def check_pair(name: str, value: object, other_name: str, other: object) -> None:
    """Check that two tensors can be calculated with, and have the same shape and device.

    Raises:
        DDIMError: otherwise.
    """
    like = check_tensor(other_name, other)
    if not fits(value, like):
        refuse_pair(name, value, f"the same shape and device as {other_name}", like)


def refuse_pair(name: str, value: object, what: str, like: Tensor, hint: str = "") -> NoReturn:
    """Raise the error for a value that does not fit a tensor.

    Args:
        name: of the argument.
        value: what was given.
        what: what it must have in common with ``like``.
        like: a tensor that can be calculated with.
        hint: what to do, at the end of the sentence.
    """
    if not isinstance(value, Tensor) or value.device == like.device:
        check_tensor(name, value)
    raise DDIMError(f"{name} must have {what}, {tuple(like.shape)} on {like.device}, got {describe(value)}{hint}")


def check_timesteps_tensor(timesteps: object) -> Tensor:
    """Return timesteps given as a tensor, if it holds whole numbers.

    Raises:
        DDIMError: otherwise.
    """
    if not isinstance(timesteps, Tensor) or timesteps.dtype not in _INTEGERS or not _has_values(timesteps):
        raise DDIMError(f"timesteps must be an integer tensor, got {describe(timesteps)}")
    return timesteps


def check_dtype(name: str, value: object) -> torch.dtype:
    """Return ``value`` if it is a dtype that tensors may have here.

    Raises:
        DDIMError: otherwise.
    """
    if not (isinstance(value, torch.dtype) and value in FLOATS):
        raise DDIMError(f"{name} must be a floating-point dtype, {_FLOAT_NAMES}, got {show(value)}")
    return value


def check_device(name: str, value: Any) -> torch.device:
    """Return the device that ``value`` names; None is torch's default device.

    Raises:
        DDIMError: if torch knows no such device or cannot use it here, or it keeps no values (``meta``).
    """
    try:
        device: torch.device = torch.empty(0, device=value).device
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise DDIMError(f"{name} must be a device that torch can use here, got {show(value)}: {reason:.200}") from error
    if device.type == "meta":
        raise DDIMError(f"{name} must be a device that keeps values, got {show(value)}")
    return device


def check_list(name: str, values: Any, at_most: int | None = None) -> list[Any]:
    """Return the elements of a list, tuple, array, tensor or other iterable.

    Args:
        name: of the argument.
        values: what was given.
        at_most: how many elements are read; None for all.

    Raises:
        DDIMError: if there are no elements to read.
    """
    try:
        return list(islice(values.tolist() if hasattr(values, "tolist") else values, at_most))
    except (RuntimeError, TypeError) as error:
        raise DDIMError(f"{name} must be a list of numbers, got {describe(values)}") from error


def as_real_tensor(name: str, values: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a number, or a list, array or tensor of real numbers, as a tensor of ``dtype`` in its shape.

    Raises:
        DDIMError: if it is something else.
    """
    if isinstance(values, Tensor):
        if values.dtype not in FLOATS | _INTEGERS or not _has_values(values):
            raise DDIMError(f"{name} must be a dense tensor of real numbers, got {describe(values)}")
        return values.to(dtype)
    try:
        return torch.tensor(values.tolist() if hasattr(values, "tolist") else values, dtype=dtype)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise DDIMError(f"{name} must be numbers (a list, array or tensor), got {describe(values)}") from error


def check_path(name: str, value: object) -> Path:
    """Return ``value`` as a path.

    Raises:
        DDIMError: if it is neither a string nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise DDIMError(f"{name} must be a path, got {describe(value)}")
    return Path(value)


def check_function(name: str, value: object) -> None:
    """Check that ``value`` can be called.

    Raises:
        DDIMError: otherwise.
    """
    if not callable(value):
        raise DDIMError(f"{name} must be a function, got {describe(value)}")


def describe(value: object) -> str:
    """What a value is, for an error message, without reading a tensor's elements."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} {show(value)}"
    kinds: Iterable[tuple[bool, str]] = (
        (value.is_nested, "nested "),
        (value.layout is not torch.strided, f"{value.layout} "),
    )
    shape = "" if value.is_nested else f" of shape {tuple(value.shape)}"
    return f"a {''.join(text for applies, text in kinds if applies)}{value.dtype} tensor{shape} on {value.device}"
