"""The result of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch.utils._pytree as pytree
from torch import Tensor

__all__ = ["DDIMSchedulerOutput"]

_FIELDS = ("prev_sample", "pred_original_sample")


class DDIMSchedulerOutput:
    """The sample after a step, and the predicted x_0.

    The fields can be read as attributes, by name (``output["prev_sample"]``), by index (``output[0]``) and as a tuple.

    Attributes:
        prev_sample: the next sample, shape ``(B, ...)``.
        pred_original_sample: the predicted x_0 after clipping or thresholding, same shape.
    """

    def __init__(self, prev_sample: Tensor, pred_original_sample: Tensor | None = None) -> None:
        self.prev_sample = prev_sample
        self.pred_original_sample = pred_original_sample

    def to_tuple(self) -> tuple[Tensor, Tensor | None]:
        """Return ``(prev_sample, pred_original_sample)``."""
        return self.prev_sample, self.pred_original_sample

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in _FIELDS:
                raise KeyError(key)
            return getattr(self, key)
        return self.prev_sample if key == 0 else self.to_tuple()[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        if key not in _FIELDS:
            raise KeyError(key)
        setattr(self, key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(_FIELDS)

    def __contains__(self, key: object) -> bool:
        return key in _FIELDS

    def __len__(self) -> int:
        return len(_FIELDS)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field by name, or ``default``."""
        return self[key] if key in _FIELDS else default

    def keys(self) -> tuple[str, ...]:
        """Return the names of the fields."""
        return _FIELDS

    def values(self) -> tuple[Tensor, Tensor | None]:
        """Return the values of the fields."""
        return self.to_tuple()

    def items(self) -> tuple[tuple[str, Tensor | None], ...]:
        """Return pairs of name and value."""
        return tuple(zip(_FIELDS, self.to_tuple(), strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.to_tuple()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prev_sample={self.prev_sample!r})"


Mapping.register(DDIMSchedulerOutput)

# Lets vmap, torch.compile and data-parallel wrappers handle an output.
pytree.register_pytree_node(
    DDIMSchedulerOutput,
    lambda output: (list(output.to_tuple()), None),
    lambda values, context: DDIMSchedulerOutput(*values),
    serialized_type_name=f"{DDIMSchedulerOutput.__module__}.{DDIMSchedulerOutput.__name__}",
)
