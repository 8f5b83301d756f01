"""The inverse scheduler: the forward plan walked upwards, every spacing, every prediction type."""

from __future__ import annotations

import pytest
import torch

from ddim import END, TIMESTEP_SPACINGS, DDIMError, DDIMInverseScheduler, DDIMScheduler, make_schedule

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}


@pytest.mark.parametrize("parity", ["exact", "diffusers"])
@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
def test_its_pairs_are_the_forward_pairs_reversed(spacing: str, parity: str) -> None:
    for steps in (1, 2, 7, 30, 50, 333, 600, 1000):
        settings = {**SD, "timestep_spacing": spacing, "parity": parity}
        forward, inverse = DDIMScheduler(**settings), DDIMInverseScheduler(**settings)
        if parity == "diffusers" and spacing in ("linspace", "quad", "ays", "ays_sdxl"):
            with pytest.raises(DDIMError, match="nothing to reproduce|must be one of"):
                inverse.set_timesteps(steps)
            continue
        forward.set_timesteps(steps)
        inverse.set_timesteps(steps)
        assert inverse.pairs == tuple((t_next, t) for t, t_next in forward.plan.pairs[::-1])
        assert inverse.timesteps.tolist() == forward.timesteps.tolist()[::-1]


def test_one_plan_object_is_shared() -> None:
    schedule = make_schedule(20, DDIMScheduler(**SD, timestep_spacing="trailing").settings)
    forward, inverse = schedule.scheduler(), schedule.inverse_scheduler()
    assert forward.plan is inverse.plan is schedule.plan
    other = DDIMInverseScheduler(**SD)
    other.set_plan(forward.plan)
    assert other.plan is forward.plan and other.pairs[0] == (END, 49) and other.pairs[-1][1] == 999


@pytest.mark.parametrize("set_alpha_to_one", [True, False])
@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_a_step_down_undoes_a_step_up_when_the_model_says_the_same(prediction_type, spacing, set_alpha_to_one) -> None:
    """A step up from b to a and down again with one x_0 and epsilon is the identity: levels and pairs must match."""
    settings = {
        **SD,
        "prediction_type": prediction_type,
        "timestep_spacing": spacing,
        "set_alpha_to_one": set_alpha_to_one,
    }
    schedule = make_schedule(12, DDIMScheduler(**settings).settings)
    forward, inverse = schedule.scheduler(), schedule.inverse_scheduler()
    draw = torch.Generator().manual_seed(0)
    x0, epsilon = (torch.randn(2, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    level = schedule.noise.alpha_bar_at

    def at(alpha_bar: float) -> torch.Tensor:
        return alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * epsilon

    def output(alpha_bar: float) -> torch.Tensor:
        return {
            "epsilon": epsilon,
            "sample": x0,
            "v_prediction": alpha_bar**0.5 * epsilon - (1 - alpha_bar) ** 0.5 * x0,
        }[prediction_type]

    for t, (t_from, t_to) in zip(inverse.timesteps.tolist(), inverse.pairs, strict=True):
        assert t == t_to
        low, high = level(t_from), level(t_to)
        up = inverse.step(output(low), t, at(low))
        if prediction_type == "sample" and low == 1.0:
            # Without noise, x_0 alone does not determine epsilon: it is taken as 0, and nothing is infinite.
            torch.testing.assert_close(up.prev_sample, high**0.5 * x0)
        else:
            torch.testing.assert_close(up.prev_sample, at(high), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(up.pred_original_sample, x0, rtol=1e-9, atol=1e-9)
        down = forward.step(output(high), t, at(high)).prev_sample
        torch.testing.assert_close(down, at(low), rtol=1e-9, atol=1e-9)


def test_zero_snr_is_reached_and_finite() -> None:
    scheduler = DDIMInverseScheduler(
        **SD, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(10)
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        x = scheduler.step(0.3 * x, t, x).prev_sample
    assert bool(x.isfinite().all())


@pytest.mark.parametrize("data", ["six_modes"])
def test_inversion_and_sampling_meet_again_with_order_one(data, request) -> None:
    """Table 2 of 2010.02502: the round trip's error falls with the number of steps."""
    modes = request.getfixturevalue(data)
    x0 = modes.means + 0.3 * torch.randn(6, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    errors = []
    for steps in (10, 20, 50, 100):
        schedule = make_schedule(steps, DDIMScheduler(**SD, timestep_spacing="trailing").settings)
        model = modes.model(schedule.noise.alpha_bar, "epsilon")
        x = x0
        inverse, forward = schedule.inverse_scheduler(), schedule.scheduler()
        for t in inverse.timesteps:
            x = inverse.step(model(x, t), t, x).prev_sample
        for t in forward.timesteps:
            x = forward.step(model(x, t), t, x).prev_sample
        errors.append(float((x - x0).square().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 10, errors


def test_a_timestep_per_image() -> None:
    scheduler = DDIMInverseScheduler(**SD)
    scheduler.set_timesteps(10)
    draw = torch.Generator().manual_seed(0)
    x, m = (torch.randn(3, 2, 4, generator=draw) for _ in range(2))
    t = torch.tensor([0, 500, 900])
    expected = [scheduler.step(m[i : i + 1], int(t[i]), x[i : i + 1]).prev_sample for i in range(3)]
    torch.testing.assert_close(scheduler.step(m, t, x).prev_sample, torch.cat(expected))


def test_its_tables_and_start() -> None:
    for set_alpha_to_one in (True, False):
        forward = DDIMScheduler(**SD, set_alpha_to_one=set_alpha_to_one)
        inverse = DDIMInverseScheduler(**SD, set_alpha_to_one=set_alpha_to_one)
        assert torch.equal(inverse.alphas_cumprod, forward.alphas_cumprod)
        assert inverse.initial_alpha_cumprod == forward.final_alpha_cumprod
        assert inverse.timesteps.tolist() == list(range(1000))
