"""From what a person sets on a schedule node to a Schedule, and back to words."""

from __future__ import annotations

import re
from dataclasses import replace

from ..ddim import DDIMError, Schedule, SchedulerConfig, betas_from_alpha_bar, make_schedule
from .bridge import ModelFacts

__all__ = ["check_visited", "describe", "parse_timesteps", "plan_run", "with_facts"]


def plan_run(
    config: SchedulerConfig, steps: int, denoise: float, start_step: int, end_step: int, timesteps: list[int] | None
) -> Schedule:
    """The steps of one run.

    Args:
        config: the settings.
        steps: how many steps run.
        denoise: in (0, 1]; below 1, the last ``steps`` steps of a plan of ``steps / denoise``, as KSampler counts.
        start_step: first step of those to run.
        end_step: the step to stop before; past the end means all.
        timesteps: a list in place of ``steps``; denoise then keeps that share of it.

    Raises:
        DDIMError: where nothing is left to run, or the plan would need more steps than there are timesteps.
    """
    if timesteps is not None:
        schedule = make_schedule(len(timesteps), config, timesteps=timesteps).last_fraction(denoise)
    else:
        total = int(steps / denoise + 1e-9)
        if steps <= config.num_train_timesteps < total:
            raise DDIMError(
                f"denoise {denoise:g} with {steps} steps takes the end of a plan of {total} steps, and there are only "
                f"{config.num_train_timesteps} timesteps; use at most {int(config.num_train_timesteps * denoise)} steps"
            )
        schedule = make_schedule(total, config).part(total - steps)
    last = min(end_step, len(schedule.plan))
    if start_step >= last:
        raise DDIMError(
            f"start_step must be below end_step and the number of steps ({len(schedule.plan)}), "
            f"got {start_step} to {end_step}"
        )
    return schedule.part(start_step, last)


def parse_timesteps(text: str) -> list[int] | None:
    """Numbers separated by commas or spaces; None for an empty text.

    Raises:
        DDIMError: for anything that is not a whole number.
    """
    words = re.split(r"[\s,;]+", text.strip().strip("[]()"))
    bad = [word for word in words if word and not re.fullmatch(r"\d{1,9}", word)]
    if bad:
        raise DDIMError(f"timesteps must be whole numbers separated by commas, from high to low, got {bad[0]!r:.40}")
    return [int(word) for word in words if word] or None


def with_facts(config: SchedulerConfig, facts: ModelFacts) -> SchedulerConfig:
    """The settings with a MODEL's noise levels, and its prediction type unless they name another than epsilon."""
    spoken = config.prediction_type
    if spoken == "epsilon" and facts.prediction_type is not None:
        spoken = facts.prediction_type
    betas = tuple(betas_from_alpha_bar(facts.alpha_bar).tolist())
    return replace(config, trained_betas=betas, num_train_timesteps=len(betas), prediction_type=spoken)


def check_visited(schedule: Schedule) -> None:
    """Raise DDIMError if a visited level is impossible for the prediction type (epsilon at zero SNR)."""
    scheduler = schedule.scheduler()
    for index in range(len(schedule.plan)):
        scheduler.coefficients(index)


def describe(schedule: Schedule, *, levels_from: str) -> str:
    """A few lines that say what a schedule is.

    Args:
        schedule: what to describe.
        levels_from: where its noise levels come from, in words.
    """
    steps, levels = schedule.plan.timesteps, schedule.alpha_bars
    listed = ", ".join(map(str, steps if len(steps) <= 12 else steps[:6])) + (
        f", ... {steps[-1]}" if len(steps) > 12 else ""
    )
    end = "clean" if levels[-1] == 1.0 else f"alpha_bar {levels[-1]:.6g}"
    return "\n".join(
        [
            f"{len(steps)} steps, {schedule.config.timestep_spacing}: {listed}",
            f"{schedule.config.prediction_type}, noise levels from {levels_from}",
            f"alpha_bar {levels[0]:.6g} at the first step, {end} at the end"
            + (" (zero terminal SNR)" if schedule.noise.zero_terminal_snr else ""),
        ]
    )
