"""Settings of DDIM Schedule by kind of model: the menu in the editor, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..values import FROM_MODEL

__all__ = ["PRESETS", "Preset", "presets_answer"]

Value = str | int | float | bool


class Preset(NamedTuple):
    """What a preset sets: everything on the node but how many steps run, and which part of them.

    Attributes:
        title: For the menu.
        inputs: Values by the name of the input.
    """

    title: str
    inputs: Mapping[str, Value]


# What leaves every choice to the MODEL. All other presets start from it.
_AS_IT_COMES: dict[str, Value] = {
    "timestep_spacing": "trailing",
    "prediction_type": FROM_MODEL,
    "rescale_betas_zero_snr": False,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timesteps": "",
    "parity": "exact",
}
# The spacing in the scheduler_config.json of these families. They also say set_alpha_to_one=false, a common pitfall:
# with it a little noise stays in the picture.
_LEADING: dict[str, Value] = {"timestep_spacing": "leading", "steps_offset": 1}

PRESETS: dict[str, Preset] = {
    "from_model": Preset("From the MODEL", _AS_IT_COMES),
    "sd15": Preset("Stable Diffusion 1.5", {**_AS_IT_COMES, **_LEADING, "prediction_type": "epsilon"}),
    "sdxl": Preset("SDXL", {**_AS_IT_COMES, **_LEADING, "prediction_type": "epsilon"}),
    "sdxl_v_zero_snr": Preset(
        "SDXL, v-prediction, zero SNR",
        {**_AS_IT_COMES, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    ),
    "sd2_v": Preset(
        "Stable Diffusion 2.x, v-prediction", {**_AS_IT_COMES, **_LEADING, "prediction_type": "v_prediction"}
    ),
    "flow": Preset(
        "Flow model (Flux, SD3, Wan)",
        {name: _AS_IT_COMES[name] for name in ("timestep_spacing", "prediction_type", "steps_offset", "timesteps")},
    ),
    "ddim_original": Preset(
        "Original DDIM",
        {
            **_AS_IT_COMES,
            "timestep_spacing": "leading",
            "prediction_type": "epsilon",
            "beta_schedule": "linear",
            "beta_start": 0.0001,
            "beta_end": 0.02,
        },
    ),
    "diffusers": Preset("As diffusers", {**_AS_IT_COMES, **_LEADING, "set_alpha_to_one": False, "parity": "diffusers"}),
}


def presets_answer() -> dict[str, Any]:
    """Return the table as the page asks for it: ``presets``, a list of ``name``, ``title`` and ``inputs``."""
    return {"presets": [{"name": name, "title": title, "inputs": inputs} for name, (title, inputs) in PRESETS.items()]}
