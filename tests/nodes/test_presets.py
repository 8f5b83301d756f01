"""The presets of DDIM Schedule mean what the families' own configurations say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ddim import END

# The settings in the scheduler_config.json of each family that concern DDIM.
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1,
                    "num_train_timesteps": 1000, "set_alpha_to_one": False, "clip_sample": False}  # fmt: skip
SDXL = {**STABLE_DIFFUSION, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
CONFIGS = {
    "sd15": {**STABLE_DIFFUSION, "_class_name": "PNDMScheduler", "skip_prk_steps": True, "prediction_type": "epsilon"},
    "sdxl": {**SDXL, "prediction_type": "epsilon", "interpolation_type": "linear", "use_karras_sigmas": False},
    "sdxl_v_zero_snr": {**SDXL, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
                        "timestep_spacing": "trailing"},
    "sd2_v": {**STABLE_DIFFUSION, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
    "ddim_original": {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 0.0001,
                      "beta_end": 0.02, "num_train_timesteps": 1000, "prediction_type": "epsilon",
                      "clip_sample": False},
}  # fmt: skip
NAMES = ["from_model", "sd15", "sdxl", "sdxl_v_zero_snr", "sd2_v", "flow", "ddim_original", "diffusers"]


@pytest.fixture(scope="session")
def presets(pack: Any) -> dict[str, Any]:
    """By name, what each sets."""
    assert pack.NODE_CLASS_MAPPINGS
    told = sys.modules["pack.nodes.schedules"].presets_answer()["presets"]
    return {preset["name"]: preset["inputs"] for preset in told}


def test_the_names_and_their_order(presets: dict[str, Any]) -> None:
    assert list(presets) == NAMES


@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_is_the_schedule_of_the_family_s_own_configuration(
    call: Callable[..., Any], presets: dict[str, Any], name: str
) -> None:
    config, chosen = (
        call("DDIMScheduleFromConfig", config=json.dumps(CONFIGS[name]), steps=20)[0],
        call("DDIMSchedule", steps=20, **presets[name])[0],
    )
    assert chosen.plan == config.plan and chosen.alpha_bars == config.alpha_bars
    assert chosen.noise.levels == config.noise.levels
    assert chosen.config.prediction_type == config.config.prediction_type


def test_a_preset_sets_all_that_another_one_changes(presets: dict[str, Any], nodes: dict[str, type]) -> None:
    """Or else the second of two presets would be a mixture of both; flow models use only what theirs sets."""
    widgets = {name for name, (_, options) in nodes["DDIMSchedule"].INPUT_TYPES()["optional"].items()
               if "default" in options}  # fmt: skip
    of_the_run = {"steps", "denoise", "start_step", "end_step"}
    assert all(set(inputs) == widgets - of_the_run for name, inputs in presets.items() if name != "flow")
    assert set(presets["flow"]) < widgets - of_the_run


def test_from_model_is_a_new_node(presets: dict[str, Any], nodes: dict[str, type]) -> None:
    defaults = {name: spec[1].get("default") for name, spec in nodes["DDIMSchedule"].INPUT_TYPES()["optional"].items()}
    assert presets["from_model"] == {name: defaults[name] for name in presets["from_model"]}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sampled_as", ["v_prediction", "flow"])
def test_each_gives_a_plan_with_a_model_and_without(
    call: Callable[..., Any], presets: dict[str, Any], name: str, sampled_as: str
) -> None:
    model = call("DDIMDemoModel", sampled_as=sampled_as)[0]
    if sampled_as == "flow" or presets[name]["prediction_type"] != "epsilon":
        assert len(call("DDIMSchedule", steps=7, model=model, **presets[name])[0].plan) == 7
    alone, _ = call("DDIMSchedule", steps=7, **presets[name])
    assert len(alone.plan) == 7 and alone.plan.pairs[-1][1] < max(alone.plan.timesteps)
    assert name == "diffusers" or alone.plan.pairs[-1][1] == END


def test_as_diffusers_is_diffusers(call: Callable[..., Any], presets: dict[str, Any]) -> None:
    diffusers = pytest.importorskip("diffusers")
    settings = {name: STABLE_DIFFUSION[name] for name in STABLE_DIFFUSION if name != "num_train_timesteps"}
    theirs = diffusers.DDIMScheduler(**settings)
    theirs.set_timesteps(20)
    ours, _ = call("DDIMSchedule", steps=20, **presets["diffusers"])
    assert list(ours.plan.timesteps) == theirs.timesteps.tolist()
    assert ours.noise.alpha_bar.tolist() == pytest.approx(theirs.alphas_cumprod.tolist(), rel=1e-6)
    assert ours.alpha_bars[-1] == pytest.approx(float(theirs.final_alpha_cumprod), rel=1e-6)
