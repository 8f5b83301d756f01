"""Sampling parallel in time: many steps of one run in one model call, by fixed-point iteration over a window.

ParaDiGMS (Shih et al. 2023, 2305.16317, equation 6). A run is the solution of ``x[i + 1] = step_i(x[i])`` for all i.
Picard iteration improves all estimates in a window at once: it calls the model on them as one batch, and accumulates
the change that each step makes::

    new[i + 1] = new[i] + (step_i(old[i]) - old[i]) = step_i(old[i]) + (new[i] - old[i])

In the second form the first step of the window is exact, and a window of one step is the sequential run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_integer, check_number
from ..guidance.cfg import CFGPlusPlus, Guided, ModelOutput
from ..noise.keyed import KeyedStep
from ..noise.source import Generators, NoiseSource, noise_source
from ..precision import as_dtype, working_dtype
from ..scheduler.forward import ForwardScheduler
from ..step.apply import apply_step
from ..step.checks import eta_of_each_step
from ..step.equations import Eta, StepCoefficients
from ..step.half_precision import steps_from_rounded_sample
from .loop import check_run, checked_output

__all__ = ["ParallelSample", "sample_parallel"]

Model = Callable[[Tensor, Tensor], ModelOutput]
ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class ParallelSample:
    """The result of a parallel run.

    Attributes:
        sample: The last sample, shape ``(B, ...)``, in the dtype of the start.
        model_calls: Number of sequential model calls; a sequential run needs one per step.
        evaluations: Number of steps in all model calls together: the total work, in steps of the whole batch.
    """

    sample: Tensor
    model_calls: int
    evaluations: int


def sample_parallel(
    model: Model,
    x: Tensor,
    scheduler: ForwardScheduler,
    *,
    window: int,
    tolerance: float = 1e-3,
    eta: Eta | Sequence[Eta] = 0.0,
    seed: int | None = None,
    generator: Generators | None = None,
    variance_noise: Tensor | None = None,
    use_clipped_model_output: bool = False,
    image_indices: Sequence[int] | None = None,
    callback: ProgressCallback | None = None,
) -> ParallelSample:
    """Run the scheduler's plan with many steps per model call.

    Args:
        model: ``model(x_t, t)`` with ``x_t`` of shape ``(n * B, ...)`` and ``t`` of shape ``(n * B,)``, the timestep of
            each row; n is at most ``window``. With ``window=1`` it is called as :func:`ddim.sample` calls it.
        x: The noisy start, shape ``(B, ...)``; not modified.
        scheduler: Scheduler whose timesteps are set.
        window: Number of steps to iterate on at once, at least 1; 1 is the sequential run, bit for bit.
        tolerance: A step has converged when an iteration changes every image by at most this much (root mean square,
            in units of the sample). With 0 the result equals the sequential run, if the model's output for an image
            does not depend on the batch that the image is in.
        eta: As for :func:`ddim.sample`, like all arguments below. Noise is drawn once per step.
        seed: Seed of the keyed step noise.
        generator: Draws the step noise instead.
        variance_noise: The step noise itself, shape ``(S, B, ...)``.
        use_clipped_model_output: Recompute epsilon from the clipped x_0.
        image_indices: Image number of each row, for keyed noise; by default 0..B-1.
        callback: Called as ``callback(done, steps)`` after each model call.

    Returns:
        The last sample, with the number of model calls and steps that it took.

    Raises:
        DDIMError: Before the first model call, if an argument does not fit the plan; or if the model's output does not
            fit its input.
    """
    check_run(model, x, scheduler)
    steps = len(scheduler.plan)
    window = min(check_integer("window", window, 1), steps)
    window = window if x.numel() else 1  # an empty batch has nothing to iterate on
    tolerance = check_number("tolerance", tolerance, 0.0)
    etas = eta_of_each_step(eta, steps)
    picard = _PicardIteration(
        model=model,
        scheduler=scheduler,
        coefficients=[scheduler.coefficients(i, eta_of_step) for i, eta_of_step in enumerate(etas)],
        noise=noise_source(
            x,
            steps,
            unseeded=scheduler.unseeded_key(),
            first=scheduler.plan.first,
            seed=seed,
            generator=generator,
            variance_noise=variance_noise,
            image_indices=image_indices,
            unused_draws=scheduler.unused_draws(etas),
        ),
        dtype=x.dtype,
        use_clipped_model_output=use_clipped_model_output,
        sequential=window == 1,
    )
    return _slide_window(picard, x, window, tolerance, callback)


@dataclass(frozen=True)
class _PicardIteration:
    """An iteration over consecutive steps, and what stays the same in all iterations of a run."""

    model: Model
    scheduler: ForwardScheduler
    coefficients: list[StepCoefficients]
    noise: NoiseSource
    dtype: torch.dtype
    use_clipped_model_output: bool
    sequential: bool

    def draw_noise(self, step: int) -> Tensor | None:
        """Draw the noise of a step, which all iterations over this step use."""
        z = self.noise.at(step, float(self.coefficients[step].sigma))
        return z.draw() if isinstance(z, KeyedStep) else z

    def __call__(self, first: int, states: list[Tensor], noises: list[Tensor | None]) -> list[Tensor]:
        """Improve the estimates of a window.

        Args:
            first: Index of the window's first step.
            states: The exact sample before this step, then the estimates after each step of the window.
            noises: The noise of each step.

        Returns:
            The improved states; the first one is unchanged, and the second one is exact.
        """
        samples = [as_dtype(state, self.dtype) for state in states[:-1]]
        improved = [states[0]]
        for i, output in enumerate(self._model_outputs(first, samples)):
            c = self.coefficients[first + i]
            x_next, _ = apply_step(
                c,
                samples[i] if steps_from_rounded_sample(c) else states[i],
                output,
                process_x0=self.scheduler.process_x0,
                use_clipped_model_output=self.use_clipped_model_output,
                noise=noises[i],
            )
            improved.append(x_next + (improved[i] - states[i]) if i else x_next)
        return improved

    def _model_outputs(self, first: int, samples: list[Tensor]) -> Sequence[ModelOutput]:
        """Call the model on all samples as one batch, and split its output."""
        timesteps = self.scheduler.timesteps
        if self.sequential:
            return [checked_output(self.model(samples[0], timesteps[first]), samples[0])]
        batch, rows = torch.cat(samples), len(samples[0])
        t = timesteps[first : first + len(samples)].repeat_interleave(rows)
        output = checked_output(self.model(batch, t), batch)
        if isinstance(output, CFGPlusPlus):
            return [CFGPlusPlus(*pair) for pair in zip(*(torch.split(tensor, rows) for tensor in output), strict=True)]
        return torch.split(output.tensor() if isinstance(output, Guided) else output, rows)


def _slide_window(
    picard: _PicardIteration, x: Tensor, window: int, tolerance: float, callback: ProgressCallback | None
) -> ParallelSample:
    """Iterate, and move the window past the steps that have converged, until it reaches the end of the plan."""
    steps, done, calls, evaluations = len(picard.coefficients), 0, 0, 0
    states = [x.to(working_dtype(x.dtype), copy=True)] * (window + 1)
    noises = [picard.draw_noise(i) for i in range(window)]
    while done < steps:
        width = len(noises)
        improved = picard(done, states[: width + 1], noises)
        calls, evaluations = calls + 1, evaluations + width
        converged = 1 + _count_converged(improved[2:], states[2 : width + 1], tolerance)  # the first step is exact
        entering = range(done + width, min(done + converged + window, steps))
        done += converged
        states = improved[converged:] + [improved[-1]] * len(entering)
        noises = noises[converged:] + [picard.draw_noise(i) for i in entering]
        if callback is not None:
            callback(done, steps)
    return ParallelSample(as_dtype(states[0], x.dtype), calls, evaluations)


def _count_converged(improved: list[Tensor], before: list[Tensor], tolerance: float) -> int:
    """The length of the longest prefix of states in which no image has changed by more than the tolerance."""
    if not improved:
        return 0
    changes = torch.stack(
        [(new - old).reshape(len(new), -1).square().mean(1).amax() for new, old in zip(improved, before, strict=True)]
    )
    return int((changes.sqrt() <= tolerance).long().cumprod(0).sum())
