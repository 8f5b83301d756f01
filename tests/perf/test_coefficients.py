"""The coefficients of a plan, as floats, as tensors for each image and compiled, against 50 decimal digits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import ddim
from ddim.parity import parity_of
from ddim.step.coefficients import StepTable
from ddim.step.equations import StepCoefficients

# Measured: 1.1e-13 at most, for the weight of the model output in 1000 steps, a small difference of large numbers.
TOLERANCE = 1e-12
ETAS = [("epsilon", 0.0), ("epsilon", 1.0), ("sample", 0.3), ("v_prediction", "sigma_hat"), ("v_prediction", 1.0)]
SETTINGS = [
    {},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "set_alpha_to_one": False},
    {"beta_schedule": "squaredcos_cap_v2"},
]
COUNTS = (1, 2, 7, 50, 333, 1000)


def numbers(c: StepCoefficients) -> list[float]:
    return [float(value) for value in (*c.x0, *c.epsilon, *c.rederived, c.alpha_next, c.direction, c.sigma, *c.step)]


def assert_same(found: list[list[float]], expected: list[list[float]]) -> None:
    # At zero SNR with eta 1 the weight of epsilon is exactly 0, to which 50 digits come as near as 1e-25.
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=TOLERANCE, atol=1e-20)


class Truth:
    """The oracle's coefficients of a step, found once for all plans that hold it."""

    def __init__(self, oracle, scheduler: ddim.DDIMScheduler, eta: float | str) -> None:
        levels, end = scheduler.noise_schedule.alpha_bar.tolist(), scheduler.noise_schedule.final_alpha_bar
        kind = scheduler.settings.prediction_type
        self.of = cache(
            lambda t, t_next: numbers(oracle.coefficients(levels[t], levels[t_next] if t_next >= 0 else end, kind, eta))
        )


def table_of(scheduler: ddim.DDIMScheduler, steps: int) -> StepTable:
    scheduler.set_timesteps(steps)
    return StepTable(
        scheduler.noise_schedule.table,
        dict(scheduler.plan.pairs),
        scheduler.settings.prediction_type,
        parity_of("exact"),
    )


@pytest.mark.parametrize(("prediction", "eta"), ETAS)
def test_plans_of_many_lengths_have_the_papers_coefficients(oracle, prediction, eta):
    scheduler = ddim.DDIMScheduler(prediction_type=prediction)
    truth = Truth(oracle, scheduler, eta)
    for steps in range(1 + ETAS.index((prediction, eta)), 1001, 3 * len(ETAS)):
        table = table_of(scheduler, steps)
        pairs = scheduler.plan.pairs
        assert_same([numbers(table.row(*pair, eta)) for pair in pairs], [truth.of(*pair) for pair in pairs])


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "quad"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("prediction", "eta"), ETAS)
def test_other_spacings_and_schedules_have_them_too(oracle, spacing, settings, prediction, eta):
    zero_snr = prediction != "epsilon"
    scheduler = ddim.DDIMScheduler(
        prediction_type=prediction, timestep_spacing=spacing, rescale_betas_zero_snr=zero_snr, **settings
    )
    truth = Truth(oracle, scheduler, eta)
    for steps in COUNTS:
        scheduler.set_timesteps(steps)
        found = [numbers(scheduler.coefficients(i, eta)) for i in range(steps)]
        assert_same(found, [truth.of(*pair) for pair in scheduler.plan.pairs])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("prediction", "eta"), ETAS[1:4])
def test_a_step_of_each_image_has_the_same_coefficients(oracle, prediction, eta, compiled):
    scheduler = ddim.DDIMScheduler(prediction_type=prediction)
    truth, table = Truth(oracle, scheduler, eta), table_of(scheduler, 1000)
    timesteps, like = scheduler.timesteps.flip(0), torch.empty((1000, 3, 2))

    def all_images(timesteps: torch.Tensor) -> StepCoefficients:
        return table.per_image(timesteps, like, eta)

    if compiled:
        torch._dynamo.reset()
        all_images = torch.compile(all_images, fullgraph=True, backend="eager")
    c = all_images(timesteps)
    columns = (*c.x0, *c.epsilon, *c.rederived, c.alpha_next, c.direction, c.sigma, *c.step)
    assert all(column.shape == (1000, 1, 1) and column.dtype == torch.float64 for column in columns)
    found = torch.stack(columns).flatten(1).T
    assert_same(found.tolist(), [truth.of(*pair) for pair in reversed(scheduler.plan.pairs)])


@pytest.mark.parametrize("prediction", ddim.PREDICTION_TYPES)
def test_steps_upwards_have_the_coefficients_of_eta_0(oracle, prediction):
    scheduler = ddim.DDIMInverseScheduler(prediction_type=prediction)
    scheduler.set_timesteps(50)
    levels, end = scheduler.noise_schedule.alpha_bar.tolist(), scheduler.noise_schedule.final_alpha_bar
    upwards = [(levels[t_next] if t_next >= 0 else end, levels[t]) for t, t_next in reversed(scheduler.plan.pairs)]
    expected = [numbers(oracle.coefficients(*pair, prediction, 0.0)) for pair in upwards]
    assert_same([numbers(scheduler.coefficients(i)) for i in range(50)], expected)


def test_many_etas_in_one_run_give_what_each_gives_alone():
    """More than a table keeps whole: their rows are computed one by one."""
    scheduler = ddim.DDIMScheduler()
    scheduler.set_timesteps(20)
    for eta in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, "sigma_hat", 0.1, 0.6):
        fresh = ddim.DDIMScheduler()
        fresh.set_timesteps(20)
        for i in range(20):
            assert numbers(scheduler.coefficients(i, eta)) == numbers(fresh.coefficients(i, eta))
