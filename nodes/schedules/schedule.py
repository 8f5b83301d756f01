"""DDIM Schedule: the schedule builder."""

from __future__ import annotations

from typing import Any

from ...ddim import SchedulerConfig
from ..backend import ModelFacts, current, measured_prediction_type, schedule_sigmas
from ..editor import remember, schedule_report
from ..inputs import DDIM_SCHEDULE, SIGMAS, InputTypes, inputs, unless_linked
from ..values import FROM_MODEL, Model
from .planning import describe, parse_timesteps, plan_part, plan_steps, plan_timesteps, settle_output, with_model_levels

__all__ = ["DDIMSchedule"]


class DDIMSchedule:
    """Every choice of a DDIM schedule, as a DDIM_SCHEDULE and as SIGMAS."""

    CATEGORY = "DDIM/schedules"
    DESCRIPTION = (
        "Chooses the timesteps that a DDIM run visits and how noisy each of them is. Connect the MODEL to use its own "
        "noise levels, prediction type and zero SNR; flow models (Flux, SD3, Wan) need that, and keep their shift. "
        "SIGMAS gives stock samplers the same steps."
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
        "flow",
        "flux",
        "sd3",
    ]
    RETURN_TYPES = (DDIM_SCHEDULE, SIGMAS)
    RETURN_NAMES = ("schedule", "sigmas")
    OUTPUT_TOOLTIPS = (
        "For DDIM KSampler and the other DDIM nodes.",
        "The same steps for SamplerCustom and similar nodes: one sigma per step, and the last.",
    )
    FUNCTION = "build"
    HAS_INTERMEDIATE_OUTPUT = True  # its report is shown again if a later run takes the node from the cache

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {
            "required": {},
            "optional": {
                **inputs("steps", "timestep_spacing", "denoise", "prediction_type", "rescale_betas_zero_snr"),
                **unless_linked(inputs("beta_schedule", "beta_start", "beta_end", "num_train_timesteps"), "model"),
                **inputs("set_alpha_to_one", "steps_offset", "start_step", "end_step", "timesteps", "parity", "model"),
            },
        }

    def build(
        self,
        steps: int = 20,
        timestep_spacing: str = "trailing",
        denoise: float = 1.0,
        prediction_type: str = FROM_MODEL,
        rescale_betas_zero_snr: bool = False,
        beta_schedule: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        num_train_timesteps: int = 1000,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        start_step: int = 0,
        end_step: int = 10000,
        timesteps: str = "",
        parity: str = "exact",
        model: Model | ModelFacts | None = None,
        *,
        check: bool = True,  # off for the live plot, which shows a schedule that no run can take, and says so
    ) -> dict[str, Any]:
        from_model = prediction_type == FROM_MODEL
        settings = SchedulerConfig(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            clip_sample=False,
            set_alpha_to_one=set_alpha_to_one,
            steps_offset=steps_offset,
            prediction_type="epsilon" if from_model else prediction_type,
            timestep_spacing=timestep_spacing,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            parity=parity,
        )
        # The live plot plans over the levels of a MODEL that is gone.
        facts = model if model is None or isinstance(model, ModelFacts) else current().model_facts(model)
        config = settings if facts is None else with_model_levels(settings, facts)
        custom = parse_timesteps(timesteps)
        plan = plan_steps(config, steps, denoise) if custom is None else plan_timesteps(config, custom, denoise)
        schedule = plan_part(plan, start_step, end_step)
        schedule = settle_output(schedule, facts, from_model=from_model, check=check)
        # A MODEL's own sigmas map back to its timesteps without loss.
        sigmas = schedule_sigmas(schedule, None if facts is None else facts.sigmas)
        report = describe(schedule, levels_from=beta_schedule if facts is None else "the MODEL")
        levels, measured = (None, None) if facts is None else (remember(facts), measured_prediction_type(facts))
        plot = schedule_report(schedule, model_levels=levels, measured=measured, spaced=custom is None)
        return {"ui": {"text": [report], "ddim_schedule": [plot]}, "result": (schedule, sigmas)}
