"""Recorded step noise, which also holds the residual of a last step without noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..precision import Number

__all__ = ["VarianceNoise", "weight_of_noise"]


class VarianceNoise(Tensor):
    """The noise of every step as an inversion recorded it, shape ``(S, B, ...)``.

    A step that adds no noise (the last one, when it ends at clean data) multiplies its row by sigma = 0, so the error
    of the model at that step would remain in the picture. In a :class:`VarianceNoise` the row of such a step is that
    error itself, the residual, in the units of the sample, and it is added unscaled. A plain tensor is noise only, as
    in diffusers; ``tensor.as_subclass(VarianceNoise)`` turns one into recorded noise.

    Copies, casts, moves and slices stay a :class:`VarianceNoise`; the result of any arithmetic is a plain tensor.
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
            if func not in _STAYS_RECORDED:
                return result
            if isinstance(result, Tensor):
                return result.as_subclass(VarianceNoise)
            return tuple(each.as_subclass(VarianceNoise) for each in result)

    def __iter__(self) -> Iterator[VarianceNoise]:
        return (row.as_subclass(VarianceNoise) for row in self.unbind(0))


_STAYS_RECORDED = frozenset(
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
    """What z is multiplied by in a step: sigma, or 1 for the residual that recorded noise holds where sigma is 0."""
    return 1.0 if isinstance(z, VarianceNoise) and not isinstance(sigma, Tensor) and sigma == 0.0 else sigma
