"""Every wrong argument is a DDIMError that says what was expected, what came and what to do."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch

from ddim import (
    DDIMError,
    DDIMInverseScheduler,
    DDIMScheduler,
    guided_model,
    keyed_noise,
    make_schedule,
    rescale_zero_terminal_snr,
    slerp_path,
)


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, DDIMInverseScheduler])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta_schedule": "scaled_linea"}, "beta_schedule must be one of .* did you mean 'scaled_linear'"),
        ({"prediction_type": "v_predicton"}, "did you mean 'v_prediction'"),
        ({"timestep_spacing": "trailling"}, "did you mean 'trailing'"),
        ({"parity": "diffuser"}, "did you mean 'diffusers'"),
        ({"prediction_type": 3}, "prediction_type must be one of"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be a whole number between 1"),
        ({"num_train_timesteps": 10.5}, "must be a whole number"),
        ({"num_train_timesteps": -5}, "must be a whole number"),
        ({"beta_start": -0.1}, "beta_start must be a finite number of at least 0"),
        ({"beta_end": math.nan}, "beta_end must be a finite number"),
        ({"beta_start": "0.1"}, "beta_start must be a finite number"),
        ({"trained_betas": [0.1, -0.2]}, r"trained_betas\[1\] must be a finite number of at least 0, got -0.2"),
        ({"trained_betas": np.array([0.1, np.inf])}, r"trained_betas\[1\]"),
        ({"trained_betas": torch.zeros(2, 2)}, r"trained_betas\[0\]"),
        ({"trained_betas": []}, "flat list"),
        ({"steps_offset": -1}, "steps_offset must be a whole number between 0 and 999"),
        ({"steps_offset": 1000}, "steps_offset must be a whole number between 0 and 999"),
        ({"clip_sample": "yes"}, "clip_sample must be True or False, got 'yes'"),
        ({"clip_sample_range": -1}, "clip_sample_range must be a finite number of at least 0"),
        ({"dynamic_thresholding_ratio": 1.5}, "dynamic_thresholding_ratio must be a finite number from 0 to 1"),
        ({"sample_max_value": 0.5}, "sample_max_value must be a finite number of at least 1 .*amplify"),
        ({"num_train_timesteps": 1, "rescale_betas_zero_snr": True}, "at least two timesteps"),
    ],
)
def test_construction(scheduler_class, settings: dict, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        scheduler_class(**settings)


def test_an_unknown_argument_is_a_type_error_as_everywhere() -> None:
    with pytest.raises(TypeError, match="clip_samples"):
        DDIMScheduler(clip_samples=True)


def test_a_beta_above_one_is_a_warning_that_names_the_timestep(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        DDIMScheduler(beta_start=0.1, beta_end=2.0, num_train_timesteps=20)
    assert "above 1" in caplog.text and "timestep 10" in caplog.text


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, DDIMInverseScheduler])
@pytest.mark.parametrize("steps", [0, -1, 2.5, 1001, "10", None, True, math.nan, 10**30])
def test_step_counts(scheduler_class, steps) -> None:
    scheduler = scheduler_class()
    with pytest.raises(DDIMError, match="num_inference_steps"):
        scheduler.set_timesteps(steps)
    assert scheduler.num_inference_steps is None and len(scheduler.timesteps) == 1000  # nothing is lost


@pytest.mark.parametrize(
    ("timesteps", "message"),
    [
        ([], "at least one"),
        ([5, 5], "strictly decreasing, got 5 followed by 5"),
        ([1, 2], "strictly decreasing"),
        ([1000, 5], "between 0 and 999"),
        ([5, -1], "between 0 and 999"),
        ([5, 2.5], "whole number"),
        (["a"], "whole number"),
    ],
)
def test_custom_timesteps(timesteps, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        DDIMScheduler().set_timesteps(timesteps=timesteps)


def test_a_count_that_contradicts_the_list() -> None:
    with pytest.raises(DDIMError, match="timesteps has 2 entries but num_inference_steps is 3"):
        DDIMScheduler().set_timesteps(3, timesteps=[5, 3])


def planned(**settings) -> DDIMScheduler:
    scheduler = DDIMScheduler(**settings)
    scheduler.set_timesteps(10)
    return scheduler


X = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_output": torch.zeros(2, 3, 5)}, r"model_output must have the sample's shape .*\(2, 3, 4\)"),
        ({"model_output": torch.zeros(2, 6, 4)}, "drop the learned variance channels"),
        ({"model_output": torch.zeros(2, 3, 4, device="meta")}, "on meta"),
        ({"model_output": torch.zeros(2, 3, 4, dtype=torch.int64)}, "must be floating point"),
        ({"timestep": 901}, "timestep 901 is not in the plan of 10 steps .*take it from scheduler.timesteps"),
        ({"timestep": torch.tensor(901)}, "timestep 901 is not in the plan"),
        ({"timestep": 900.5}, "timestep 900.5 is not in the plan"),
        ({"timestep": -100}, "timestep -100 is not in the plan"),
        ({"timestep": torch.tensor([900, 901])}, "every timestep must be in the plan"),
        ({"timestep": torch.tensor([900, 800, 700])}, "one for all images or one each"),
        ({"timestep": torch.tensor([900, 2000])}, r"timesteps must be in 0..999, got 2000"),
        ({"eta": -0.1}, "eta must be a finite number from 0 to 1"),
        ({"eta": 1.5}, "eta must be a finite number from 0 to 1"),
        ({"eta": math.nan}, "eta must be"),
        ({"eta": "sigma_hatt"}, "did you mean 'sigma_hat'"),
        ({"variance_noise": torch.zeros(2, 3, 5)}, "variance_noise must have the sample's shape"),
        ({"variance_noise": torch.zeros(1, 3, 4)}, "variance_noise must have the sample's shape"),
        ({"variance_noise": torch.zeros(2, 3, 4, device="meta")}, "on meta"),
        ({"variance_noise": torch.zeros(2, 3, 4, dtype=torch.int32)}, "variance_noise must be floating point"),
        ({"variance_noise": X, "generator": torch.Generator()}, "not both"),
        ({"eta": 1.0, "generator": [torch.Generator()] * 3}, "one per image: 2 expected, got 3"),
    ],
)
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_step(arguments: dict, message: str, eta: float) -> None:
    """Noise is checked whether or not eta needs it."""
    given = {"model_output": X, "timestep": 900, "sample": X, "eta": eta, **arguments}
    with pytest.raises(DDIMError, match=message):
        planned().step(**given)


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, DDIMInverseScheduler])
def test_a_step_before_set_timesteps(scheduler_class) -> None:
    with pytest.raises(DDIMError, match=r"call set_timesteps\(num_inference_steps\) first"):
        scheduler_class().step(X, 0, X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": torch.zeros(2, 3, 5)}, "noise must have the sample's shape"),
        ({"timesteps": torch.tensor([1.0])}, "must be an integer tensor, got a torch.float32 tensor"),
        ({"timesteps": 5}, "integer tensor, got int"),
        ({"timesteps": torch.tensor([1, 2, 3])}, r"must have 1 entry, or one per image \(2\), got 3"),
        ({"timesteps": torch.tensor([1000])}, "in 0..999, got 1000"),
        ({"timesteps": torch.tensor([-1])}, "in 0..999, got -1"),
    ],
)
def test_the_forward_process(arguments: dict, message: str) -> None:
    given = {"noise": X, "timesteps": torch.tensor([5]), **arguments}
    with pytest.raises(DDIMError, match=message):
        DDIMScheduler().add_noise(X, **given)
    with pytest.raises(DDIMError, match=message):
        DDIMScheduler().get_velocity(X, **given)


def test_a_plan_of_another_noise_schedule() -> None:
    with pytest.raises(DDIMError, match=r"visits timestep 999, but the noise schedule has timesteps 0..99"):
        DDIMScheduler(num_train_timesteps=100).set_plan(make_schedule(1, timesteps=[999]).plan)


def test_the_message_is_an_instance_of_value_error_for_diffusers_users() -> None:
    assert issubclass(DDIMError, ValueError)


def test_the_tables_may_be_moved_but_not_changed() -> None:
    scheduler = DDIMScheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to("cpu")  # what training scripts do
    scheduler.betas = scheduler.betas.double()
    for name in ("alphas_cumprod", "betas"):
        with pytest.raises(DDIMError, match=f"{name} cannot be changed.*trained_betas"):
            setattr(scheduler, name, getattr(scheduler, name) * 0.5)


def test_rescaling_betas_by_mistake() -> None:
    with pytest.raises(DDIMError, match=r"pass torch.cumprod\(1 - betas, 0\)"):
        rescale_zero_terminal_snr(DDIMScheduler().betas)


def test_numpys_scalars_are_taken_for_what_they_are() -> None:
    config = DDIMScheduler(
        num_train_timesteps=np.int64(10),
        beta_end=np.float32(0.5),
        clip_sample=np.bool_(False),
        steps_offset=np.int32(1),
    ).config
    assert [type(config[name]) for name in ("num_train_timesteps", "beta_end", "clip_sample", "steps_offset")] == [
        int, float, bool, int
    ]  # fmt: skip


def test_steps_from_betas_above_one_are_refused_alone_and_in_a_batch() -> None:
    scheduler = DDIMScheduler(beta_start=0.1, beta_end=2.0, num_train_timesteps=20, clip_sample=False)
    scheduler.set_timesteps(20)
    x = torch.zeros(2, 3)
    scheduler.step(x, 3, x)
    for timestep in (11, torch.tensor([3, 11])):
        with pytest.raises(DDIMError, match=r"alpha_bar .*must be in \[0, 1\]"):
            scheduler.step(x, timestep, x)


def test_a_number_without_limits_is_described_without_limits() -> None:
    with pytest.raises(DDIMError, match="^seed must be a whole number, got 'a'$"):
        keyed_noise((1, 2), "a", 0)
    with pytest.raises(DDIMError, match="^guidance_scale must be a finite number, got nan$"):
        guided_model(lambda x, t: x, lambda x, t: x, float("nan"))
    with pytest.raises(DDIMError, match=r"^frames must be a whole number of at least 1, got 0$"):
        slerp_path(torch.zeros(2, 3), 0)
