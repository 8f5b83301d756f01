"""The operators that noise is made of, under one set of names: numpy's on the CPU, torch's on every other device.

Their results have the same bits: integers wrap, and IEEE 754 rounds the rest correctly. On the CPU numpy takes a third
of the time of torch or less, because calling an operator and multiplying integers cost less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["NUMPY", "TORCH", "Array", "Operators"]

Array = Any  # a numpy array or a tensor; both know slices, ``reshape``, ``view(dtype)`` and their shape


@dataclass(frozen=True, eq=False)
class Operators:
    """Elementwise operators with the signature ``op(x, y, out=...)``, and what else noise needs.

    Attributes:
        sqrt: ``sqrt(x, out)``.
        convert: ``convert(x, out)`` writes x in the dtype of ``out``; integers keep their lowest bits.
        unsigned_to_float: ``(x, out)``, as ``convert``, where x holds unsigned words in int32.
        empty: ``empty(like, count)``, a new int64 array of one dimension on the device of ``like``.
        zero: ``zero(like)``, int64, shape ``(1, 1)``.
        arange: ``arange(like, begin, end)``, int64.
        swap_axes: ``(x, order)``, a view.
        int32, float32: dtypes.
        word, integer, real: make a constant operand of int64, int32 or float32 arrays.
    """

    add: Callable[..., Any]
    subtract: Callable[..., Any]
    multiply: Callable[..., Any]
    xor: Callable[..., Any]
    both: Callable[..., Any]
    either: Callable[..., Any]
    shift_left: Callable[..., Any]
    shift_right: Callable[..., Any]
    sqrt: Callable[[Array, Array], object]
    convert: Callable[[Array, Array], object]
    unsigned_to_float: Callable[[Array, Array], object]
    empty: Callable[[Array, int], Array]
    zero: Callable[[Array], Array]
    arange: Callable[[Array, int, int], Array]
    swap_axes: Callable[[Array, tuple[int, ...]], Array]
    int32: Any
    float32: Any
    word: Callable[[int], Any]
    integer: Callable[[int], Any]
    real: Callable[[float], Any]


def _convert(x: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out, x, casting="unsafe")


def _root(x: Tensor, out: Tensor) -> None:
    """The correctly rounded square root of float32 numbers that are 0 or from 2^-100 to 2^47, on any device.

    ``torch.sqrt`` is not: on the CPU the last bit of one result in 140 is wrong, and in a process whose first root is
    taken by two threads half of the results may have 12 bits only, because MKL sets its accuracy up meanwhile. Other
    devices do not promise it either. So it only gives the guess. A step of Newton's method brings one with 11 right
    bits within two units. For whole numbers X in [2^46, 2^48) the nearest root r is in [2^23, 2^24), where
    r^2 - r < X <= r^2 + r, and all of this is exact in int64.
    """
    bits = x.view(torch.int32)
    half = (bits - (173 << 23)) >> 24
    scaled = (bits - (half << 24)).view(torch.float32)  # x 4^-half, in [2^46, 2^48)
    whole, root = scaled.to(torch.int64), scaled.sqrt().to(torch.int64)
    root = (root + torch.div(whole, root, rounding_mode="floor")) >> 1
    for _ in range(2):
        excess = whole - root * root
        root = root + (excess > root).to(torch.int64) - (excess <= -root).to(torch.int64)
    result = root.to(torch.float32).view(torch.int32) + (half << 23)
    out.copy_(torch.where(x == 0, x, result.view(torch.float32)))


def _unsigned_to_float(x: Tensor, out: Tensor) -> None:
    out.copy_(x.to(torch.int64) & 0xFFFFFFFF)  # torch does no arithmetic on uint32


NUMPY = Operators(
    add=np.add,
    subtract=np.subtract,
    multiply=np.multiply,
    xor=np.bitwise_xor,
    both=np.bitwise_and,
    either=np.bitwise_or,
    shift_left=np.left_shift,
    shift_right=np.right_shift,
    sqrt=lambda x, out: np.sqrt(x, out=out),
    convert=_convert,
    unsigned_to_float=lambda x, out: _convert(x.view(np.uint32), out),
    empty=lambda like, count: np.empty(count, np.int64),
    zero=lambda like: np.zeros((1, 1), np.int64),
    arange=lambda like, begin, end: np.arange(begin, end, dtype=np.int64),
    swap_axes=lambda x, order: x.transpose(order),
    int32=np.int32,
    float32=np.float32,
    # An array without dimensions is a faster operand than a number.
    word=lambda value: np.array(value, np.int64),
    integer=lru_cache(maxsize=None)(lambda value: np.array(value, np.int32)),
    real=lru_cache(maxsize=None)(lambda value: np.array(value, np.float32)),
)

TORCH = Operators(
    add=torch.add,
    subtract=torch.subtract,
    multiply=torch.multiply,
    xor=torch.bitwise_xor,
    both=torch.bitwise_and,
    either=torch.bitwise_or,
    shift_left=torch.bitwise_left_shift,
    shift_right=torch.bitwise_right_shift,
    sqrt=_root,
    convert=lambda x, out: out.copy_(x),
    unsigned_to_float=_unsigned_to_float,
    empty=lambda like, count: torch.empty(count, dtype=torch.int64, device=like.device),
    zero=lambda like: torch.zeros((1, 1), dtype=torch.int64, device=like.device),
    arange=lambda like, begin, end: torch.arange(begin, end, dtype=torch.int64, device=like.device),
    swap_axes=lambda x, order: x.permute(order),
    int32=torch.int32,
    float32=torch.float32,
    # A number goes to a device with the operator; a tensor would have to be copied.
    word=int,
    integer=int,
    real=float,
)
