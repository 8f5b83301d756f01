"""Sampling parallel in time: many steps of one run in one model call, by fixed-point iteration over a window.

ParaDiGMS (Shih et al. 2023, 2305.16317, equation 6). A run is the solution of ``x[i + 1] = step_i(x[i])`` for all i. A
window of guesses is improved at once: the model is called on all of them as one batch, and the changes of each step are
summed up (Picard iteration)::

    new[i + 1] = new[i] + (step_i(old[i]) - old[i]) = step_i(old[i]) + (new[i] - old[i])

Written the second way, the first step of the window is exact, and a window of one step is the sequential run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_integer, check_number
from ..noise.keyed import KeyedStep
from ..noise.source import Generators, NoiseSource, noise_source
from ..precision import as_dtype, working_dtype
from ..scheduler.forward import DDIMScheduler
from ..step.apply import apply_step
from ..step.checks import eta_of_each_step
from ..step.equations import Eta, StepCoefficients
from ..step.half_precision import steps_from_rounded_sample

__all__ = ["ParallelSample", "sample_parallel"]

Model = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ParallelSample:
    """What a parallel run gives.

    Attributes:
        sample: the last sample, shape ``(B, ...)``, in the dtype of the start.
        model_calls: how many times the model was called, one after the other; a sequential run needs one per step.
        evaluations: how many steps those calls worked on altogether: the work, in steps of the whole batch.
    """

    sample: Tensor
    model_calls: int
    evaluations: int


def sample_parallel(
    model: Model,
    x: Tensor,
    scheduler: DDIMScheduler,
    *,
    window: int,
    tolerance: float = 1e-3,
    eta: Eta | Sequence[Eta] = 0.0,
    seed: int | None = None,
    generator: Generators | None = None,
    variance_noise: Tensor | None = None,
    use_clipped_model_output: bool = False,
    image_indices: Sequence[int] | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> ParallelSample:
    """Run the scheduler's plan with many steps in one model call.

    Args:
        model: ``model(x_t, t)`` with ``x_t`` of shape ``(n * B, ...)`` and ``t`` of shape ``(n * B,)``, the timestep of
            each row; n is at most ``window``. With ``window=1``, called as :func:`ddim.sample` calls it.
        x: the noisy start, shape ``(B, ...)``; not modified.
        scheduler: with its plan set.
        window: how many steps to work on at once, at least 1; 1 is the sequential run, bit for bit.
        tolerance: a step is done when a further iteration changes every image by less than this (root mean square, in
            units of the sample). 0 gives the sequential run exactly, as far as the model gives each row of a batch the
            same bits as alone.
        eta: as for :func:`ddim.sample`, as all arguments below; noise is drawn once per step, before the iteration.
        seed: of the keyed step noise.
        generator: draws the step noise instead.
        variance_noise: the step noise itself, shape ``(S, B, ...)``.
        use_clipped_model_output: derive epsilon again from the clipped x_0.
        image_indices: which image of the run each row is.
        callback: ``callback(done, steps)`` after each model call.

    Raises:
        DDIMError: before the first model call, for arguments that do not fit the plan.
    """
    steps = len(scheduler.plan)
    window = min(check_integer("window", window, 1), steps)
    tolerance = check_number("tolerance", tolerance, 0.0)
    etas = eta_of_each_step(eta, steps)
    source = noise_source(
        x,
        steps,
        unseeded=scheduler.unseeded_key(),
        first=scheduler.plan.first,
        seed=seed,
        generator=generator,
        variance_noise=variance_noise,
        image_indices=image_indices,
        unused_draws=scheduler.unused_draws(etas),
    )
    coefficients = [scheduler.coefficients(i, value) for i, value in enumerate(etas)]
    run = _Window(model, scheduler, coefficients, source, use_clipped_model_output, like=x, alone=window == 1)
    done, calls, evaluations = 0, 0, 0
    states = [x.to(working_dtype(x.dtype), copy=True)] * (window + 1)
    noises = [run.noise(i) for i in range(window)]
    while done < steps:
        width = len(noises)
        improved = run.iterate(done, states[: width + 1], noises)
        calls, evaluations = calls + 1, evaluations + width
        accepted = 1 + _count_of_converged(improved[2:], states[2 : width + 1], tolerance)
        done += accepted
        entering = range(done + width - accepted, min(done + window, steps))
        states = improved[accepted:] + [improved[-1]] * len(entering)
        noises = noises[accepted:] + [run.noise(i) for i in entering]
        if callback is not None:
            callback(done, steps)
    return ParallelSample(states[0].to(x.dtype), calls, evaluations)


@dataclass(frozen=True)
class _Window:
    """What all iterations work with."""

    model: Model
    scheduler: DDIMScheduler
    steps: list[StepCoefficients]
    source: NoiseSource
    rederive: bool
    like: Tensor
    alone: bool

    def noise(self, index: int) -> Tensor | None:
        """The noise of a step, drawn once."""
        z = self.source.at(index, float(self.steps[index].sigma))
        return z.draw() if isinstance(z, KeyedStep) else z

    def iterate(self, first: int, states: list[Tensor], noises: list[Tensor | None]) -> list[Tensor]:
        """One iteration over the steps from ``first``: improved states, the first of them exact as it was."""
        seen = [as_dtype(state, self.like.dtype) for state in states[:-1]]
        outputs = self._outputs(first, seen)
        improved = [states[0]]
        for i, (state, output, noise) in enumerate(zip(states[:-1], outputs, noises, strict=True)):
            step = self.steps[first + i]
            x_next, _ = apply_step(
                step,
                seen[i] if steps_from_rounded_sample(step) else state,
                output,
                process_x0=self.scheduler.process_x0,
                use_clipped_model_output=self.rederive,
                noise=noise,
            )
            improved.append(x_next + (improved[i] - state) if i else x_next)
        return improved

    def _outputs(self, first: int, seen: list[Tensor]) -> Sequence[Tensor]:
        if self.alone:
            return [self.model(seen[0], self.scheduler.timesteps[first])]
        rows = len(seen[0])
        timesteps = self.scheduler.timesteps[first : first + len(seen)].repeat_interleave(rows)
        return torch.split(self.model(torch.cat(seen), timesteps), rows)


def _count_of_converged(improved: list[Tensor], before: list[Tensor], tolerance: float) -> int:
    """How many states, from the first on, have changed by no more than the tolerance in every image."""
    if not improved:
        return 0
    changes = torch.stack(
        [(new - old).flatten(1).square().mean(1).amax() for new, old in zip(improved, before, strict=True)]
    )
    return int((changes.sqrt() <= tolerance).long().cumprod(0).sum())
