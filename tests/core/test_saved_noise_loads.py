"""A file that ``save_noise`` writes is never refused by ``load_noise``.

Whatever cannot be read back must be refused when it is written, while the inversion is still there to be saved in
another way, and then no file is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddim import (
    INVERSION_METHODS,
    TIMESTEP_SPACINGS,
    DDIMError,
    DDIMScheduler,
    Inversion,
    SchedulerConfig,
    invert,
    keyed_noise,
    load_noise,
    make_schedule,
    save_noise,
)

LARGEST = 1_000_000  # timesteps that a configuration may have


def small_model(x: Tensor, t: Tensor) -> Tensor:
    return 0.3 * torch.tanh(x)


def inverted(steps: int = 4, method: str = "variance_noise", **settings: Any) -> Inversion:
    scheduler = DDIMScheduler(**({"clip_sample": False, "prediction_type": "v_prediction"} | settings))
    scheduler.set_timesteps(steps)
    return invert(small_model, keyed_noise((1, 2, 3), 0, 0), scheduler, method=method, seed=1, check=False)


def assert_same(found: Inversion, expected: Inversion) -> None:
    for field in dataclasses.fields(Inversion):
        mine, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(mine, Tensor):
            assert mine.dtype == other.dtype and torch.equal(mine.isnan(), other.isnan()), field.name
            assert torch.equal(mine.nan_to_num(), other.nan_to_num()), field.name
        elif field.name == "schedule":
            assert mine.plan == other.plan
            assert mine.alpha_bars == other.alpha_bars
        else:
            assert mine == other, field.name


def assert_comes_back(inversion: Inversion, folder: Path, **changed: Any) -> None:
    """The file gives back the same inversion, except for the fields that are named."""
    path = folder / "noise.safetensors"
    save_noise(inversion, path)
    assert_same(load_noise(path), dataclasses.replace(inversion, **changed))


def test_a_configuration_has_no_more_timesteps_than_the_largest_tested_here() -> None:
    SchedulerConfig(num_train_timesteps=LARGEST)
    with pytest.raises(DDIMError, match="num_train_timesteps"):
        SchedulerConfig(num_train_timesteps=LARGEST + 1)


@pytest.mark.parametrize("total", [1, 1000, 100_000, 100_001, LARGEST])
def test_a_schedule_of_any_length_comes_back(total: int, tmp_path: Path) -> None:
    # Betas that leave something of the image at the end, whatever the length.
    settings = {"num_train_timesteps": total, "beta_start": 1e-9, "beta_end": 1e-6}
    assert_comes_back(inverted(min(4, total), **settings), tmp_path)


@pytest.mark.parametrize("method", INVERSION_METHODS)
def test_every_method_comes_back_from_the_longest_schedule(method: str, tmp_path: Path) -> None:
    settings = {"num_train_timesteps": LARGEST, "beta_start": 1e-9, "beta_end": 1e-6}
    assert_comes_back(inverted(3, method, **settings), tmp_path)


@pytest.mark.parametrize("total", [1000, 100_000])
def test_a_run_through_every_timestep_comes_back(total: int, tmp_path: Path) -> None:
    config = SchedulerConfig(num_train_timesteps=total, beta_start=1e-9, beta_end=1e-6, prediction_type="v_prediction")
    schedule = make_schedule(total, config)
    latent, residual = keyed_noise((1, 2), 0, 0), torch.zeros(1, dtype=torch.float64)
    assert_comes_back(Inversion("ddim", latent, residual, schedule, (0.0,) * total), tmp_path)


@pytest.mark.parametrize("total", [2000, 100_001, 400_000, LARGEST])
def test_trained_betas_of_any_length_come_back(total: int, tmp_path: Path) -> None:
    """One beta takes about twenty bytes of the header."""
    betas = (np.linspace(1e-9, 1e-6, total) * (1 + 1e-3 * np.sin(np.arange(total)))).tolist()
    config = SchedulerConfig(num_train_timesteps=total, trained_betas=betas, prediction_type="v_prediction")
    residual = torch.zeros(1, dtype=torch.float64)
    found = Inversion("ddim", keyed_noise((1, 2), 0, 0), residual, make_schedule(2, config), (0.0, 0.0))
    assert_comes_back(found, tmp_path)


def test_a_header_above_the_limit_is_refused_when_saving(tmp_path: Path) -> None:
    """A million steps with their own eta each take about 34 MB."""
    schedule = make_schedule(LARGEST, SchedulerConfig(num_train_timesteps=LARGEST))
    residual, eta = torch.zeros(1, dtype=torch.float64), (0.12345678901234567,) * LARGEST
    found = Inversion("ddim", keyed_noise((1, 2), 0, 0), residual, schedule, eta)
    with pytest.raises(DDIMError, match=f"cannot be saved.*header .* at most {32 * 2**20} bytes .* got 3[0-9]{{7}}"):
        save_noise(found, tmp_path / "noise.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [61, 103, 999])
def test_diffusers_plans_that_end_with_timestep_minus_one_come_back(steps: int, tmp_path: Path) -> None:
    found = inverted(steps, timestep_spacing="trailing", parity="diffusers")
    assert (found.schedule.plan.timesteps[-1] == -1) == (steps != 999)
    assert_comes_back(found, tmp_path)


@pytest.mark.parametrize("parity", ["exact", "diffusers"])
@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
def test_every_plan_comes_back(spacing: str, parity: str, tmp_path: Path) -> None:
    config = SchedulerConfig(timestep_spacing=spacing, parity=parity)
    saved = 0
    for steps in (*range(1, 1000, 20), 1000):
        try:
            schedule = make_schedule(steps, config)
        except DDIMError:  # diffusers has no such spacing
            continue
        residual, etas = torch.zeros(1, dtype=torch.float64), (0.0,) * len(schedule.plan)
        assert_comes_back(Inversion("ddim", torch.ones(1, 2), residual, schedule, etas), tmp_path)
        saved += 1
    assert saved == (0 if parity == "diffusers" and spacing in ("quad", "ays", "ays_sdxl") else 51)


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**64 + 1, 10**40, np.int64(5)])
def test_every_seed_that_invert_accepts_comes_back(seed: int, tmp_path: Path) -> None:
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(3)
    found = invert(small_model, keyed_noise((1, 2, 3), 0, 0), scheduler, method="variance_noise", seed=seed)
    assert_comes_back(found, tmp_path)
    assert load_noise(tmp_path / "noise.safetensors").seed == int(seed)


def replaced(**values: Any) -> Callable[[Inversion], Inversion]:
    return lambda inversion: dataclasses.replace(inversion, **values)


def of_rank(rank: int) -> Callable[[Inversion], Inversion]:
    def change(inversion: Inversion) -> Inversion:
        shape = (1,) * (rank - 1) + (2,)
        noise = torch.ones(len(inversion.schedule.plan), *shape).as_subclass(type(inversion.variance_noise))
        return dataclasses.replace(inversion, latent=torch.ones(shape), variance_noise=noise)

    return change


def with_bad_number(name: str, value: float) -> Callable[[Inversion], Inversion]:
    def change(inversion: Inversion) -> Inversion:
        tensor = getattr(inversion, name).clone()
        tensor[(0,) * tensor.ndim] = value
        return dataclasses.replace(inversion, **{name: tensor})

    return change


UNUSUAL: dict[str, Callable[[Inversion], Inversion]] = {
    "rank 2": of_rank(2),
    "rank 8": of_rank(8),
    "rank 9": of_rank(9),
    "rank 12": of_rank(12),
    "a long seed": replaced(seed=2**64 + 1),
    "a negative seed": replaced(seed=-(2**63)),
    "NaN in the latent": with_bad_number("latent", torch.nan),
    "infinity in the latent": with_bad_number("latent", torch.inf),
    "NaN in the noise": with_bad_number("variance_noise", torch.nan),
    "an infinite residual": replaced(residual=torch.tensor([torch.inf], dtype=torch.float64)),
    "a residual that is NaN": replaced(residual=torch.tensor([torch.nan], dtype=torch.float64)),
    "no image": replaced(
        latent=torch.ones(0, 2, 3), variance_noise=None, method="ddim", residual=torch.zeros(0, dtype=torch.float64)
    ),
    "noise of fewer steps": lambda found: replaced(variance_noise=found.variance_noise[1:])(found),
    "noise of no step": lambda found: replaced(variance_noise=found.variance_noise[:0])(found),
    "no noise": replaced(variance_noise=None),
    "noise of another method": replaced(method="ddim"),
    "two equal tracks in one tensor": lambda found: replaced(
        method="edict", variance_noise=None, second_latent=found.latent, mixing=0.9
    )(found),
    "tracks without mixing": lambda found: replaced(
        method="edict", variance_noise=None, second_latent=found.latent, mixing=None
    )(found),
    "an unknown method": replaced(method="magic"),
    "whole numbers": lambda found: replaced(latent=found.latent.long())(found),
    "a seed that JSON cannot hold": replaced(seed=10**5000),
    "a seed of another type": replaced(seed=np.int64(1)),
    "a fractional seed": replaced(seed=0.5),
    "eta of fewer steps": replaced(eta=(1.0,)),
    "residuals of other images": replaced(residual=torch.zeros(2, dtype=torch.float64)),
    "a latent that is a view": lambda found: replaced(latent=found.latent.expand(1, 2, 3).transpose(1, 2))(
        replaced(variance_noise=found.variance_noise.transpose(2, 3))(found)
    ),
    "eta as a name": replaced(eta=("sigma_hat",) * 4),
}


# What a file cannot hold, and what the message says about it.
REFUSED = {
    "rank 9": "2 to 8 dimensions",
    "rank 12": "2 to 8 dimensions",
    "NaN in the latent": "latent must be finite",
    "infinity in the latent": "latent must be finite",
    "NaN in the noise": "noise must be finite",
    "no image": "at least one image",
    "noise of fewer steps": r"variance_noise must have the shape \(4, 1, 2, 3\), got \(3, 1, 2, 3\)",
    "noise of no step": "variance_noise must have the shape",
    "no noise": "must hold the tensors last, latent, noise, got latent",
    "noise of another method": "must hold the tensors latent, got last, latent, noise",
    "tracks without mixing": "mixing",
    "an unknown method": "method must be one of",
    "whole numbers": "latent must be floating point",
    "a seed that JSON cannot hold": "its description must hold",
    "a seed of another type": "its description must hold",
    "a fractional seed": "seed must be a whole number",
    "eta of fewer steps": "eta must be .* 4 expected, got 1",
    "residuals of other images": "residual must hold one error per image, 1, got 2",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_inversion_comes_back_or_is_refused_at_once(name: str, tmp_path: Path) -> None:
    inversion, path = UNUSUAL[name](inverted()), tmp_path / "noise.safetensors"
    if name in REFUSED:
        with pytest.raises(DDIMError, match=f"this inversion cannot be saved as a noise file: .*{REFUSED[name]}"):
            save_noise(inversion, path)
        assert list(tmp_path.iterdir()) == []
    elif name == "an infinite residual":  # JSON has no infinity: it comes back as not measured
        assert_comes_back(inversion, tmp_path, residual=torch.tensor([torch.nan], dtype=torch.float64))
    else:
        assert_comes_back(inversion, tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64, "half"])
def test_noise_is_stored_in_the_dtypes_that_are_read(dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(DDIMError, match=r"dtype must be a floating-point dtype, torch.float16, .* got"):
        save_noise(inverted(), tmp_path / "noise.safetensors", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_file_above_the_size_limit_is_refused_when_saving(tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    size = save_noise(inverted(), path)
    path.unlink()
    with pytest.raises(DDIMError, match=f"cannot be saved.*at most {size - 1} bytes"):
        save_noise(inverted(), path, max_bytes=size - 1)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_may_set_a_lower_limit(tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    size = save_noise(inverted(), path)
    assert load_noise(path, max_bytes=size).method == "variance_noise"
    with pytest.raises(DDIMError, match=f"{size} bytes"):
        load_noise(path, max_bytes=size - 1)
