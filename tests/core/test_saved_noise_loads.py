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


def assert_comes_back(inversion: Inversion, folder: Path) -> None:
    path = folder / "noise.safetensors"
    save_noise(inversion, path)
    assert_same(load_noise(path), inversion)


def assert_comes_back_or_is_refused_at_once(inversion: Inversion, folder: Path) -> None:
    path = folder / "noise.safetensors"
    try:
        save_noise(inversion, path)
    except DDIMError:
        assert list(folder.iterdir()) == []
        return
    assert_same(load_noise(path), inversion)


def test_a_configuration_has_no_more_timesteps_than_this_file_thinks() -> None:
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
def test_trained_betas_of_any_length_come_back_or_are_refused_at_once(total: int, tmp_path: Path) -> None:
    """One beta takes about twenty bytes of the header."""
    betas = (np.linspace(1e-9, 1e-6, total) * (1 + 1e-3 * np.sin(np.arange(total)))).tolist()
    config = SchedulerConfig(num_train_timesteps=total, trained_betas=betas, prediction_type="v_prediction")
    residual = torch.zeros(1, dtype=torch.float64)
    found = Inversion("ddim", keyed_noise((1, 2), 0, 0), residual, make_schedule(2, config), (0.0, 0.0))
    assert_comes_back_or_is_refused_at_once(found, tmp_path)


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
    "eta as a name": replaced(eta=("sigma_hat",) * 4),
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_inversion_comes_back_or_is_refused_at_once(change, tmp_path: Path) -> None:
    inversion = change(inverted())
    path = tmp_path / "noise.safetensors"
    try:
        save_noise(inversion, path)
    except DDIMError:
        assert list(tmp_path.iterdir()) == []
        return
    found = load_noise(path)
    assert torch.equal(found.latent, inversion.latent)


# Holds before the rewrite as well: max_bytes is the reader's own choice, and its refusal says why.
def test_a_reader_may_set_a_lower_limit(tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    size = save_noise(inverted(), path)
    assert load_noise(path, max_bytes=size).method == "variance_noise"
    with pytest.raises(DDIMError, match=f"{size} bytes"):
        load_noise(path, max_bytes=size - 1)
