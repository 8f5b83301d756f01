"""A timestep per image: the step that parallel sampling needs, with and without noise."""

from __future__ import annotations

import pytest
import torch

from ddim import DDIMScheduler

SETTINGS = [
    {"prediction_type": "epsilon", "clip_sample": False},
    {"prediction_type": "sample", "clip_sample": True},
    {
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
    {"prediction_type": "epsilon", "thresholding": True, "sample_max_value": 2.0, "set_alpha_to_one": False},
]


def planned(**settings) -> DDIMScheduler:
    scheduler = DDIMScheduler(**settings)
    scheduler.set_timesteps(20)
    return scheduler


def tensors(count: int, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, 3, 4, generator=draw, dtype=dtype) for _ in range(3))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0, "sigma_hat"])
@pytest.mark.parametrize("use_clipped", [False, True])
def test_every_image_gets_the_step_it_would_get_alone(settings: dict, eta, use_clipped: bool) -> None:
    """Over the whole plan at once: this also holds the tensor formulas to the scalar ones at every level."""
    scheduler = planned(**settings)
    x, m, z = tensors(20)
    together = scheduler.step(
        m, scheduler.timesteps, x, eta=eta, use_clipped_model_output=use_clipped, variance_noise=z
    )
    for i, t in enumerate(scheduler.timesteps):
        one = slice(i, i + 1)
        alone = scheduler.step(m[one], t, x[one], eta=eta, use_clipped_model_output=use_clipped, variance_noise=z[one])
        torch.testing.assert_close(together.prev_sample[one], alone.prev_sample, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(
            together.pred_original_sample[one], alone.pred_original_sample, rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_batch_step_no_noise_is_the_step_without_its_noise(eta: float) -> None:
    scheduler = planned(clip_sample=False, timestep_spacing="trailing")
    x, m, _ = tensors(4)
    t = scheduler.timesteps[[0, 5, 5, 19]]
    expected = scheduler.step(m, t, x, eta=eta, variance_noise=torch.zeros_like(x)).prev_sample
    torch.testing.assert_close(scheduler.batch_step_no_noise(m, t, x, eta), expected)


def test_images_at_different_timesteps_draw_the_noise_they_would_draw_alone() -> None:
    scheduler = planned(clip_sample=False)
    x, m, _ = tensors(3, torch.float32)
    t = scheduler.timesteps[[2, 7, 7]]
    together = scheduler.step(m, t, x, eta=1.0).prev_sample
    for i in range(3):
        batch = scheduler.step(m, t[i], x, eta=1.0).prev_sample  # image i of the same batch, all at its timestep
        torch.testing.assert_close(together[i], batch[i], rtol=0, atol=1e-6)
    assert not torch.equal(together[1], together[2])


def test_parallel_sweeps_end_where_the_sequential_loop_ends(six_modes) -> None:
    """Picard iteration over all steps at once (ParaDiGMS) ends, after S sweeps, at the sequential result."""
    scheduler = planned(clip_sample=False, set_alpha_to_one=False)
    levels = scheduler.noise_schedule.alpha_bar.tolist()
    timesteps = scheduler.timesteps
    start = torch.randn(1, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = start
    for t in timesteps:
        x = scheduler.step(six_modes.output(x, levels[int(t)], "epsilon"), t, x).prev_sample
    path = start.repeat(len(timesteps) + 1, 1)
    for _ in range(len(timesteps)):
        outputs = [six_modes.output(path[i], levels[int(t)], "epsilon") for i, t in enumerate(timesteps)]
        stepped = scheduler.batch_step_no_noise(torch.stack(outputs), timesteps, path[:-1])
        drift = stepped - path[:-1]
        path = torch.cat([start, start + drift.cumsum(0)])
    torch.testing.assert_close(path[-1:], x, rtol=1e-9, atol=1e-9)
