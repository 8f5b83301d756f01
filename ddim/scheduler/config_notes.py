"""Sentences on a configuration that was read: what often surprises people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..schedule.settings import SchedulerConfig

__all__ = ["OTHER_DEFAULTS", "notes_on"]

_STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012}
_LINSPACE = {"timestep_spacing": "linspace"}

# Where a class of diffusers has another default than its DDIMScheduler, which is also ours.
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
            yield f"{name} is not given: {source_class} would take {value!r}, here it is {config[name]!r}"


def notes_on(
    config: SchedulerConfig, source_class: str, defaulted: Mapping[str, Any], snr_shifted: bool
) -> tuple[str, ...]:
    """Sentences on what surprises people, in the order in which it matters.

    Args:
        config: the settings that were made.
        source_class: whose configuration it was.
        defaulted: the settings that it did not give.
        snr_shifted: whether betas were written out for a shift of the SNR.
    """
    notes = [*_other_defaults(config, source_class, defaulted)]
    if not config.set_alpha_to_one:
        notes.append(
            "set_alpha_to_one is false (as in SDXL's configuration): sampling ends at the noise level of timestep 0 "
            "and leaves that little noise in the result; set it to true to end at clean data"
        )
    if config.clip_sample and not config.thresholding and "clip_sample" in defaulted:
        notes.append(
            f"clip_sample is true by default: x_0 is clipped to +-{config.clip_sample_range:g} at every step, which "
            "is right for pixels and harms latents; set it to false for a latent model"
        )
    if config.rescale_betas_zero_snr and config.prediction_type == "epsilon":
        notes.append(
            "rescale_betas_zero_snr with prediction_type='epsilon': the last timestep is pure noise, where epsilon "
            "says nothing about x_0; a plan that visits it is refused"
        )
    if config.rescale_betas_zero_snr and config.timestep_spacing == "leading":
        notes.append(
            "rescale_betas_zero_snr with timestep_spacing='leading' never visits the timestep of zero SNR; "
            "use 'trailing'"
        )
    if config.steps_offset and config.timestep_spacing != "leading":
        notes.append(
            f"steps_offset={config.steps_offset} has no effect with timestep_spacing={config.timestep_spacing!r}"
        )
    if snr_shifted:
        notes.append("snr_shift_scale became trained_betas: the same noise levels, written out")
    return tuple(notes)
