"""Recorded step noise, which includes the residual of a step that adds no noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..precision import Number

__all__ = ["VarianceNoise", "weight_of_noise"]


class VarianceNoise(Tensor):
    """The noise of every step as recorded by an inversion, shape ``(S, B, ...)``.

    A step multiplies its noise by sigma. Where sigma is 0 (the last step, if it ends at clean data) noise cannot
    correct the model's error at that step. In a :class:`VarianceNoise` the row of such a step is therefore the
    residual, in the units of the sample, and it is added without scaling. In a plain tensor every row is noise, as in
    diffusers; ``tensor.as_subclass(VarianceNoise)`` converts one to recorded noise.

    Copies, casts, moves and slices are of this class too; arithmetic returns a plain tensor.
    """

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            if func not in _CLASS_PRESERVING:
                return result
            if isinstance(result, Tensor):
                return result.as_subclass(VarianceNoise)
            return tuple(part.as_subclass(VarianceNoise) for part in result)

    def __iter__(self) -> Iterator[VarianceNoise]:
        return (row.as_subclass(VarianceNoise) for row in self.unbind(0))


_CLASS_PRESERVING = frozenset(
    {
        Tensor.__getitem__,
        Tensor.bfloat16,
        Tensor.clone,
        Tensor.contiguous,
        Tensor.cpu,
        Tensor.cuda,
        Tensor.detach,
        Tensor.double,
        Tensor.float,
        Tensor.half,
        Tensor.index_select,
        Tensor.narrow,
        Tensor.split,
        Tensor.to,
        Tensor.unbind,
        torch.clone,
        torch.index_select,
        torch.narrow,
        torch.split,
        torch.unbind,
    }
)


def weight_of_noise(sigma: Number, z: Tensor) -> Number:
    """The factor of z in a step: sigma, or 1 for the residual in recorded noise at a step whose sigma is 0."""
    return 1.0 if isinstance(z, VarianceNoise) and not isinstance(sigma, Tensor) and sigma == 0.0 else sigma
