"""The schedule builder."""

from __future__ import annotations

from typing import Any

from ..ddim import SchedulerConfig
from .bridge import model_facts, schedule_sigmas
from .planning import check_visited, describe, parse_timesteps, plan_run, with_facts
from .sockets import DDIM_SCHEDULE, SIGMAS, inputs
from .ui_payloads import schedule_report

__all__ = ["DDIMSchedule"]


class DDIMSchedule:
    """Every choice of a DDIM schedule, as a DDIM_SCHEDULE and as SIGMAS."""

    CATEGORY = "DDIM/schedules"
    DESCRIPTION = (
        "Chooses the timesteps that a DDIM run visits and how noisy each of them is. Connect the MODEL to take its own "
        "noise levels, prediction type and zero-SNR state. SIGMAS feeds stock samplers with the same steps."
    )
    SEARCH_ALIASES = [
        "ddim",
        "ddim schedule",
        "scheduler",
        "timestep spacing",
        "trailing",
        "leading",
        "linspace",
        "zero snr",
        "ztsnr",
        "v-pred",
        "v prediction",
        "betas",
        "sigmas",
        "ddim_uniform",
    ]
    RETURN_TYPES = (DDIM_SCHEDULE, SIGMAS)
    RETURN_NAMES = ("schedule", "sigmas")
    OUTPUT_TOOLTIPS = (
        "For DDIM Sample and the other DDIM nodes.",
        "The same steps for SamplerCustom and its like: one sigma per step, and the last.",
    )
    FUNCTION = "build"
    HAS_INTERMEDIATE_OUTPUT = True  # what it shows is shown again when a run finds it in the cache

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": inputs(
                "steps",
                "timestep_spacing",
                "denoise",
                "prediction_type",
                "rescale_betas_zero_snr",
                "beta_schedule",
                "beta_start",
                "beta_end",
                "num_train_timesteps",
                "set_alpha_to_one",
                "steps_offset",
                "start_step",
                "end_step",
                "timesteps",
                "parity",
            ),
            "optional": inputs("model"),
        }

    def build(
        self,
        steps: int,
        timestep_spacing: str,
        denoise: float,
        prediction_type: str,
        rescale_betas_zero_snr: bool,
        beta_schedule: str,
        beta_start: float,
        beta_end: float,
        num_train_timesteps: int,
        set_alpha_to_one: bool,
        steps_offset: int,
        start_step: int,
        end_step: int,
        timesteps: str,
        parity: str,
        model: Any = None,
    ) -> dict[str, Any]:
        config = SchedulerConfig(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            clip_sample=False,
            set_alpha_to_one=set_alpha_to_one,
            steps_offset=steps_offset,
            prediction_type=prediction_type,
            timestep_spacing=timestep_spacing,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            parity=parity,
        )
        facts = None if model is None else model_facts(model)
        if facts is not None:
            config = with_facts(config, facts)
        schedule = plan_run(config, steps, denoise, start_step, end_step, parse_timesteps(timesteps))
        check_visited(schedule)
        # A MODEL's own sigmas map back to its timesteps without loss.
        sigmas = schedule_sigmas(schedule, None if facts is None else facts.sigmas)
        report = describe(schedule, levels_from=beta_schedule if facts is None else "the MODEL")
        plot = schedule_report(schedule, from_model=facts is not None)
        return {"ui": {"text": [report], "ddim_schedule": [plot]}, "result": (schedule, sigmas)}
