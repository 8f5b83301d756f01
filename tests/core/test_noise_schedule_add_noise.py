"""``NoiseSchedule.add_noise``: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) z, without a scheduler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddim import DDIMError, DDIMScheduler, NoiseSchedule, keyed_noise, make_noise_schedule, make_schedule

TOTAL = 1000
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SCHEDULES: tuple[dict[str, Any], ...] = (
    {},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"rescale_betas_zero_snr": True},
)


def clean_and_noise(dtype: torch.dtype, count: int = 2) -> tuple[Tensor, Tensor]:
    return keyed_noise((count, 3, 5), 1, 0).to(dtype), keyed_noise((count, 3, 5), 2, 0).to(dtype)


def exact(settings: dict[str, Any]) -> np.ndarray:
    """alpha_bar of every timestep in float64, from the definitions."""
    start, end = settings.get("beta_start", 0.0001), settings.get("beta_end", 0.02)
    if settings.get("beta_schedule") == "scaled_linear":
        betas = np.linspace(np.sqrt(start), np.sqrt(end), TOTAL) ** 2
    else:
        betas = np.linspace(start, end, TOTAL)
    levels = np.cumprod(1 - betas)
    if settings.get("rescale_betas_zero_snr"):
        roots = np.sqrt(levels)
        levels = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return levels


@pytest.mark.parametrize("settings", SCHEDULES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_timestep_is_equation_four_rounded_once(settings: dict[str, Any], dtype: torch.dtype) -> None:
    """Against float64; all timesteps as one batch of images."""
    x0, z = clean_and_noise(dtype, TOTAL)
    levels = torch.from_numpy(exact(settings))[:, None, None]
    found = make_noise_schedule(**settings).add_noise(x0, z, torch.arange(TOTAL))
    expected = levels.sqrt() * x0.double() + (1 - levels).sqrt() * z.double()
    terms = levels.sqrt() * x0.double().abs() + (1 - levels).sqrt() * z.double().abs()
    # Half precision is summed in float32 and rounded once; the terms may cancel, so they bound the error.
    rounding = 2 * torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps * terms
    if dtype in (torch.float16, torch.bfloat16):
        rounding = rounding + 0.51 * torch.finfo(dtype).eps * expected.abs() + torch.finfo(dtype).smallest_normal
    assert found.dtype == dtype
    # A float64 table is a product of up to a thousand rounded factors.
    assert bool(((found.double() - expected).abs() <= rounding + TOTAL * torch.finfo(torch.float64).eps).all())


@pytest.mark.parametrize("settings", SCHEDULES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_it_equals_the_schedulers_add_noise_at_every_timestep(settings: dict[str, Any], dtype: torch.dtype) -> None:
    """For a number, a tensor with one timestep, and one timestep per image."""
    x0, z = clean_and_noise(dtype)
    scheduler, noise = DDIMScheduler(**settings), make_noise_schedule(**settings)
    for t in range(TOTAL):
        expected = scheduler.add_noise(x0, z, torch.tensor([t]))
        assert torch.equal(noise.add_noise(x0, z, t), expected)
        assert torch.equal(noise.add_noise(x0, z, torch.tensor(t)), expected)
    each = torch.tensor([3, TOTAL - 1])
    assert torch.equal(noise.add_noise(x0, z, each), scheduler.add_noise(x0, z, each))
    assert torch.equal(noise.add_noise(x0, z, each.to(torch.int32)), scheduler.add_noise(x0, z, each))


def test_every_way_to_a_noise_schedule_adds_the_same_noise() -> None:
    x0, z = clean_and_noise(torch.float32)
    scheduler = DDIMScheduler()
    expected = scheduler.add_noise(x0, z, torch.tensor([600]))
    for noise in (scheduler.noise_schedule, make_schedule(10).noise, make_noise_schedule()):
        assert isinstance(noise, NoiseSchedule)
        assert torch.equal(noise.add_noise(x0, z, 600), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_at_zero_snr_it_is_the_noise_and_nothing_else(dtype: torch.dtype) -> None:
    x0, z = clean_and_noise(dtype)
    noise = make_noise_schedule(rescale_betas_zero_snr=True)
    assert torch.equal(noise.add_noise(x0, z, TOTAL - 1), z)


def test_inputs_are_not_modified_and_gradients_flow() -> None:
    x0, z = clean_and_noise(torch.float64)
    before = x0.clone(), z.clone()
    result = make_noise_schedule().add_noise(x0.requires_grad_(), z.requires_grad_(), 400)
    result.sum().backward()
    level = exact({})[400]
    assert torch.allclose(x0.grad, torch.full_like(x0, np.sqrt(level)))
    assert torch.allclose(z.grad, torch.full_like(z, np.sqrt(1 - level)))
    assert torch.equal(x0, before[0]) and torch.equal(z, before[1])
    assert result.data_ptr() not in (x0.data_ptr(), z.data_ptr())


@pytest.mark.parametrize(
    "t",
    [
        -1,
        TOTAL,
        1.5,
        "3",
        None,
        True,
        torch.tensor(-1),
        torch.tensor([0, TOTAL]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([True, False]),
        torch.tensor([1, 2, 3]),
        torch.tensor([], dtype=torch.int64),
    ],
    ids=repr,
)
def test_a_wrong_timestep_is_refused(t: Any) -> None:
    x0, z = clean_and_noise(torch.float32)
    with pytest.raises(DDIMError, match="timestep"):
        make_noise_schedule().add_noise(x0, z, t)


def test_noise_that_does_not_fit_is_refused() -> None:
    x0, z = clean_and_noise(torch.float32)
    with pytest.raises(DDIMError, match="noise"):
        make_noise_schedule().add_noise(x0, z[:1], 3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_samples_that_are_not_floating_point_are_refused(dtype) -> None:
    noise = torch.zeros(2, 3)
    for x0, z in ((noise.to(dtype), noise), (noise, noise.to(dtype))):
        with pytest.raises(DDIMError, match="must be floating point"):
            make_noise_schedule().add_noise(x0, z, 5)
