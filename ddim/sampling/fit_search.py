"""The search of ``fit_timesteps``: the teacher, the two methods and the polishing.

A path is the list of the timesteps of a run and, last, its end; all paths of one search share their first timestep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import DDIMError
from ..guidance.cfg import CFGPlusPlus, Guided, ModelOutput
from ..precision import weighted_sum, working_dtype
from ..schedule.timesteps import END
from ..scheduler.forward import ForwardScheduler
from ..step.apply import apply_step, predicted_x0
from ..step.coefficients import coefficients_between
from ..step.equations import StepCoefficients
from ..step.half_precision import steps_from_rounded_sample
from ..step.levels import Level
from .loop import checked_output

__all__ = ["Model", "ProgressCallback", "Run", "Trials", "best_sums", "greedy", "polished", "solve"]

Model = Callable[[Tensor, Tensor], ModelOutput]
ProgressCallback = Callable[[int, int], None]


class Trials:
    """What all runs of one search share: the model, the steps between any two timesteps, the count of calls.

    Args:
        model: as for :func:`ddim.sample`.
        x: the start of every run.
        scheduler: whose levels and prediction type count.
        total: number of model calls of the whole search.
        callback: of the progress, or None.
    """

    def __init__(
        self, model: Model, x: Tensor, scheduler: ForwardScheduler, total: int, callback: ProgressCallback | None
    ) -> None:
        self._model, self._dtype, self._total, self._callback = model, x.dtype, total, callback
        self.start = x.to(working_dtype(x.dtype), copy=True)
        self._noise, self._process_x0 = scheduler.noise_schedule, scheduler.process_x0
        self._prediction_type = scheduler.settings.prediction_type
        times = self._noise.table.times
        called_with = torch.arange(len(self._noise)) if times is None else times.float()
        self._times = called_with.to(scheduler.timesteps.device)
        self._coefficients: dict[tuple[int, int], StepCoefficients] = {}
        self._done = 0

    def coefficients(self, t: int, t_next: int) -> StepCoefficients:
        """Of the step between two timesteps; raises a :class:`DDIMError` where there is none."""
        found = self._coefficients.get((t, t_next))
        if found is None:
            found = coefficients_between(self.level(t), self.level(t_next), self._prediction_type)
            self._coefficients[t, t_next] = found
        return found

    def level(self, t: int) -> Level:
        """The noise level of a timestep or of the end."""
        return self._noise.level_at(t)

    def output(self, state: Tensor, t: int) -> Tensor:
        """Call the model."""
        output = checked_output(self._model(state.to(self._dtype, copy=True), self._times[t]), state)
        self.count(1)
        if isinstance(output, CFGPlusPlus):
            raise DDIMError(
                "the model must return one output to fit timesteps to, got the two of guidance mode 'cfg++', whose "
                "steps have no limit that more steps come nearer to; use mode 'cfg'"
            )
        # A copy, since a model may write its next output over this one.
        return output.tensor() if isinstance(output, Guided) else output.clone()

    def count(self, calls: int) -> None:
        """Report calls that were made, or turned out not to be needed."""
        self._done += calls
        if calls and self._callback is not None:
            self._callback(self._done, self._total)

    def step(self, state: Tensor, output: Tensor, t: int, t_next: int) -> Tensor:
        """One step of DDIM at eta 0, as :func:`ddim.sample` takes it."""
        c = self.coefficients(t, t_next)
        base = state.to(self._dtype) if steps_from_rounded_sample(c) else state
        return apply_step(c, base, output, process_x0=self._process_x0)[0]

    def predictions(self, state: Tensor, output: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """x_0, processed, and epsilon."""
        c = self.coefficients(t, END)
        return predicted_x0(c, state, output, self._process_x0), weighted_sum(state, output, c.epsilon)


@dataclass
class Run:
    """States at levels of the grid, by the index of the level, and the model's outputs there."""

    states: dict[int, Tensor]
    outputs: dict[int, Tensor] = field(default_factory=dict)


def solve(trials: Trials, levels: Sequence[int]) -> Run:
    """The teacher: a run over the whole grid with steps of second order (Adams-Bashforth over the timestep).

    DDIM holds x_0 and epsilon constant in a step: x_u - x_t = (alpha_u - alpha_t) x_0 + (sigma_u - sigma_t) epsilon.
    Here both go on changing as they did in the step before, which adds half of their change.
    """
    run, before, spacing = Run({0: trials.start}), None, 0
    for i, (t, t_next) in enumerate(pairwise(levels)):
        run.outputs[i] = trials.output(run.states[i], t)
        state = trials.step(run.states[i], run.outputs[i], t, t_next)
        now = trials.predictions(run.states[i], run.outputs[i], t)
        if before is not None:
            half = 0.5 * (t - t_next) / spacing
            for weight, weight_next, value, old in zip(trials.level(t), trials.level(t_next), now, before, strict=True):
                state = state.add(value - old, alpha=half * (weight_next - weight))
        run.states[i + 1], before, spacing = state, now, t - t_next
    _read([_distance(run.states[i + 1], trials.start) for i in range(len(levels) - 1)], levels)
    return run


def greedy(trials: Trials, teacher: Run, levels: Sequence[int], steps: int) -> list[int]:
    """Pei et al. (2503.21774): the best run of s steps to each level goes on from one of those of s - 1 steps."""
    last = len(levels) - 1
    run, origins = Run({0: teacher.states[0]}, {0: teacher.outputs[0]}), []
    for s in range(1, steps + 1):
        targets = range(s, last - steps + s + 1) if s < steps else [last]
        errors = _errors(trials, run, teacher, levels, targets)
        origin = {j: min((errors[i, j], i) for i in run.outputs if i < j)[1] for j in targets}
        origins.append(origin)
        if s < steps:
            states = {j: trials.step(run.states[i], run.outputs[i], levels[i], levels[j]) for j, i in origin.items()}
            run = Run(states)
            for j, state in states.items():
                run.outputs[j] = trials.output(state, levels[j])
    return _path(origins, levels)


def best_sums(trials: Trials, teacher: Run, levels: Sequence[int], steps: int) -> list[int]:
    """GITS (2405.11326): the path of S steps whose errors, each from the teacher's own state, add up to the least."""
    last = len(levels) - 1
    errors = _errors(trials, teacher, teacher, levels, range(1, last + 1))
    sums, origins = {0: 0.0}, []
    for s in range(1, steps + 1):
        targets = range(s, last - steps + s + 1) if s < steps else [last]
        best = {j: min((sums[i] + errors[i, j], i) for i in sums if i < j) for j in targets}
        sums = {j: total for j, (total, _) in best.items()}
        origins.append({j: i for j, (_, i) in best.items()})
    return _path(origins, levels)


def _errors(
    trials: Trials, run: Run, teacher: Run, levels: Sequence[int], targets: Iterable[int]
) -> dict[tuple[int, int], float]:
    """How far a step from each state of a run to each target ends from the teacher, by their indices."""
    pairs = [(i, j) for j in targets for i in run.outputs if i < j]
    distances = [
        _distance(trials.step(run.states[i], run.outputs[i], levels[i], levels[j]), teacher.states[j]) for i, j in pairs
    ]
    return dict(zip(pairs, _read(distances, [levels[i] for i, _ in pairs]), strict=True))


def _path(origins: list[dict[int, int]], levels: Sequence[int]) -> list[int]:
    """The timesteps of the path that ends at the last level, given where each step of a path came from."""
    indices = [len(levels) - 1]
    for origin in reversed(origins):
        indices.append(origin[indices[-1]])
    return [levels[i] for i in reversed(indices)]


def _distance(state: Tensor, other: Tensor) -> Tensor:
    """Root mean square over the batch, 0-d, on the device."""
    return (state - other).square().mean().sqrt()


def _read(distances: list[Tensor], timesteps: Sequence[int]) -> list[float]:
    """Distances as floats, read from the device at once.

    Args:
        distances: each of a state after a model call.
        timesteps: of these calls.

    Raises:
        DDIMError: if one is not finite.
    """
    values: list[float] = torch.stack(distances).tolist()
    for value, t in zip(values, timesteps, strict=False):
        if not math.isfinite(value):
            raise DDIMError(
                f"the model's output must be finite, got NaN or infinity at timestep {t}; try float32, or another start"
            )
    return values


# -- runs along whole paths -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Followed:
    """A run along a path: the state and the output at each timestep, and how far it ends from the teacher."""

    path: list[int]
    states: list[Tensor]
    outputs: list[Tensor]
    error: float


def polished(trials: Trials, teacher: Run, paths: Iterable[list[int]], fractions: Sequence[float]) -> list[int]:
    """The best of some paths, and then better: each timestep in turn moves towards its neighbours.

    A move is kept if the run ends nearer to the teacher. Each path takes S - 1 model calls, each fraction S (S - 1).

    Args:
        trials: of this search.
        teacher: as :func:`solve` gives it.
        paths: to begin with.
        fractions: of the gap to the neighbour, by which timesteps move; one pass for each.
    """
    end = teacher.states[len(teacher.outputs)]
    begun = _Followed([], [teacher.states[0]], [teacher.outputs[0]], math.inf)
    best = min((_follow(trials, path, begun, 1, end) for path in paths), key=lambda run: run.error)
    for fraction in fractions:
        for i in range(1, len(best.path) - 1):
            for neighbour in (best.path[i - 1], best.path[i + 1]):
                moved = list(best.path)
                moved[i] += int((neighbour - moved[i]) * fraction)
                if moved[i] == best.path[i]:
                    trials.count(len(best.outputs) - i)
                    continue
                best = min(best, _follow(trials, moved, best, i, end), key=lambda run: run.error)
    return best.path


def _follow(trials: Trials, path: list[int], known: _Followed, kept: int, end: Tensor) -> _Followed:
    """Run along a path whose first ``kept`` timesteps are those of a run that is known."""
    states, outputs = known.states[:kept], known.outputs[:kept]
    for t_before, t in pairwise(path[kept - 1 : -1]):
        states.append(trials.step(states[-1], outputs[-1], t_before, t))
        outputs.append(trials.output(states[-1], t))
    last = trials.step(states[-1], outputs[-1], path[-2], path[-1])
    return _Followed(path, states, outputs, _read([_distance(last, end)], path[-2:])[0])
