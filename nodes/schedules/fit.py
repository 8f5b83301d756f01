"""DDIM Fit Steps: the timesteps with which few steps of one MODEL end nearest to what many give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from ...ddim import (
    FIT_METHODS,
    Schedule,
    TimestepPlan,
    fit_timesteps,
    sample,
)
from ..backend import Advance, Run, SamplingRequest, check_kind, current, guided_x0, schedule_sigmas, timestep_reader
from ..editor import fit_report
from ..inputs import DDIM_SCHEDULE, LATENT, SIGMAS, Input, InputTypes, choice, inputs, integer, socket
from ..values import Conditioning, Latent, Model
from .planning import check_choices, comparable_plans, has_levels_of_model

__all__ = ["DDIMFitSteps"]

FITTED = "fitted"


class DDIMFitSteps:
    """Fitting: a schedule made for one MODEL, prompt, cfg and size."""

    CATEGORY = "DDIM/schedules"
    DESCRIPTION = (
        "Finds the timesteps that suit one MODEL, prompt, cfg and size: few steps then end as near to a long run as "
        "about twice as many evenly spaced ones. It takes as long as sampling some pictures with many steps. Copy the "
        "fitted list into timesteps of DDIM Schedule, and it need not be fitted again."
    )
    SEARCH_ALIASES = [
        "fit timesteps",
        "optimal steps",
        "optimalsteps",
        "gits",
        "align your steps",
        "ays",
        "few steps",
        "custom timesteps",
        "ddim",
        "sigmas",
        "scheduler",
        "faster",
    ]
    RETURN_TYPES = (DDIM_SCHEDULE, SIGMAS)
    RETURN_NAMES = ("schedule", "sigmas")
    OUTPUT_TOOLTIPS = (
        "The fitted schedule, for DDIM KSampler and the other DDIM nodes.",
        "The same steps for SamplerCustom and similar nodes: one sigma per step, and the last.",
    )
    FUNCTION = "fit"
    HAS_INTERMEDIATE_OUTPUT = True  # its report is shown again if a later run takes the node from the cache

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {
            "required": {
                **inputs("model", "positive", "negative"),
                "latent_image": socket(
                    LATENT,
                    "The size to fit to, and where to start, as in DDIM KSampler. Only the first image of a batch is "
                    "used.",
                ),
                "schedule": socket(
                    DDIM_SCHEDULE,
                    "The noise levels, and where to start and end; from DDIM Schedule. Its number of steps and its "
                    "spacing do not matter.",
                ),
            },
            "optional": {
                "steps": integer(8, 1, 1000, "How many steps the fitted schedule has; at most grid."),
                **inputs("cfg"),
                "seed": _seed(),
                **inputs("grid", "images"),
                "method": choice(
                    FIT_METHODS,
                    FIT_METHODS[0],
                    "accurate: tries every step it considers, about steps x grid model calls. fast: decides from the "
                    "long run alone, grid model calls, with a somewhat larger error.",
                ),
            },
        }

    def fit(
        self,
        model: Model,
        positive: Conditioning,
        negative: Conditioning,
        latent_image: Latent,
        schedule: Schedule,
        steps: int = 8,
        cfg: float = 7.5,
        seed: int = 0,
        grid: int = 60,
        images: int = 4,
        method: str = FIT_METHODS[0],
    ) -> dict[str, Any]:
        backend = current()
        facts = backend.model_facts(model)
        check_kind(facts.kind, schedule)
        check_choices(schedule, steps, grid)
        task = _Task(schedule, steps, grid, method, comparable_plans(schedule, steps))
        bar = _Bar(backend.progress_bar(model), compared=2 * (1 + len(task.others)) * steps + grid)
        latent = _copies_of_first(latent_image, images)
        request = SamplingRequest(model, positive, negative, latent, schedule, cfg=cfg, seed=seed)
        found: list[_Comparison] = []
        backend.run(request, partial(_search, task=task, bar=bar, keep=found.append))
        others = replace(request, seed=(seed + 1) % 2**64)
        backend.run(others, partial(_compare_again, task=task, bar=bar, plans=found[0].plans, keep=found.append))
        fitted = replace(schedule, plan=found[0].plans[FITTED])
        report = fit_report(
            fitted,
            found[0].plans,
            [each.errors for each in found],
            images=images,
            grid=grid,
            levels_of_model=has_levels_of_model(fitted, facts),
        )
        shown = {"ddim_fit": [report], "text": [report["list"], _summary(report)]}
        return {"ui": shown, "result": (fitted, schedule_sigmas(fitted, facts.sigma_table(fitted)))}


def _seed() -> Input:
    """Define a seed that stays as it is from run to run: each new one would fit again."""
    kind, options = inputs("seed")["seed"]
    tooltip = "Seed of the noises that the steps are fitted to. The error is measured on other noises, from seed + 1."
    return kind, {**options, "tooltip": tooltip, "control_after_generate": False}


def _copies_of_first(latent: Latent, count: int) -> Latent:
    """Repeat the first image of a LATENT; as images of a batch, each copy gets an initial noise of its own."""
    given, mask = latent.get("samples"), latent.get("noise_mask")
    if not isinstance(given, Tensor) or getattr(given, "is_nested", False):
        return latent  # SamplingRequest refuses it
    first = {**latent, "samples": given[:1].repeat(count, *[1] * (given.ndim - 1))}
    if mask is not None and mask.ndim > 2 and (given.ndim < 5 or mask.ndim == 5):  # of video, the others hold frames
        first["noise_mask"] = mask[:1]
    indices = latent.get("batch_index")
    if indices is not None and len(indices):  # SamplingRequest refuses a list without one
        start = int(indices[0])
        first["batch_index"] = list(range(start, start + count))
    return first


@dataclass(frozen=True)
class _Task:
    """What is fitted.

    Attributes:
        schedule: Its levels, first timestep and end.
        steps: S of the fitted plan.
        grid: Steps of the long run that is imitated.
        method: One of ``FIT_METHODS``.
        others: Plans of S steps to compare with, by name.
    """

    schedule: Schedule
    steps: int
    grid: int
    method: str
    others: Mapping[str, TimestepPlan]


@dataclass(eq=False)
class _Bar:
    """One progress bar for the model calls of the search and of the comparison.

    Attributes:
        advance: Of the host.
        compared: Calls of the comparison.
        before: Calls of the parts that are done.
        total: All calls; known after the first.
    """

    advance: Advance
    compared: int
    before: int = 0
    total: int = 0

    def show(self, done: int, x0: Tensor) -> None:
        """Report ``done`` calls of this part. Raises if the user cancelled."""
        self.advance(self.before + done, self.total, x0)


class _Comparison(NamedTuple):
    """Plans by name, and root mean square distances of their last samples from the end of the long run."""

    plans: Mapping[str, TimestepPlan]
    errors: Mapping[str, float]


def _search(run: Run, task: _Task, bar: _Bar, keep: Callable[[_Comparison], None]) -> Tensor:
    """Fit to the noises of a run, and compare on them."""

    def show(done: int, total: int, x0: Tensor) -> None:
        bar.total = total + bar.compared
        bar.show(done, x0)

    plan, end = _fitted(run, task, task.steps, task.method, show)
    bar.before = bar.total - bar.compared
    plans = {FITTED: TimestepPlan(plan.pairs, task.schedule.plan.first), **task.others}
    keep(_Comparison(plans, _errors(run, plans, end, bar)))
    return end


def _compare_again(
    run: Run, task: _Task, bar: _Bar, plans: Mapping[str, TimestepPlan], keep: Callable[[_Comparison], None]
) -> Tensor:
    """Compare on the noises of a run to which nothing was fitted."""
    # One step leaves no choice: what is of use here is the long run, with which every search begins.
    _, end = _fitted(run, task, 1, "accurate", lambda done, total, x0: bar.show(done, x0))
    bar.before += task.grid
    keep(_Comparison(plans, _errors(run, plans, end, bar)))
    return end


def _fitted(
    run: Run, task: _Task, steps: int, method: str, show: Callable[[int, int, Tensor], None]
) -> tuple[TimestepPlan, Tensor]:
    """Return a fitted plan, and the sample where the long run ends: its last step is taken as a step of DDIM.

    Args:
        run: With the noises to fit to.
        task: The task.
        steps: Of the plan.
        method: One of ``FIT_METHODS``.
        show: ``show(done, total, x_0)`` after each model call.
    """
    last: list[tuple[Tensor, Tensor, Tensor]] = []
    last_of_long_run: list[tuple[Tensor, Tensor, Tensor]] = []

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = guided_x0(run.denoise(x_t, t))
        last[:] = [(x_t, t, x0)]
        return x0

    def after_call(done: int, total: int) -> None:
        if done == task.grid:
            last_of_long_run[:] = last
        show(done, total, last[0][2])

    scheduler = run.schedule.scheduler()
    plan = fit_timesteps(model, run.start, scheduler, steps, grid=task.grid, method=method, callback=after_call)
    ((x_t, t, x0),) = last_of_long_run
    pair = (timestep_reader(run.schedule)(t), plan.pairs[-1][1])
    last_step = replace(run.schedule, plan=TimestepPlan((pair,)))
    return plan, sample(lambda x, t: x0, x_t, last_step.scheduler())


def _errors(run: Run, plans: Mapping[str, TimestepPlan], end: Tensor, bar: _Bar) -> dict[str, float]:
    errors = {}
    for name, plan in plans.items():
        scheduler = replace(run.schedule, plan=plan).scheduler()
        sampled = sample(run.denoise, run.start, scheduler, callback=lambda i, t, x_t, x0: bar.show(i + 1, x0))
        bar.before += len(plan)
        errors[name] = float((sampled - end).float().square().mean().sqrt())
    return errors


def _summary(report: Mapping[str, Any]) -> str:
    errors = {each["name"]: each["error"] for each in report["schedules"]}
    named = ", ".join(f"{name} {'not finite' if error is None else f'{error:.3g}'}" for name, error in errors.items())
    return f"{report['steps']} steps, error on other noises: {named}"
