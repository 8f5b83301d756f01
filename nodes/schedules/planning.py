"""From the settings of a schedule node to a Schedule, and a description of it in words."""

from __future__ import annotations

import re
from dataclasses import replace

from ...ddim import (
    END,
    FLOW_SPACINGS,
    VARIANCE_PRESERVING,
    DDIMError,
    DDIMFlowScheduler,
    FlowConfig,
    Schedule,
    SchedulerConfig,
    SigmaConfig,
    TimestepPlan,
    betas_from_alpha_bar,
    make_plan,
    make_schedule,
)
from ..backend import ModelFacts, check_levels, check_output, left_to_model, planned_output
from ..values import FROM_MODEL

__all__ = [
    "check_choices",
    "comparable_plans",
    "describe",
    "has_levels_of_model",
    "parse_timesteps",
    "plan_flow",
    "plan_of_model",
    "plan_part",
    "plan_steps",
    "plan_timesteps",
    "settle_output",
    "with_model_levels",
]

# What a schedule node has where nothing is chosen: Stable Diffusion's.
SETTINGS = SchedulerConfig(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    timestep_spacing="trailing",
)
AYS = ("ays", "ays_sdxl")
MAX_LISTED = 12  # timesteps listed in a description; of a longer list, half as many


def plan_steps(config: SchedulerConfig | SigmaConfig, steps: int, denoise: float) -> Schedule:
    """Plan a run by its number of steps.

    Args:
        config: The settings.
        steps: How many steps run.
        denoise: In (0, 1]; below 1, the last ``steps`` steps of a plan of ``steps / denoise``, as KSampler counts.

    Raises:
        DDIMError: If the plan would need more steps than there are timesteps.
    """
    total = _steps_of_whole_plan(steps, denoise)
    _check_steps(steps, total, config.num_train_timesteps, denoise)
    return make_schedule(total, config).part(total - steps)


def plan_of_model(facts: ModelFacts, steps: int, timestep_spacing: str, denoise: float) -> Schedule:
    """Plan a run over a MODEL's own levels: what DDIM Schedule gives with the MODEL connected and all else as it comes.

    Args:
        facts: The MODEL's.
        steps: How many steps run.
        timestep_spacing: Which timesteps are visited.
        denoise: As for :func:`plan_steps`.

    Raises:
        DDIMError: As :func:`plan_steps` and :func:`plan_part` do, or if the MODEL predicts epsilon at zero SNR.
    """
    config = with_model_levels(replace(SETTINGS, timestep_spacing=timestep_spacing), facts)
    return settle_output(plan_part(plan_steps(config, steps, denoise), 0, steps), facts)


def plan_flow(config: FlowConfig, steps: int, denoise: float, spacing: str) -> Schedule:
    """Plan a run of a flow model over the sigmas of its diffusers configuration.

    Dynamic shifting needs the size of the image, which a schedule node does not know: it is taken to be the largest,
    ``max_shift``.

    Args:
        config: The settings.
        steps: How many steps run.
        denoise: As for :func:`plan_steps`.
        spacing: A key of :data:`FLOW_SPACINGS`.

    Raises:
        DDIMError: If the plan would need more steps than there are timesteps, or nothing says how to shift.
    """
    if config.use_dynamic_shifting and config.max_shift is None:
        raise DDIMError(
            "this configuration shifts by the size of the image and has no max_shift to start from; give it a "
            "max_shift, or connect the MODEL to DDIM Schedule"
        )
    total, most = _steps_of_whole_plan(steps, denoise), config.num_train_timesteps
    _check_steps(steps, total, most, denoise)
    scheduler = DDIMFlowScheduler.from_settings(config)
    mu = config.max_shift if config.use_dynamic_shifting else None
    scheduler.set_timesteps(total, sigmas=FLOW_SPACINGS[spacing](total, most), mu=mu)
    return Schedule.of(scheduler).part(total - steps)


def _steps_of_whole_plan(steps: int, denoise: float) -> int:
    return int(steps / denoise + 1e-9)


def _check_steps(steps: int, total: int, most: int, denoise: float) -> None:
    if steps > most:
        raise DDIMError(f"steps must be at most {most}, the number of timesteps (num_train_timesteps), got {steps}")
    if most < total:
        raise DDIMError(
            f"denoise {denoise:g} with {steps} steps takes the end of a plan of {total} steps, and there are only "
            f"{most} timesteps; use at most {int(most * denoise)} steps"
        )


def plan_timesteps(config: SchedulerConfig | SigmaConfig, timesteps: list[int], denoise: float) -> Schedule:
    """Plan a run by its timesteps, of which ``denoise`` below 1 keeps only the last share."""
    return make_schedule(len(timesteps), config, timesteps=timesteps).last_fraction(denoise)


def plan_part(schedule: Schedule, start_step: int, end_step: int) -> Schedule:
    """Take a part of a plan and check that it can be run.

    Args:
        schedule: The whole plan.
        start_step: The first step to run.
        end_step: The step to stop before; past the end means all.

    Raises:
        DDIMError: If no step is left, or a level is outside [0, 1].
    """
    last = min(end_step, len(schedule.plan))
    if start_step >= last:
        raise DDIMError(
            f"start_step must be below end_step and the number of steps ({len(schedule.plan)}), "
            f"got {start_step} to {end_step}"
        )
    part = schedule.part(start_step, last)
    check_levels(part)
    return part


def settle_output(
    schedule: Schedule, facts: ModelFacts | None, *, from_model: bool = True, check: bool = True
) -> Schedule:
    """Return a schedule that says who decides what a network's output is.

    Args:
        schedule: A planned schedule; its config names the type, unless ``from_model``.
        facts: Of the MODEL that it was planned with, or None.
        from_model: Whether the MODEL of each run decides.
        check: Whether to check what is known of it.

    Raises:
        DDIMError: If the output will be epsilon where the schedule visits zero SNR.
    """
    if from_model:
        schedule = left_to_model(schedule, None if facts is None else facts.prediction_type)
    if check:
        check_output(schedule, planned_output(schedule))
    return schedule


def check_choices(schedule: Schedule, steps: int, grid: int) -> None:
    """Check that timesteps can be chosen between the first of a schedule and its end.

    Args:
        schedule: The schedule.
        steps: How many are chosen.
        grid: From how many.

    Raises:
        DDIMError: If there are not so many.
    """
    if steps > grid:
        raise DDIMError(
            f"steps must be at most grid, the {grid} timesteps that they are chosen from, got {steps}; raise grid, or "
            "use fewer steps"
        )
    first, end = _ends(schedule.plan)
    if grid <= first - end:
        return
    if schedule.noise.kind != VARIANCE_PRESERVING and grid > len(schedule.noise):
        raise DDIMError(
            f"the schedule has no levels but the {len(schedule.noise)} that it visits, and grid is {grid}; make the "
            "schedule with DDIM Schedule and the MODEL connected, which gives all levels of the MODEL"
        )
    raise DDIMError(
        f"grid must be at most {first - end}, the number of timesteps from the first of the schedule ({first}) to its "
        f"end, got {grid}; lower grid"
    )


def comparable_plans(schedule: Schedule, steps: int) -> dict[str, TimestepPlan]:
    """Return plans of as many steps between the ends of a schedule, by name.

    They are trailing and, for a whole run of a variance preserving model, the tables of Align Your Steps.
    """
    first, end = _ends(schedule.plan)
    even = make_plan(steps, first - end, "trailing")
    plans = {"trailing": TimestepPlan(tuple((t - END + end, t_next - END + end) for t, t_next in even.pairs))}
    levels = len(schedule.noise)
    if schedule.noise.kind == VARIANCE_PRESERVING and (first, end) == (levels - 1, END):
        plans |= {name: make_plan(steps, levels, name) for name in AYS}
    return plans


def has_levels_of_model(schedule: Schedule, facts: ModelFacts) -> bool:
    """Tell whether a timestep of a schedule means the same in DDIM Schedule with the MODEL connected."""
    if len(schedule.noise) != len(facts.sigmas):
        return False
    table = facts.sigma_table(schedule)
    # Of a variance preserving model the network is called with the timestep itself.
    return schedule.noise.kind == VARIANCE_PRESERVING or (table is not None and table.allclose(facts.sigmas, rtol=1e-3))


def _ends(plan: TimestepPlan) -> tuple[int, int]:
    """Return the first timestep of a plan and the one after its last step, or END."""
    return plan.timesteps[0], max(plan.pairs[-1][1], END)


def parse_timesteps(text: str) -> list[int] | None:
    """Read numbers separated by commas or spaces; None for an empty text.

    Raises:
        DDIMError: For anything that is not a whole number.
    """
    words = re.split(r"[\s,;]+", text.strip().strip("[]()"))
    bad = [word for word in words if word and not re.fullmatch(r"\d{1,9}", word)]
    if bad:
        raise DDIMError(f"timesteps must be whole numbers separated by commas, from high to low, got {bad[0]!r:.40}")
    return [int(word) for word in words if word] or None


def with_model_levels(config: SchedulerConfig, facts: ModelFacts) -> SchedulerConfig | SigmaConfig:
    """Replace the noise levels by a MODEL's.

    Of a flow or variance exploding MODEL only spacing and offset are left to choose.
    """
    if facts.sigma_config is not None:
        spacing, offset = config.timestep_spacing, config.steps_offset
        return replace(facts.sigma_config, timestep_spacing=spacing, steps_offset=offset)
    betas = tuple(betas_from_alpha_bar(facts.alpha_bar).tolist())
    return replace(config, trained_betas=betas, num_train_timesteps=len(betas))


def describe(schedule: Schedule, *, levels_from: str, spacing: str | None = None) -> str:
    """Describe a schedule in a few lines.

    Args:
        schedule: The schedule.
        levels_from: Where its noise levels come from, in words.
        spacing: How its steps are spaced, in words, if not as its settings say.
    """
    levels = schedule.alpha_bars
    end = "clean" if levels[-1] == 1.0 else f"alpha_bar {levels[-1]:.6g}"
    zero_snr = " (zero terminal SNR)" if schedule.noise.zero_terminal_snr else ""
    return "\n".join(
        [
            f"{len(schedule.plan)} steps, {spacing or schedule.config.timestep_spacing}: {_listed(schedule)}",
            f"{planned_output(schedule) or FROM_MODEL}, noise levels from {levels_from}",
            f"alpha_bar {levels[0]:.6g} at the first step, {end} at the end{zero_snr}",
        ]
    )


def _listed(schedule: Schedule) -> str:
    """List the timesteps, or the sigmas of a model that has no numbered timesteps."""
    if schedule.noise.kind == VARIANCE_PRESERVING:
        words = [str(t) for t in schedule.plan.timesteps]
    else:
        words = [f"{level.sigma:.4g}" for level in schedule.levels[:-1]]
    if len(words) > MAX_LISTED:
        words = [*words[: MAX_LISTED // 2], f"... {words[-1]}"]
    return ("" if schedule.noise.kind == VARIANCE_PRESERVING else "sigma ") + ", ".join(words)
