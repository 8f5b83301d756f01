"""Sampling parallel in time gives the sequential run, with fewer model calls."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ddim

SHAPE = (3, 4, 3)
CENTRES = torch.randn((5, 12), generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def mixture(scheduler, calls=None):
    """The exact velocity of a mixture of five Gaussians of deviation 0.3."""
    levels = torch.tensor(
        [scheduler.coefficients(i).x0.x ** 2 for i in range(len(scheduler.plan))], dtype=torch.float64
    )
    table = torch.zeros(len(scheduler), dtype=torch.float64)
    table[list(scheduler.plan.timesteps)] = levels

    def model(x, t):
        if calls is not None:
            calls.append((tuple(x.shape), t.shape))
        rows = x.double().flatten(1)
        a = table[t].reshape(-1, 1)
        variance = 0.09 * a + 1 - a
        distance = (rows[:, None] - a.sqrt()[..., None] * CENTRES).square().sum(-1)
        mean = torch.softmax(-distance / (2 * variance), dim=1) @ CENTRES
        x0 = mean + a.sqrt() * 0.09 / variance * (rows - a.sqrt() * mean)
        epsilon = (rows - a.sqrt() * x0) / (1 - a).sqrt()
        return (a.sqrt() * epsilon - (1 - a).sqrt() * x0).reshape(x.shape).to(x.dtype)

    return model


def scheduler_of(steps: int, **settings) -> ddim.DDIMScheduler:
    config = ddim.SchedulerConfig(prediction_type="v_prediction", timestep_spacing="trailing", **settings)
    return ddim.make_schedule(steps, config).scheduler()


def start(dtype=torch.float64):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings_", [{"clip_sample": False}, {"thresholding": True, "sample_max_value": 2.0}])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_window_of_one_is_the_sequential_run_bit_for_bit(dtype, settings_, eta):
    scheduler, calls = scheduler_of(12, **settings_), []
    model = mixture(scheduler, calls)
    result = ddim.sample_parallel(model, start(dtype), scheduler, window=1, eta=eta, seed=5)
    assert calls == [(SHAPE, torch.Size([]))] * 12
    assert torch.equal(result.sample, ddim.sample(model, start(dtype), scheduler, eta=eta, seed=5))
    assert (result.model_calls, result.evaluations) == (12, 12)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(1, 30),
    window=st.integers(1, 40),
    eta=st.sampled_from([0.0, 0.5, 1.0, "sigma_hat"]),
    clip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tolerance_zero_gives_the_sequential_run_whatever_the_window(steps, window, eta, clip, seed):
    scheduler = scheduler_of(steps, clip_sample=clip, rescale_betas_zero_snr=True)
    model, x = mixture(scheduler), start()
    before = x.clone()
    result = ddim.sample_parallel(model, x, scheduler, window=window, tolerance=0.0, eta=eta, seed=seed)
    expected = ddim.sample(model, x, scheduler, eta=eta, seed=seed)
    torch.testing.assert_close(result.sample, expected, rtol=1e-9, atol=1e-10)
    assert result.model_calls <= steps
    assert torch.equal(x, before)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_many_steps_need_few_calls_and_a_small_tolerance_a_small_error(eta):
    scheduler = scheduler_of(400, clip_sample=False)
    model, errors = mixture(scheduler), []
    expected = ddim.sample(model, start(), scheduler, eta=eta, seed=2)
    for tolerance in (1e-2, 1e-4, 1e-6):
        run = ddim.sample_parallel(model, start(), scheduler, window=64, tolerance=tolerance, eta=eta, seed=2)
        errors.append(float((run.sample - expected).square().mean().sqrt()))
        assert run.model_calls < 400 / 5
        assert errors[-1] < 10 * tolerance
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("source", ["generator", "generators", "given"])
def test_all_sources_of_noise_give_the_noise_of_the_sequential_run(source):
    def sources():
        return {
            "generator": {"generator": torch.Generator().manual_seed(3)},
            "generators": {"generator": [torch.Generator().manual_seed(i) for i in range(3)]},
            "given": {"variance_noise": torch.randn((15, *SHAPE), generator=torch.Generator().manual_seed(4))},
        }[source]

    scheduler = scheduler_of(15, clip_sample=False)
    model = mixture(scheduler)
    run = ddim.sample_parallel(model, start(), scheduler, window=6, tolerance=0.0, eta=1.0, **sources())
    torch.testing.assert_close(run.sample, ddim.sample(model, start(), scheduler, eta=1.0, **sources()))


def test_progress_is_told_and_arguments_are_checked():
    scheduler, told = scheduler_of(20, clip_sample=False), []
    run = ddim.sample_parallel(
        mixture(scheduler), start(), scheduler, window=8, callback=lambda done, steps: told.append((done, steps))
    )
    assert told[-1] == (20, 20) and len(told) == run.model_calls
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    for wrong in ({"window": 0}, {"window": 2, "tolerance": -1.0}, {"window": 2, "eta": 3.0}):
        with pytest.raises(ddim.DDIMError, match="|".join(wrong)):
            ddim.sample_parallel(mixture(scheduler), start(), scheduler, **wrong)


@pytest.mark.parametrize("window", [1, 6])
def test_a_model_may_return_a_guided_pair(window):
    scheduler = scheduler_of(15, clip_sample=False)
    model = mixture(scheduler)

    def guided(x, t):
        return ddim.Guided(model(0.5 * x, t), model(x, t), 3.0, 0.7)

    run = ddim.sample_parallel(guided, start(), scheduler, window=window, tolerance=0.0)
    torch.testing.assert_close(run.sample, ddim.sample(guided, start(), scheduler))


@pytest.mark.parametrize("window", [1, 6])
def test_an_output_of_another_shape_is_refused(window):
    scheduler = scheduler_of(15, clip_sample=False)
    with pytest.raises(ddim.DDIMError, match="must return a floating-point tensor of shape"):
        ddim.sample_parallel(lambda x, t: x[:1], start(), scheduler, window=window)
