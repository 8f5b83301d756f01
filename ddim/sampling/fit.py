"""Fitted steps: which S timesteps of a model end nearest to what many steps of it give.

The teacher is a DDIM run over a grid of N levels. ``"accurate"`` (Pei et al. 2025, 2503.21774) follows the best runs of
1, 2, ... steps to every level of the grid, and calls the model at each of their states. ``"fast"`` (GITS, Chen et al.
2024, 2405.11326) calls it no more: a step from one of the teacher's states to the level of another has a known error,
and the plan is the path with the least sum of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..arguments import check_function
from ..errors import DDIMError, check_choice, check_integer
from ..guidance.cfg import Guided
from ..precision import weighted_sum, working_dtype
from ..schedule.betas import check_usable
from ..schedule.timesteps import END, TimestepPlan
from ..scheduler.forward import ForwardScheduler
from ..step.apply import apply_step, predicted_x0
from ..step.coefficients import coefficients_between
from ..step.equations import StepCoefficients
from ..step.half_precision import steps_from_rounded_sample
from ..step.levels import Level
from .loop import check_run, checked_output

__all__ = ["FIT_METHODS", "fit_timesteps"]

FIT_METHODS: tuple[str, ...] = ("accurate", "fast")

# Levels of the grid are evenly spaced in (t / T)^(1 / 1.5): near clean data the noise falls faster than the timestep.
_DENSITY = 1.5

Model = Callable[[Tensor, Tensor], Tensor | Guided]
ProgressCallback = Callable[[int, int], None]


@torch.no_grad()
def fit_timesteps(
    model: Model,
    x: Tensor,
    scheduler: ForwardScheduler,
    steps: int,
    *,
    grid: int = 60,
    method: str = "accurate",
    callback: ProgressCallback | None = None,
) -> TimestepPlan:
    """Choose the timesteps with which DDIM (eta 0) ends nearest to a run of ``grid`` steps from the same start.

    Args:
        model: as for :func:`ddim.sample`; guidance belongs inside.
        x: noisy starts at the first level of the plan, shape ``(B, ...)``; not modified. The plan fits best what these
            images have in common.
        scheduler: with its plan set, of which the first timestep and the end count; not modified. A
            :class:`DDIMFlowScheduler` offers the levels of its run: before ``set_timesteps``, those of training.
        steps: S, in 1..grid.
        grid: N, number of levels from which they are chosen, from the first timestep to the end.
        method: ``"accurate"``, N + (S - 1) (N - S + 1) model calls; or ``"fast"``, N model calls.
        callback: ``callback(done, total)`` after each model call; an exception in it stops the search.

    Returns:
        The plan, for ``set_plan``. The same arguments give the same plan.

    Raises:
        DDIMError: before the first model call, for arguments that do not fit together; or where the model gives NaN.

    The states and model outputs of N levels are kept: up to 4 N times the memory of ``x`` in float32.
    """
    check_run(model, x, scheduler)
    check_choice("method", method, FIT_METHODS)
    if callback is not None:
        check_function("callback", callback)
    if not x.numel():
        raise DDIMError(f"x must hold at least one image to fit to, got the shape {tuple(x.shape)}")
    levels = _grid(scheduler, grid)
    steps = check_integer("steps", steps, 1, len(levels) - 1, why=" (the grid)")
    check_usable(scheduler.noise_schedule.levels, torch.tensor(levels[:1]))
    trials = _Trials(model, x.dtype, scheduler, len(levels) - 1 + _further_calls(method, steps, levels), callback)
    trials.coefficients(levels[0], levels[1])  # refuses what no step can be taken from
    start = x.to(working_dtype(x.dtype), copy=True)
    teacher = _teacher(trials, start, levels)
    path = _SEARCHES[method](trials, teacher, levels, steps)
    return TimestepPlan(tuple((levels[i], levels[j]) for i, j in zip(path[:-1], path[1:], strict=True)))


def _grid(scheduler: ForwardScheduler, count: int) -> list[int]:
    """N timesteps and the end, over those from the plan's first to its end, denser towards clean data."""
    first, end = scheduler.plan.timesteps[0], max(scheduler.plan.pairs[-1][1], END)
    available = first - end
    count = check_integer("grid", count, 1, available, why=f" (the levels from timestep {first} to the plan's end)")
    rising = [end]
    for i in range(1, count + 1):
        even = end + round(available * (i / count) ** _DENSITY)
        rising.append(min(max(even, rising[-1] + 1), first - (count - i)))
    return rising[::-1]


def _further_calls(method: str, steps: int, levels: list[int]) -> int:
    return 0 if method == "fast" else (steps - 1) * (len(levels) - steps)


@dataclass
class _Trials:
    """What one search calls and steps."""

    model: Model
    dtype: torch.dtype
    scheduler: ForwardScheduler
    total: int
    callback: ProgressCallback | None
    done: int = 0
    times: Tensor = field(init=False)
    _coefficients: dict[tuple[int, int], StepCoefficients] = field(default_factory=dict)

    def __post_init__(self) -> None:
        times = self.scheduler.noise_schedule.table.times
        called_with = torch.arange(len(self.scheduler.noise_schedule)) if times is None else times.float()
        self.times = called_with.to(self.scheduler.timesteps.device)

    def coefficients(self, t: int, t_next: int) -> StepCoefficients:
        found = self._coefficients.get((t, t_next))
        if found is None:
            found = coefficients_between(self.level(t), self.level(t_next), self.scheduler.settings.prediction_type)
            self._coefficients[t, t_next] = found
        return found

    def level(self, t: int) -> Level:
        return self.scheduler.noise_schedule.level_at(t)

    def predictions(self, state: Tensor, output: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """x_0, processed, and epsilon."""
        c = self.coefficients(t, END)
        return predicted_x0(c, state, output, self.scheduler.process_x0), weighted_sum(state, output, c.epsilon)

    def output(self, state: Tensor, t: int) -> Tensor:
        """Call the model."""
        output = checked_output(self.model(state.to(self.dtype, copy=True), self.times[t]), state)
        self.done += 1
        if self.callback is not None:
            self.callback(self.done, self.total)
        return output.tensor() if isinstance(output, Guided) else output

    def step(self, state: Tensor, output: Tensor, t: int, t_next: int) -> Tensor:
        """One step of DDIM."""
        c = self.coefficients(t, t_next)
        base = state.to(self.dtype) if steps_from_rounded_sample(c) else state
        return apply_step(c, base, output, process_x0=self.scheduler.process_x0)[0]


@dataclass(frozen=True)
class _Run:
    """States at levels of the grid by their index, and the model's outputs there."""

    states: dict[int, Tensor]
    outputs: dict[int, Tensor]


def _teacher(trials: _Trials, start: Tensor, levels: Sequence[int]) -> _Run:
    """The run over the whole grid, with a second-order step (Adams-Bashforth over the timestep).

    DDIM holds x_0 and epsilon constant in a step, x_u - x_t = (alpha_u - alpha_t) x_0 + (sigma_u - sigma_t) epsilon;
    here they go on changing as they did in the step before.
    """
    run, before = _Run({0: start}, {}), None
    for i, (t, t_next) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        output = run.outputs[i] = trials.output(run.states[i], t)
        state = trials.step(run.states[i], output, t, t_next)
        now = trials.predictions(run.states[i], output, t)
        if before is not None:
            half = 0.5 * (t - t_next) / (levels[i - 1] - t)
            changes = zip(trials.level(t), trials.level(t_next), now, before, strict=True)
            for weight, weight_next, value, old in changes:
                state = state.add(value - old, alpha=half * (weight_next - weight))
        run.states[i + 1], before = state, now
    _read([_distance(state, None) for state in list(run.states.values())[1:]], levels)
    return run


def _distance(state: Tensor, other: Tensor | None) -> Tensor:
    """Root mean square over the batch, 0-d, on the device."""
    return (state if other is None else state - other).square().mean().sqrt()


def _read(distances: list[Tensor], timesteps: Sequence[int]) -> list[float]:
    """Distances as floats, read from the device at once.

    Raises:
        DDIMError: if one is not finite, with the timestep of the model call before it.
    """
    values: list[float] = torch.stack(distances).tolist()
    for value, t in zip(values, timesteps, strict=False):
        if not abs(value) < float("inf"):
            raise DDIMError(f"the model's output must be finite, got NaN or infinity at timestep {t}")
    return values


def _errors(
    trials: _Trials, run: _Run, teacher: _Run, levels: list[int], targets: Sequence[int]
) -> dict[tuple[int, int], float]:
    """How far a step from each state of a run to each target ends from the teacher."""
    pairs = [(i, j) for j in targets for i in run.outputs if i < j]
    distances = [
        _distance(trials.step(run.states[i], run.outputs[i], levels[i], levels[j]), teacher.states[j]) for i, j in pairs
    ]
    return dict(zip(pairs, _read(distances, [levels[i] for i, _ in pairs]), strict=True))


def _accurate(trials: _Trials, teacher: _Run, levels: list[int], steps: int) -> list[int]:
    """Pei et al. (2503.21774): the best runs of s steps to each level go on from those of s - 1 steps."""
    last, run, origins = len(levels) - 1, _Run({0: teacher.states[0]}, {0: teacher.outputs[0]}), []
    for s in range(1, steps + 1):
        targets = range(s, last - steps + s + 1) if s < steps else [last]
        errors = _errors(trials, run, teacher, levels, targets)
        origin = {j: min((i for i in run.outputs if i < j), key=lambda i, j=j: errors[i, j]) for j in targets}
        origins.append(origin)
        if s < steps:
            states = {
                j: trials.step(run.states[i], run.outputs[i], levels[i], levels[j]) for j, i in origin.items()
            }
            run = _Run(states, {})
            for j, state in states.items():
                run.outputs[j] = trials.output(state, levels[j])
    return _trace_back(origins, last)


def _fast(trials: _Trials, teacher: _Run, levels: list[int], steps: int) -> list[int]:
    """GITS (2405.11326): the path of S steps whose errors, each from the teacher's own state, add up to the least."""
    last = len(levels) - 1
    errors = _errors(trials, teacher, teacher, levels, range(1, last + 1))
    sums, origins = {0: 0.0}, []
    for s in range(1, steps + 1):
        targets = range(s, last - steps + s + 1) if s < steps else [last]
        origin = {j: min((i for i in sums if i < j), key=lambda i, j=j: sums[i] + errors[i, j]) for j in targets}
        sums = {j: sums[i] + errors[i, j] for j, i in origin.items()}
        origins.append(origin)
    return _trace_back(origins, last)


def _trace_back(origins: list[dict[int, int]], last: int) -> list[int]:
    path = [last]
    for origin in reversed(origins):
        path.append(origin[path[-1]])
    return path[::-1]


_SEARCHES: dict[str, Callable[[_Trials, _Run, list[int], int], list[int]]] = {"accurate": _accurate, "fast": _fast}
