"""What a step gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

__all__ = ["DDIMSchedulerOutput"]

_FIELDS = ("prev_sample", "pred_original_sample")


class DDIMSchedulerOutput:
    """The sample after a step, and the x_0 predicted at it.

    Reads as attributes, by name (``output["prev_sample"]``), by number (``output[0]``) and as a tuple. x_0 is computed
    when it is first read, unless the step needed it anyway.

    Attributes:
        prev_sample: shape ``(B, ...)``: the next sample.
        pred_original_sample: same shape: predicted x_0, processed as the step used it.
    """

    def __init__(self, prev_sample: Tensor, pred_original_sample: Tensor | Callable[[], Tensor] | None = None) -> None:
        self.prev_sample = prev_sample
        self._x0 = pred_original_sample

    @property
    def pred_original_sample(self) -> Tensor | None:
        """Predicted x_0."""
        if callable(self._x0) and not isinstance(self._x0, Tensor):
            self._x0 = self._x0()
        return self._x0

    def to_tuple(self) -> tuple[Tensor, Tensor | None]:
        """``(prev_sample, pred_original_sample)``."""
        return self.prev_sample, self.pred_original_sample

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in _FIELDS:
                raise KeyError(key)
            return getattr(self, key)
        return self.prev_sample if key == 0 else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_FIELDS)

    def __len__(self) -> int:
        return len(_FIELDS)

    def keys(self) -> tuple[str, ...]:
        """The two names."""
        return _FIELDS

    def __repr__(self) -> str:
        return f"DDIMSchedulerOutput(prev_sample={self.prev_sample!r})"
