"""Warnings about common pitfalls in an imported configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...schedule.flow_settings import FlowConfig
from ...schedule.settings import SchedulerConfig

__all__ = ["OTHER_DEFAULTS", "flow_notes_on", "notes_on"]

_STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012}
_LINSPACE = {"timestep_spacing": "linspace"}

# Defaults of diffusers' classes that differ from those of its DDIMScheduler, which are also ours.
OTHER_DEFAULTS: dict[str, dict[str, Any]] = {
    "CogVideoXDDIMScheduler": {**_STABLE_DIFFUSION, "beta_schedule": "scaled_linear"},
    "CogVideoXDPMScheduler": {**_STABLE_DIFFUSION, "beta_schedule": "scaled_linear"},
    "DEISMultistepScheduler": _LINSPACE,
    "DPMSolverMultistepInverseScheduler": _LINSPACE,
    "DPMSolverMultistepScheduler": _LINSPACE,
    "EulerAncestralDiscreteScheduler": _LINSPACE,
    "EulerDiscreteScheduler": _LINSPACE,
    "HeunDiscreteScheduler": {**_STABLE_DIFFUSION, **_LINSPACE, "clip_sample": False},
    "KDPM2AncestralDiscreteScheduler": {**_STABLE_DIFFUSION, **_LINSPACE},
    "KDPM2DiscreteScheduler": {**_STABLE_DIFFUSION, **_LINSPACE},
    "LCMScheduler": {**_STABLE_DIFFUSION, "beta_schedule": "scaled_linear", "clip_sample": False},
    "LMSDiscreteScheduler": _LINSPACE,
    "PNDMScheduler": {"set_alpha_to_one": False},
    "SASolverScheduler": _LINSPACE,
    "TCDScheduler": {**_STABLE_DIFFUSION, "beta_schedule": "scaled_linear", "clip_sample": False},
    "UnCLIPScheduler": {"beta_schedule": "squaredcos_cap_v2"},
    "UniPCMultistepScheduler": _LINSPACE,
}


def _other_defaults(config: SchedulerConfig, source_class: str, defaulted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in OTHER_DEFAULTS.get(source_class, {}).items():
        if name in defaulted:
            yield f"{name} is not given: {source_class} defaults to {value!r}, this package to {config[name]!r}"


def notes_on(
    config: SchedulerConfig, source_class: str, defaulted: Mapping[str, Any], snr_shifted: bool
) -> tuple[str, ...]:
    """Describe common pitfalls in a configuration, the most important first.

    Args:
        config: the imported settings.
        source_class: the class that the configuration belongs to, or "".
        defaulted: the settings that the configuration did not contain.
        snr_shifted: whether a shift of the SNR was converted to betas.
    """
    notes = [*_other_defaults(config, source_class, defaulted)]
    if not config.set_alpha_to_one:
        notes.append(
            "set_alpha_to_one is false (as in SDXL's configuration): sampling ends at the noise level of timestep 0, "
            "so a little noise stays in the result; set it to true to end at clean data"
        )
    if config.clip_sample and not config.thresholding and "clip_sample" in defaulted:
        notes.append(
            f"clip_sample is true by default: x_0 is clipped to +-{config.clip_sample_range:g} at every step, which "
            "is right for pixels but degrades latents; set it to false for a latent model"
        )
    if config.rescale_betas_zero_snr and config.prediction_type == "epsilon":
        notes.append(
            "rescale_betas_zero_snr with prediction_type='epsilon': the last timestep is pure noise, where epsilon "
            "carries no information about x_0; a plan that visits this timestep is refused"
        )
    if config.rescale_betas_zero_snr and config.timestep_spacing == "leading":
        notes.append(
            "rescale_betas_zero_snr with timestep_spacing='leading' never visits the timestep with zero SNR; "
            "use timestep_spacing='trailing'"
        )
    if config.steps_offset and config.timestep_spacing != "leading":
        notes.append(
            f"steps_offset={config.steps_offset} has no effect with timestep_spacing={config.timestep_spacing!r}"
        )
    if snr_shifted:
        notes.append("snr_shift_scale was converted to trained_betas, which give the same noise levels")
    return tuple(notes)


def flow_notes_on(config: FlowConfig, source_class: str) -> tuple[str, ...]:
    """Describe common pitfalls in the configuration of a flow model.

    Args:
        config: the imported settings.
        source_class: the class that the configuration belongs to, or "".
    """
    notes = []
    if config.use_dynamic_shifting:
        notes.append(
            "use_dynamic_shifting is true: set_timesteps needs mu, which pipelines compute from the size of the image "
            "(base_shift to max_shift); shift has no effect"
        )
    if source_class and "FlowMatch" not in source_class:
        notes.append(
            f"{source_class} spaces the sigmas from 1 to 1 / {config.num_train_timesteps} in its own way; to repeat "
            "its steps, pass its sigmas to set_timesteps, without the last one and as they are before the shift"
        )
    return tuple(notes)
