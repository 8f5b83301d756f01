"""Reading the configurations of other schedulers: what was used, mapped, overridden, ignored, defaulted."""

import inspect
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddim
from ddim import (
    DDIMError,
    DDIMFlowScheduler,
    DDIMScheduler,
    FlowConfig,
    SchedulerConfig,
    import_config,
    make_schedule,
)
from ddim.scheduler.config.notes import OTHER_DEFAULTS

SDXL = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}


def test_an_sdxl_configuration_is_read_and_every_key_accounted_for() -> None:
    report = import_config(SDXL)
    assert report.config.beta_schedule == "scaled_linear" and report.config.set_alpha_to_one is False
    assert report.source_class == "EulerDiscreteScheduler"
    assert set(SDXL) == set(report.used) | set(report.mapped) | set(report.ignored)
    assert set(SchedulerConfig()) == set(report.used) | set(report.defaulted)
    assert not report.unknown
    assert any("set_alpha_to_one is false" in note for note in report.notes)
    assert not any("clip_sample" in note for note in report.notes)  # the file says false itself


def test_the_clipping_default_is_named_where_the_file_is_silent() -> None:
    report = import_config({"beta_schedule": "scaled_linear"})
    assert report.defaulted["clip_sample"] is True
    assert any("clip_sample is true by default" in note for note in report.notes)


def test_a_default_that_differs_from_the_source_classs_is_named() -> None:
    report = import_config({"_class_name": "EulerDiscreteScheduler", "clip_sample": False})
    (note,) = report.notes
    assert (
        note
        == "timestep_spacing is not given: EulerDiscreteScheduler defaults to 'linspace', this package to 'leading'"
    )


def test_the_table_of_other_defaults_is_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    ours = SchedulerConfig()
    for name, listed in OTHER_DEFAULTS.items():
        parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
        theirs = {key: item.default for key, item in parameters.items() if key in ours}
        assert {key: value for key, value in theirs.items() if value != ours[key]} == listed, name


def test_an_override_wins_and_tells_what_it_replaced() -> None:
    report = import_config(SDXL, {"set_alpha_to_one": True, "thresholding": True})
    assert report.config.set_alpha_to_one is True
    assert report.overridden == {"set_alpha_to_one": False, "thresholding": False}
    assert not any("set_alpha_to_one" in note for note in report.notes)
    with pytest.raises(DDIMError, match="did you mean 'clip_sample'"):
        import_config(SDXL, {"clip_samples": True})


@pytest.mark.parametrize(
    ("given", "setting", "value"),
    [
        ({"final_sigmas_type": "zero"}, "set_alpha_to_one", True),
        ({"final_sigmas_type": "sigma_min"}, "set_alpha_to_one", False),
        ({"set_alpha_to_zero": False}, "set_alpha_to_one", False),
        ({"zero_terminal_snr": True}, "rescale_betas_zero_snr", True),
        ({"prediction_type": "velocity"}, "prediction_type", "v_prediction"),
        ({"_parity": "diffusers"}, "parity", "diffusers"),
    ],
)
def test_keys_that_mean_the_same_are_mapped(given: dict, setting: str, value: object) -> None:
    report = import_config(given)
    (key,) = given
    assert report.config[setting] == value
    assert report.mapped[key].setting == setting and report.mapped[key].value == value


def test_a_setting_of_our_own_name_wins_over_one_that_means_the_same() -> None:
    report = import_config({"set_alpha_to_one": True, "final_sigmas_type": "sigma_min"})
    assert report.config.set_alpha_to_one is True
    assert "is given" in report.ignored["final_sigmas_type"]


def test_the_snr_shift_of_cogvideox_becomes_betas() -> None:
    config = {"_class_name": "CogVideoXDDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
              "beta_end": 0.012, "snr_shift_scale": 3.0}  # fmt: skip
    plain = make_schedule(1, import_config({**config, "snr_shift_scale": 1.0}).config).noise.alpha_bar
    shifted = make_schedule(1, import_config(config).config).noise.alpha_bar
    snr_ratio = (shifted / (1 - shifted)) / (plain / (1 - plain))
    assert float((snr_ratio - 1 / 3).abs().max()) < 1e-9


def test_what_a_class_filled_in_by_default_is_not_taken_over() -> None:
    config = {"set_alpha_to_one": False, "clip_sample": False, "_use_default_values": ["set_alpha_to_one"]}
    report = import_config(config)
    assert report.config.set_alpha_to_one is True and report.config.clip_sample is False


@pytest.mark.parametrize(
    ("config", "advice"),
    [
        ({"_class_name": "EDMEulerScheduler"}, r"SigmaConfig\(kind='variance_exploding'"),
        ({"_class_name": "ScoreSdeVeScheduler"}, r"SigmaConfig\(kind='variance_exploding'"),
        ({"_class_name": "FlowMapEulerDiscreteScheduler"}, "that the model was published with"),
        ({"_class_name": "CMStochasticIterativeScheduler"}, "that the model was published with"),
    ],
)
def test_models_that_ddim_cannot_sample_are_refused(config: dict, advice: str) -> None:
    with pytest.raises(DDIMError, match=f"cannot sample .*{advice}"):
        import_config(config)


QWEN_IMAGE = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": "0.34.0.dev0",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "invert_sigmas": False,
    "max_image_seq_len": 8192,
    "max_shift": 0.9,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "shift_terminal": 0.02,
    "stochastic_sampling": False,
    "time_shift_type": "exponential",
    "use_beta_sigmas": False,
    "use_dynamic_shifting": True,
    "use_exponential_sigmas": False,
    "use_karras_sigmas": False,
}
WAN = {
    "_class_name": "UniPCMultistepScheduler",
    "beta_end": 0.02,
    "flow_shift": 3.0,
    "prediction_type": "flow_prediction",
    "solver_order": 2,
    "thresholding": False,
    "timestep_spacing": "linspace",
    "use_flow_sigmas": True,
    "use_karras_sigmas": False,
}


def test_a_flow_configuration_is_read_and_its_class_named() -> None:
    report = import_config(QWEN_IMAGE)
    assert report.reader == "DDIMFlowScheduler" and isinstance(report.config, FlowConfig)
    assert dict(report.config) == {**{k: v for k, v in QWEN_IMAGE.items() if k[0] != "_"}, "eta": 0.0}
    assert set(report.defaulted) == {"eta"} and not report.unknown
    assert any("needs mu" in note for note in report.notes)
    assert import_config(SDXL).reader == "DDIMScheduler"


def test_a_solver_for_flow_models_is_read_too() -> None:
    report = import_config(WAN)
    assert report.config == FlowConfig(shift=3.0) and not report.unknown
    assert "variance preserving models" in report.ignored["beta_end"]
    assert any("UniPCMultistepScheduler spaces the sigmas" in note for note in report.notes)


@pytest.mark.parametrize(
    ("config", "reader"),
    [
        ({}, "DDIMScheduler"),
        ({"num_train_timesteps": 500}, "DDIMScheduler"),
        ({"shift": 3.0}, "DDIMFlowScheduler"),
        ({"prediction_type": "flow_prediction"}, "DDIMFlowScheduler"),
        ({"use_flow_sigmas": True}, "DDIMFlowScheduler"),
        ({"_class_name": "UniPCMultistepScheduler", "use_dynamic_shifting": False}, "DDIMScheduler"),
        ({"beta_start": 0.1, "shift": 3.0}, "DDIMScheduler"),
    ],
)
def test_which_class_reads_a_configuration(config: dict, reader: str) -> None:
    assert import_config(config).reader == reader


def test_each_class_names_the_other_for_a_model_that_it_does_not_sample() -> None:
    with pytest.raises(DDIMError, match=r"UniPC.* of a flow model, which DDIMScheduler .* DDIMFlowScheduler.from_conf"):
        DDIMScheduler.from_config(WAN)
    with pytest.raises(DDIMError, match=r"Euler.* preserving model, which DDIMFlowSch.* use DDIMScheduler.from_config"):
        DDIMFlowScheduler.from_config(SDXL)


def test_a_configuration_of_any_model_goes_to_the_class_that_is_asked() -> None:
    assert len(DDIMFlowScheduler.from_config({"num_train_timesteps": 500}).noise_schedule) == 500
    assert DDIMScheduler.from_config({"num_train_timesteps": 500}).config.num_train_timesteps == 500


def test_a_flow_model_with_another_prediction_is_refused() -> None:
    with pytest.raises(DDIMError, match="prediction_type of a flow model must be 'flow_prediction'"):
        import_config({**WAN, "prediction_type": "epsilon"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], "must be a mapping"),
        ({1: 2}, "must be strings"),
        ({f"k{i}": i for i in range(1000)}, "at most 512 keys"),
        ({"_use_default_values": 5}, "must be a list of names"),
        ({"beta_start": 10**400}, "beta_start must be a finite number"),
        ({"beta_start": math.nan}, "beta_start must be a finite number"),
        ({"beta_end": math.inf}, "beta_end must be a finite number"),
        ({"num_train_timesteps": 10**12}, "between 1 and 1000000"),
        ({"num_train_timesteps": 10**5000}, "cannot be printed"),
        ({"num_train_timesteps": "1000"}, "must be a whole number"),
        ({"num_train_timesteps": True}, "must be a whole number"),
        ({"trained_betas": [0.1, math.nan]}, r"trained_betas\[1\]"),
        ({"trained_betas": [0.1, -0.1]}, r"trained_betas\[1\]"),
        ({"trained_betas": [[0.1]]}, r"trained_betas\[0\]"),
        ({"trained_betas": []}, "flat list"),
        ({"trained_betas": "0.1"}, "flat list"),
        ({"prediction_type": "epsilom"}, "did you mean 'epsilon'"),
        ({"prediction_type": ["epsilon"]}, "must be one of"),
        ({"clip_sample": None}, "must be True or False"),
        ({"clip_sample": 1}, "must be True or False"),
        ({"sample_max_value": 0.5}, "at least 1 .*amplify"),
        ({"snr_shift_scale": "three"}, "snr_shift_scale must be"),
    ],
)
def test_hostile_and_wrong_values_are_refused_with_a_sentence(config: object, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        import_config(config)  # type: ignore[arg-type]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_other_keys = ("final_sigmas_type", "snr_shift_scale", "_class_name", "ztsnr", "_x", "use_flow_sigmas", "flow_shift")
_names = st.sampled_from([*SchedulerConfig(), *FlowConfig(), *_other_keys])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_names | st.text(max_size=8), _json, max_size=6))
def test_any_json_gives_a_report_that_is_json_or_a_sentence(config: dict) -> None:
    try:
        report = import_config(config)
    except DDIMError as error:
        assert 10 < len(str(error)) < 1000
    else:
        json.dumps(report.as_dict(), allow_nan=False)
        assert import_config(report.config).config == report.config


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_a_solver_of_a_flow_model_keeps_its_shift_on_the_way_back(name):
    diffusers = pytest.importorskip("diffusers")
    made = getattr(diffusers, name)(use_flow_sigmas=True, flow_shift=5.0, prediction_type="flow_prediction")
    ours = ddim.DDIMFlowScheduler.from_config(made.config)
    assert ours.shift == 5.0
    assert getattr(diffusers, name).from_config(ours.config).config.flow_shift == 5.0
    other = ddim.DDIMFlowScheduler.from_config(made.config, shift=2.0)
    assert getattr(diffusers, name).from_config(other.config).config.flow_shift == 2.0


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "LTXEulerAncestralRFScheduler", "num_train_timesteps": 1000},
        {"_class_name": "AnyNewScheduler", "num_train_timesteps": 1000, "shift": 3.0},
    ],
)
def test_flow_models_of_other_classes_are_read_as_flow_models(config):
    assert ddim.import_config(config).reader == "DDIMFlowScheduler"


def test_sigmas_of_edm_in_a_class_of_flow_models_are_refused():
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "sigma_max": 80.0, "sigma_min": 0.002}
    with pytest.raises(ddim.DDIMError, match="sigma_max is 80"):
        ddim.import_config(config)
