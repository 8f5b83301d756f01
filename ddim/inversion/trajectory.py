"""The map from one noise level to the next that a model and a plan define; every inversion method is built on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..guidance.cfg import CFGPlusPlus, Guided, ModelOutput
from ..plan import Schedule
from ..sampling.loop import checked_output
from ..scheduler.forward import ForwardScheduler
from ..step.apply import apply_step, predicted_x0
from ..step.coefficients import coefficients_between
from ..step.equations import Eta, StepCoefficients
from ..step.half_precision import steps_from_rounded_sample
from ..step.levels import FLOW, Level

__all__ = ["Callback", "Model", "Trajectory", "mean_square"]

Model = Callable[[Tensor, Tensor], ModelOutput]
Callback = Callable[[int, Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class Trajectory:
    """A model and a plan: step ``i`` takes x at level ``levels(i)[0]`` to x at ``levels(i)[1]``.

    Attributes:
        model: Called as ``model(x_t, t)``, as for :func:`ddim.sample`.
        scheduler: The scheduler, with its plan set.
        etas: Eta of each step.
        model_dtype: The dtype in which the model receives the sample.
        use_clipped_model_output: As for :func:`ddim.sample`.
        callback: As for :func:`ddim.sample`, or None.
    """

    model: Model
    scheduler: ForwardScheduler
    etas: tuple[Eta, ...]
    model_dtype: torch.dtype
    use_clipped_model_output: bool = False
    callback: Callback | None = None

    def __len__(self) -> int:
        """Return the number of steps, S."""
        return len(self.etas)

    @cached_property
    def schedule(self) -> Schedule:
        """The scheduler's settings and plan."""
        return Schedule.of(self.scheduler)

    @cached_property
    def _levels(self) -> tuple[Level, ...]:
        return self.schedule.levels

    def coefficients(self, index: int) -> StepCoefficients:
        """Return the coefficients of a step, as floats."""
        return self.scheduler.coefficients(index, self.etas[index])

    def levels(self, index: int) -> tuple[Level, Level]:
        """Return the levels before and after a step."""
        return self._levels[index], self._levels[index + 1]

    def output(self, index: int, x: Tensor) -> Tensor | CFGPlusPlus:
        """Return the model's output for ``x``, the sample before a step; a guided one is combined.

        Raises:
            DDIMError: If it cannot be the output for ``x``.
        """
        # A copy, because the model may keep its argument or write into it.
        output = checked_output(self.model(x.to(self.model_dtype, copy=True), self.scheduler.timesteps[index]), x)
        return output.tensor() if isinstance(output, Guided) else output

    def mean(self, index: int, x: Tensor, output: Tensor | CFGPlusPlus) -> Tensor:
        """Return the result of a step without its noise, in the working dtype of ``x``, exactly as sampling does."""
        return self._apply(self.coefficients(index), x, output)

    def mean_upwards(self, index: int, x: Tensor, output: Tensor | CFGPlusPlus) -> Tensor:
        """Return where the prediction for ``x``, the sample before step ``index``, leads one level back to more noise.

        ``index`` is at least 1; otherwise as :meth:`mean`, which goes one level on.
        """
        at, to = self._levels[index], self._levels[index - 1]
        return self._apply(coefficients_between(at, to, self.schedule.config.prediction_type, 0.0), x, output)

    def _apply(self, c: StepCoefficients, x: Tensor, output: Tensor | CFGPlusPlus) -> Tensor:
        x_next, _ = apply_step(
            c,
            x.to(self.model_dtype) if steps_from_rounded_sample(c) else x,
            output,
            process_x0=self.scheduler.process_x0,
            use_clipped_model_output=self.use_clipped_model_output,
        )
        return x_next

    def step(self, index: int, x: Tensor) -> Tensor:
        """Call the model on ``x`` and return the ``mean`` of the step from there."""
        return self.mean(index, x, self.output(index, x))

    def slope(self, index: int) -> float:
        """Return the factor by which a step scales a sample whose prediction is held fixed.

        The prediction is epsilon: alpha_u / alpha_t. From pure noise, where epsilon is the sample itself, it is
        sigma_u / sigma_t. For a flow model it is the velocity epsilon - x_0, which has a value at every level: 1.
        """
        at, to = self.levels(index)
        if self.schedule.noise.kind == FLOW:
            return 1.0
        return to.alpha / at.alpha if at.alpha > 0.0 else to.sigma / at.sigma or 1.0

    def report(
        self,
        steps_done: int,
        index: int,
        x: Tensor,
        output: Tensor | CFGPlusPlus,
        predicted_at: tuple[int, Tensor] | None = None,
    ) -> None:
        """Call the callback for step ``index``.

        Args:
            steps_done: Number of steps before this one.
            index: Index of the step in the plan.
            x: The sample before the step.
            output: The model's output there.
            predicted_at: The step and the sample that the output belongs to, if not these.
        """
        if self.callback is not None:
            step, sample = (index, x) if predicted_at is None else predicted_at
            x0 = predicted_x0(self.coefficients(step), sample, output)
            self.callback(steps_done, self.scheduler.timesteps[index], x.to(self.model_dtype, copy=True), x0)


def mean_square(difference: Tensor) -> Tensor:
    """Return the mean of the squares of each image, float64, shape ``(B,)``."""
    return difference.to(torch.float64).square().flatten(1).mean(1)
