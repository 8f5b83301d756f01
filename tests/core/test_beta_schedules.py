"""Beta schedules against diffusers' and the original code's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddim import BETA_SCHEDULES, DDIMScheduler, betas_from_alpha_bar, make_noise_schedule, rescale_zero_terminal_snr

START, END_, T = 0.0001, 0.02, 1000


def published(name: str) -> np.ndarray:
    """The formulas of the DDIM code (linear, quad, const, jsd, sigmoid), in numpy's float64."""
    if name == "linear":
        return np.linspace(START, END_, T)
    if name in ("quad", "scaled_linear"):
        return np.linspace(START**0.5, END_**0.5, T) ** 2
    if name == "const":
        return END_ * np.ones(T)
    if name == "jsd":
        return 1.0 / np.linspace(T, 1, T)
    sigmoid = 1 / (1 + np.exp(-np.linspace(-6, 6, T)))
    return sigmoid * (END_ - START) + START


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "quad", "const", "jsd", "sigmoid"])
def test_schedules_of_the_original_code(name: str) -> None:
    betas = make_noise_schedule(T, START, END_, name).betas.numpy()
    np.testing.assert_allclose(betas, published(name), rtol=1e-12)


@pytest.mark.parametrize(("name", "theirs"), [("squaredcos_cap_v2", "cosine"), ("laplace", "laplace"), ("exp", "exp")])
def test_schedules_of_diffusers_helper(name: str, theirs: str) -> None:
    module = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    expected = module.betas_for_alpha_bar(T, alpha_transform_type=theirs)
    torch.testing.assert_close(make_noise_schedule(T, START, END_, name).betas.float(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", BETA_SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 17, 1000])
def test_every_schedule_of_any_length_is_a_product_of_its_betas(name: str, total: int) -> None:
    noise = make_noise_schedule(total, START, END_, name)
    assert len(noise) == total and noise.betas.dtype == noise.alpha_bar.dtype == torch.float64
    assert bool((noise.betas >= 0).all()) and bool((noise.betas <= 1).all())
    np.testing.assert_allclose(noise.alpha_bar.numpy(), np.cumprod(1 - noise.betas.numpy()), rtol=1e-12)
    np.testing.assert_allclose(betas_from_alpha_bar(noise.alpha_bar).numpy()[:-1], noise.betas.numpy()[:-1], atol=1e-12)


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, lambda v: np.array(v, dtype=np.float32)])
def test_trained_betas_of_any_length_and_kind(make) -> None:
    scheduler = DDIMScheduler(trained_betas=make([0.1, 0.2, 0.3]), timestep_spacing="trailing")
    assert len(scheduler) == scheduler.config.num_train_timesteps == 3
    scheduler.set_timesteps(3)
    assert scheduler.timesteps.tolist() == [2, 1, 0]
    torch.testing.assert_close(scheduler.alphas_cumprod, torch.tensor([0.9, 0.72, 0.504]))


def test_levels_are_exact_where_float32_products_are_not() -> None:
    """1 - alpha_bar[0] is beta_start to the last bit of float64; a float32 product is off by 1.7e-4 there."""
    level = make_noise_schedule(T, START, END_, "linear").alpha_bar_at(0)
    assert math.isclose(1 - level, START, rel_tol=1e-12)
    rounded = make_noise_schedule(T, START, END_, "linear", parity="diffusers").alpha_bar_at(0)
    assert 1e-5 < abs((1 - rounded) / START - 1) < 1e-3


def test_the_final_level_is_one_or_the_first() -> None:
    for settings in ({}, {"rescale_betas_zero_snr": True}):
        for one in (True, False):
            noise = make_noise_schedule(**settings, set_alpha_to_one=one)
            assert noise.final_alpha_bar == noise.alpha_bar_at(-1) == (1.0 if one else noise.alpha_bar_at(0))


def test_rescaling_is_algorithm_1() -> None:
    levels = make_noise_schedule(T, 0.00085, 0.012, "scaled_linear").alpha_bar
    roots = levels.sqrt()
    expected = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    torch.testing.assert_close(rescale_zero_terminal_snr(levels).sqrt(), expected, rtol=1e-12, atol=0)
