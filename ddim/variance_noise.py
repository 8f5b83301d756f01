"""Recorded step noise, which also holds what the last step leaves over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .coefficients import StepCoefficients

__all__ = ["VarianceNoise", "add_residual"]


class VarianceNoise(Tensor):
    """The noise of every step as an inversion recorded it, shape ``(S, B, ...)``.

    It is an ordinary tensor with one more meaning. A step that adds no noise (the last one, when it goes to clean data)
    multiplies its row by 0, and the picture would be lost by what the model gets wrong there. In a
    :class:`VarianceNoise` the row of such a step is that residual itself, in the units of the sample, and it is added
    as it is. A plain tensor is noise and nothing else, as in diffusers; ``tensor.as_subclass(VarianceNoise)`` makes
    recorded noise of one.

    Copies, casts, moves and slices keep the meaning; the result of any arithmetic is a plain tensor.
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
            if func not in _KEEPING:
                return result
            if isinstance(result, Tensor):
                return result.as_subclass(VarianceNoise)
            return tuple(each.as_subclass(VarianceNoise) for each in result)

    def __iter__(self) -> Iterator[VarianceNoise]:
        return (row.as_subclass(VarianceNoise) for row in self.unbind(0))


_KEEPING = frozenset(
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


def add_residual(following: Tensor, coefficients: StepCoefficients, noise: Tensor | None) -> Tensor:
    """The sample after a step, with the recorded residual where the step itself adds no noise.

    Args:
        following: the sample that the step gave, shape ``(B, ...)``.
        coefficients: of that step.
        noise: what was given for the step, same shape; only a :class:`VarianceNoise` holds a residual.
    """
    if coefficients.noise or not isinstance(noise, VarianceNoise):
        return following
    return following + noise.as_subclass(Tensor).to(device=following.device, dtype=following.dtype)
