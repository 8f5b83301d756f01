"""What every inversion method works on: the map from one noise level to the next, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..plan import Schedule
from ..scheduler.forward import DDIMScheduler
from ..step.apply import apply_step, predicted_x0
from ..step.equations import Eta, StepCoefficients
from ..step.half_precision import steps_from_rounded_sample

__all__ = ["Callback", "Model", "Run", "mean_square"]

Model = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class Run:
    """A model and a plan: step ``i`` takes x at level ``levels(i)[0]`` to x at ``levels(i)[1]``.

    Attributes:
        model: ``model(x_t, t)``, as for :func:`ddim.sample`.
        scheduler: with its plan set.
        etas: one per step.
        seen_dtype: the dtype in which the model sees the sample.
        use_clipped_model_output: as for :func:`ddim.sample`.
        callback: as for :func:`ddim.sample`, or None.
    """

    model: Model
    scheduler: DDIMScheduler
    etas: tuple[Eta, ...]
    seen_dtype: torch.dtype
    use_clipped_model_output: bool = False
    callback: Callback | None = None

    def __len__(self) -> int:
        """Number of steps, S."""
        return len(self.etas)

    @cached_property
    def schedule(self) -> Schedule:
        """The scheduler's settings and plan."""
        return Schedule.of(self.scheduler)

    def coefficients(self, index: int) -> StepCoefficients:
        """The scalars of a step."""
        return self.scheduler.coefficients(index, self.etas[index])

    def levels(self, index: int) -> tuple[float, float]:
        """``alpha_bar`` before and after a step."""
        bars = self.schedule.alpha_bars
        return bars[index], bars[index + 1]

    def output(self, index: int, x: Tensor) -> Tensor:
        """The model's output for the sample before a step."""
        return self.model(x.to(self.seen_dtype, copy=True), self.scheduler.timesteps[index])  # it may write into x

    def mean(self, index: int, x: Tensor, output: Tensor) -> Tensor:
        """The step without its noise, in the working dtype of ``x``, exactly as sampling computes it."""
        c = self.coefficients(index)
        x_next, _ = apply_step(
            c,
            x.to(self.seen_dtype) if steps_from_rounded_sample(c) else x,
            output,
            process_x0=self.scheduler.process_x0,
            use_clipped_model_output=self.use_clipped_model_output,
        )
        return x_next

    def step(self, index: int, x: Tensor) -> Tensor:
        """``mean`` with the model called on ``x``."""
        return self.mean(index, x, self.output(index, x))

    def slope(self, index: int) -> float:
        """How much the step scales a sample whose epsilon is held fixed: sqrt(b / a).

        From pure noise (a = 0) epsilon is the sample itself, and the scale is sqrt(1 - b).
        """
        a, b = self.levels(index)
        return math.sqrt(b / a) if a > 0.0 else math.sqrt(1 - b) or 1.0

    def report(self, done: int, index: int, x: Tensor, output: Tensor) -> None:
        """Tell the callback that ``done`` steps went before this one, which led to or from ``x``."""
        if self.callback is not None:
            x0 = predicted_x0(self.coefficients(index), x, output)
            self.callback(done, self.scheduler.timesteps[index], x.to(self.seen_dtype, copy=True), x0)


def mean_square(difference: Tensor) -> Tensor:
    """Mean of the squares of each image, float64, shape ``(B,)``."""
    return difference.to(torch.float64).square().flatten(1).mean(1)
