"""Zero terminal SNR: exactly zero, finite for every step count and eta, and epsilon refused."""

from __future__ import annotations

import math

import pytest
import torch

from ddim import DDIMError, DDIMScheduler, make_plan, make_schedule, sample
from ddim.step.equations import step_coefficients
from ddim.step.levels import Levels

ZERO_SNR = {"rescale_betas_zero_snr": True, "clip_sample": False, "timestep_spacing": "trailing"}
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "jsd", "laplace", "exp")


@pytest.mark.parametrize("beta_schedule", SCHEDULES)
def test_the_last_level_is_exactly_zero_and_the_first_is_kept(beta_schedule: str) -> None:
    plain = DDIMScheduler(beta_schedule=beta_schedule).noise_schedule.alpha_bar
    zero = DDIMScheduler(beta_schedule=beta_schedule, rescale_betas_zero_snr=True).noise_schedule.alpha_bar
    assert zero[-1] == 0.0 and bool((zero[:-1] > 0).all()) and bool((zero.diff() < 0).all())
    assert math.isclose(zero[0], plain[0], rel_tol=1e-12)


@pytest.mark.parametrize(
    ("spacing", "prediction_type"),
    [
        ("trailing", "v_prediction"),
        ("linspace", "v_prediction"),
        ("leading", "v_prediction"),
        ("quad", "v_prediction"),
        ("trailing", "sample"),
    ],
)
def test_no_step_is_nan_for_any_step_count_and_any_eta(spacing: str, prediction_type: str) -> None:
    """The half a million steps of all plans at once, by the function that fills a scheduler's table."""
    scheduler = DDIMScheduler(**{**ZERO_SNR, "timestep_spacing": spacing, "prediction_type": prediction_type})
    total, table = len(scheduler.noise_schedule), scheduler.noise_schedule.table.levels
    pairs = torch.cat([torch.tensor(make_plan(steps, total, spacing).pairs) for steps in range(1, total + 1)])
    assert len(pairs) == total * (total + 1) // 2
    before, after = pairs[:, 0], torch.where(pairs[:, 1] < 0, total, pairs[:, 1])
    at, to = (Levels(table.alpha[index], table.sigma[index]) for index in (before, after))
    for eta in (0.0, 0.37, 1.0):
        c = step_coefficients(at, to, prediction_type, eta)
        for values in (c.step.x, c.step.m, c.direction, c.sigma, c.alpha_next):
            assert bool(torch.as_tensor(values).isfinite().all()), eta


def test_a_scheduler_steps_by_the_coefficients_of_all_plans() -> None:
    scheduler = DDIMScheduler(**ZERO_SNR, prediction_type="v_prediction")
    table = scheduler.noise_schedule.table.levels
    for steps in (1, 2, 7, 61, 1000):
        scheduler.set_timesteps(steps)
        for i in {0, steps // 2, steps - 1}:
            t, t_next = scheduler.plan.pairs[i]
            at, to = (Levels(table.alpha[[index]], table.sigma[[index]]) for index in (t, t_next))
            expected = step_coefficients(at, to, "v_prediction", 0.37)
            c = scheduler.coefficients(i, 0.37)
            assert [c.step.x, c.step.m, c.direction, c.sigma] == [
                float(value) for value in (expected.step.x, expected.step.m, expected.direction, expected.sigma)
            ]


@pytest.mark.parametrize("steps", [6, 10, 24, 25, 28, 30, 50, 60])
def test_eta_1_samples_where_diffusers_may_give_nan(steps: int) -> None:
    scheduler = make_schedule(steps, DDIMScheduler(**ZERO_SNR, prediction_type="v_prediction").settings).scheduler()
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    end = sample(lambda x, t: 0.5 * x, x, scheduler, eta=1.0, seed=1)
    assert bool(end.isfinite().all())


def test_parity_diffusers_says_where_diffusers_gives_nan() -> None:
    """For which counts the radicand rounds below zero is a matter of the machine: both must agree on each."""
    diffusers = pytest.importorskip("diffusers")
    stable = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    settings = {**ZERO_SNR, **stable, "prediction_type": "v_prediction"}
    theirs, ours = diffusers.DDIMScheduler(**settings), DDIMScheduler(**settings, parity="diffusers")
    x = torch.ones(1, 1)
    for steps in range(1, 101):
        theirs.set_timesteps(steps)
        ours.set_timesteps(steps)
        expected = theirs.step(x, 999, x, eta=1.0, variance_noise=x).prev_sample
        if bool(expected.isfinite().all()):
            torch.testing.assert_close(ours.step(x, 999, x, eta=1.0, variance_noise=x).prev_sample, expected)
        else:
            with pytest.raises(DDIMError, match="diffusers gives NaN.*parity='exact'"):
                ours.step(x, 999, x, eta=1.0, variance_noise=x)


def test_epsilon_is_refused_with_advice_before_any_model_is_called() -> None:
    scheduler = DDIMScheduler(**ZERO_SNR)
    with pytest.raises(DDIMError, match="use prediction_type='v_prediction'"):
        scheduler.set_timesteps(10)
    scheduler = DDIMScheduler(**{**ZERO_SNR, "timestep_spacing": "leading"})
    scheduler.set_timesteps(10)  # never visits the last timestep


def test_the_first_step_from_pure_noise_is_the_mean_of_the_data() -> None:
    """At alpha_bar 0 a v-prediction is -x_0: the sample itself plays no part in x_0."""
    scheduler = DDIMScheduler(**ZERO_SNR, prediction_type="v_prediction")
    scheduler.set_timesteps(10)
    v = torch.linspace(-1, 1, 12).reshape(1, 3, 4)
    for x in (torch.zeros(1, 3, 4), torch.full((1, 3, 4), 1e3)):
        assert torch.equal(scheduler.step(v, 999, x).pred_original_sample, -v)
