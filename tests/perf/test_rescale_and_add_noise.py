"""Guidance with rescale, and added noise, against float64."""

from __future__ import annotations

import pytest
import torch

import ddim


def rescaled(cfg: torch.Tensor, text: torch.Tensor, phi: float) -> torch.Tensor:
    """2305.08891, equations (14) to (16), in float64, by torch's own standard deviation."""
    cfg, text = cfg.double(), text.double()
    shape = (-1, *[1] * (cfg.ndim - 1))
    std_cfg, std_text = (x.flatten(1).std(1).reshape(shape) for x in (cfg, text))
    return phi * cfg * std_text / std_cfg + (1 - phi) * cfg


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 2048), (2, 16384), (1, 3, 300, 301), (5, 4, 16, 16), (2, 2)])
@pytest.mark.parametrize("mean", [0.0, 0.5, 100.0, 1e4])
@pytest.mark.parametrize("phi", [0.3, 0.7, 1.0])
def test_rescale_is_that_of_float64(shape, mean, phi):
    cfg, text = 3 * drawn(shape, 3) + mean, drawn(shape, 4) - mean
    expected = rescaled(cfg, text, phi)
    found = ddim.rescale_noise_cfg(cfg, text, phi)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-6 * (1 + mean))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rescale_of_half_precision_is_rounded_once(dtype):
    cfg, text = drawn((2, 4, 32, 32), 3, dtype) * 3, drawn((2, 4, 32, 32), 4, dtype)
    found = ddim.rescale_noise_cfg(cfg, text, 0.7)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), rescaled(cfg, text, 0.7), rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("value", [1.0, -7.5, 0.7, 0.1, -1e4 / 3])  # the mean of many 0.7 is not 0.7 in float32
@pytest.mark.parametrize("shape", [(2, 4096), (2, 3, 4), (3, 1)])
def test_an_image_whose_guided_prediction_is_constant_stays_as_it_is(value, shape):
    cfg, text = torch.full(shape, value), drawn(shape, 1)
    torch.testing.assert_close(ddim.rescale_noise_cfg(cfg, text, 0.7), cfg, rtol=1e-7, atol=0)
    among_others = torch.cat([cfg, 3 * text])
    found = ddim.rescale_noise_cfg(among_others, torch.cat([text, text]), 0.7)
    torch.testing.assert_close(found[: len(cfg)], cfg, rtol=1e-7, atol=0)
    if shape[1] > 1:
        torch.testing.assert_close(found[len(cfg) :].double(), rescaled(3 * text, text, 0.7), rtol=2e-6, atol=1e-6)


def test_images_of_one_element_have_no_deviation_and_stay_as_they_are():
    cfg, text = drawn((3, 1), 1), drawn((3, 1), 2)
    torch.testing.assert_close(ddim.rescale_noise_cfg(cfg, text, 0.7), cfg)


def test_a_constant_conditional_prediction_leaves_what_phi_leaves():
    cfg = drawn((1, 4096), 1)
    torch.testing.assert_close(ddim.rescale_noise_cfg(cfg, torch.full_like(cfg, 0.7), 0.75), 0.25 * cfg)


def test_deviations_beyond_half_precision_do_not_overflow():
    cfg, text = 4000 * drawn((1, 4096), 1, torch.float16), 1000 * drawn((1, 4096), 2, torch.float16)
    found = ddim.rescale_noise_cfg(cfg, text, 1.0)
    torch.testing.assert_close(found.double(), rescaled(cfg, text, 1.0), rtol=2**-10, atol=0)


def test_nan_in_one_image_does_not_reach_the_others():
    cfg, text = drawn((2, 64), 1), drawn((2, 64), 2)
    expected = ddim.rescale_noise_cfg(cfg, text, 0.7)
    text[0, 5] = torch.nan
    found = ddim.rescale_noise_cfg(cfg, text, 0.7)
    assert found[0].isnan().all()
    assert torch.equal(found[1], expected[1])


def test_rescale_has_gradients():
    cfg, text = (drawn((2, 5), seed).double().requires_grad_() for seed in (1, 2))
    torch.autograd.gradcheck(lambda cfg, text: ddim.rescale_noise_cfg(cfg, text, 0.7), (cfg, text))


def test_guide_is_guidance_and_then_rescale():
    uncond, text = drawn((2, 4, 32, 32), 1), drawn((2, 4, 32, 32), 2)
    guided = uncond.double() + 7.5 * (text.double() - uncond.double())
    torch.testing.assert_close(ddim.guide(uncond, text, 7.5).double(), guided, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        ddim.guide(uncond, text, 7.5, 0.7).double(), rescaled(guided, text, 0.7), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(ddim.guide(uncond, text, 1.0), text) and torch.equal(ddim.guide(uncond, text, 0.0), uncond)


@pytest.mark.parametrize("timesteps", [[7], [7, 7, 7], [0, 500, 999]])
@pytest.mark.parametrize("size", [4, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["add_noise", "get_velocity"])
def test_added_noise_is_that_of_float64(timesteps, size, dtype, name):
    scheduler = ddim.DDIMScheduler()
    x, z = (drawn((3, 4, size, size), i, dtype) for i in (0, 1))
    a = scheduler.noise_schedule.alpha_bar[timesteps].reshape(-1, 1, 1, 1)
    first, second = (x, z) if name == "add_noise" else (z, -x)
    expected = a.sqrt() * first.double() + (1 - a).sqrt() * second.double()
    found = getattr(scheduler, name)(x, z, torch.tensor(timesteps))
    assert found.dtype == dtype
    half = torch.finfo(dtype).eps if dtype in (torch.float16, torch.bfloat16) else 0.0
    absolute = 1e-14 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(found.double(), expected, rtol=half, atol=absolute)
