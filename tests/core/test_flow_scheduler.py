"""``DDIMFlowScheduler`` against diffusers' ``FlowMatchEulerDiscreteScheduler`` and against equation (12)."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddim import (
    DDIMError,
    DDIMFlowScheduler,
    FlowConfig,
    Schedule,
    invert,
    reconstruct,
    sample,
    sample_parallel,
)

diffusers = pytest.importorskip("diffusers")
Theirs = diffusers.FlowMatchEulerDiscreteScheduler

SETTINGS = [
    {},
    {"shift": 3.0},
    {"shift": 3, "num_train_timesteps": 500, "shift_terminal": 0.1},
    {"use_dynamic_shifting": True, "time_shift_type": "linear", "base_shift": 0.9},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True, "shift": 2.0},
    {"use_beta_sigmas": True},
    {"invert_sigmas": True},
]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def model(x: Tensor, t: Tensor) -> Tensor:
    """Some smooth function of sample and time."""
    return torch.sin(3 * x) + t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) / 1000


def run(scheduler, steps: int = 9, x: Tensor | None = None, **arguments) -> Tensor:
    mu = {"mu": 0.8} if scheduler.config.use_dynamic_shifting else {}
    scheduler.set_timesteps(steps, **mu)
    x = noise(2, 3, 8, 8) if x is None else x
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t), t, x, **arguments).prev_sample
    return x


# -- against diffusers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_tables_and_steps_are_those_of_diffusers(settings: dict) -> None:
    ours, theirs = DDIMFlowScheduler(**settings), Theirs(**settings)
    assert ours.sigma_min == pytest.approx(theirs.sigma_min) and ours.sigma_max == pytest.approx(theirs.sigma_max)
    result, expected = run(ours), run(theirs)
    assert ours.timesteps.dtype == ours.sigmas.dtype == torch.float32
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=2e-6, atol=2e-3)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=0, atol=2e-6)
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)


def test_the_surface_of_diffusers_class_is_there() -> None:
    """But what belongs to its own step, and to its own way of computing the sigmas."""
    names = {name for name in dir(Theirs) if not name.startswith("_")} - set(dir(diffusers.SchedulerMixin))
    names -= set(dir(diffusers.ConfigMixin))
    missing = {name for name in names if not hasattr(DDIMFlowScheduler(), name)}
    assert missing == {"index_for_timestep", "stretch_shift_to_terminal", "time_shift"}


def test_tables_before_a_run_are_those_of_training() -> None:
    """Training scripts look sigmas and timesteps up before any run."""
    ours, theirs = DDIMFlowScheduler(shift=3.0), Theirs(shift=3.0)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)
    assert len(ours) == len(theirs) == 1000


@pytest.mark.parametrize("positions", [[0], [3, 3], [0, 5]])
def test_scale_noise_is_that_of_diffusers(positions: list[int]) -> None:
    x0, z = noise(len(positions), 3, 4), noise(len(positions), 3, 4, seed=1)
    ours, theirs = DDIMFlowScheduler(shift=3.0), Theirs(shift=3.0)
    for _ in range(2):  # with the tables of training, and with those of a run
        assert torch.allclose(
            ours.scale_noise(x0, ours.timesteps[positions], z), theirs.scale_noise(x0, theirs.timesteps[positions], z)
        )
        ours.set_timesteps(7)
        theirs.set_timesteps(7)
    half = ours.scale_noise(x0.half(), ours.timesteps[positions], z.half())
    assert half.dtype == torch.float16


def test_scale_noise_adds_noise_with_inverted_sigmas_too() -> None:
    scheduler = DDIMFlowScheduler(invert_sigmas=True)
    scheduler.set_timesteps(4)
    x0, z = noise(1, 8), noise(1, 8, seed=1)
    assert torch.equal(scheduler.scale_noise(x0, scheduler.timesteps[:1], z), z)  # the first level is pure noise


def test_set_shift_and_positions_are_those_of_diffusers() -> None:
    ours, theirs = DDIMFlowScheduler(shift=3.0), Theirs(shift=3.0)
    for scheduler in (ours, theirs):
        assert scheduler.shift == 3.0 and scheduler.step_index is None and scheduler.begin_index is None
        scheduler.set_shift(5.0)
        assert scheduler.shift == 5.0
        run(scheduler, 4)
        assert scheduler.step_index == 4
        scheduler.set_timesteps(6)
        scheduler.set_begin_index(2)
        assert scheduler.begin_index == 2 and scheduler.step_index is None
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)


# -- equation (12) ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_step_is_equation_12_with_alpha_1_minus_sigma(eta: float) -> None:
    scheduler = DDIMFlowScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    x, m, z = noise(2, 5, dtype=torch.float64), noise(2, 5, seed=1, dtype=torch.float64), noise(2, 5, seed=2)
    sigmas = [*scheduler.noise_schedule.sigma.flip(0).tolist(), 0.0]
    for t, s, u in zip(scheduler.timesteps, sigmas, sigmas[1:], strict=False):
        x0, e = x - s * m, x + (1 - s) * m
        c = eta * u * math.sqrt(1 - ((1 - s) * u / ((1 - u) * s)) ** 2)
        expected = (1 - u) * x0 + math.sqrt(u**2 - c**2) * e + c * z.double()
        step = scheduler.step(m, t, x, eta, variance_noise=z.double())
        torch.testing.assert_close(step.prev_sample, expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(step.pred_original_sample, x0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("invert_sigmas", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_gaussian_keeps_its_mean_and_deviation(eta: float, invert_sigmas: bool) -> None:
    """With the exact model of N(1.3, 0.7^2), for which the result is known, whatever eta is."""
    scheduler = DDIMFlowScheduler(eta=eta, invert_sigmas=invert_sigmas)
    scheduler.set_timesteps(300)
    x = noise(200_000, 1, dtype=torch.float64)
    for t in scheduler.timesteps:
        s = (1 - float(t) / 1000) if invert_sigmas else float(t) / 1000
        variance = ((1 - s) * 0.7) ** 2 + s**2
        x0 = 1.3 + (1 - s) * 0.7**2 / variance * (x - (1 - s) * 1.3)
        e = s / variance * (x - (1 - s) * 1.3)
        x = scheduler.step(x0 - e if invert_sigmas else e - x0, t, x).prev_sample
    assert float(x.mean()) == pytest.approx(1.3, abs=0.01)
    assert float(x.std()) == pytest.approx(0.7, abs=0.01)


def test_eta_of_the_settings_holds_where_a_step_is_given_none() -> None:
    z = noise(2, 3, 8, 8, seed=3)
    by_setting = run(DDIMFlowScheduler(eta=0.7), variance_noise=z)
    by_argument = run(DDIMFlowScheduler(), variance_noise=z, eta=0.7)
    assert torch.equal(by_setting, by_argument)
    assert torch.equal(run(DDIMFlowScheduler(eta=0.7), eta=0.0), run(DDIMFlowScheduler()))
    assert not torch.equal(by_setting, run(DDIMFlowScheduler()))


def test_without_a_generator_the_noise_follows_from_the_start() -> None:
    scheduler = DDIMFlowScheduler(eta=1.0)
    before = torch.get_rng_state()
    first, again = run(scheduler), run(scheduler)
    other = run(scheduler, x=noise(2, 3, 8, 8, seed=1))
    alone = run(scheduler, x=noise(2, 3, 8, 8)[:1])
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=0.1)
    assert torch.equal(alone, first[:1])
    assert torch.equal(torch.get_rng_state(), before)
    seeded = run(scheduler, generator=torch.Generator().manual_seed(3))
    assert torch.equal(seeded, run(scheduler, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(seeded, first)


def test_a_step_of_many_samples_at_once() -> None:
    """Timesteps per image, vmap, and torch.compile, which all look levels up by the time of the model."""
    scheduler = DDIMFlowScheduler(shift=3.0)
    scheduler.set_timesteps(5)
    x, m, z = noise(2, 4), noise(2, 4, seed=1), noise(2, 4, seed=2)
    times = scheduler.timesteps[[1, 3]]
    alone = [scheduler.step(m[[i]], times[i], x[[i]], 0.5, variance_noise=z[[i]]).prev_sample for i in range(2)]
    together = scheduler.step(m, times, x, 0.5, variance_noise=z).prev_sample
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)

    def step(m: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return scheduler.step(m, times[0], x, 0.5, variance_noise=z).prev_sample

    expected = step(m, x, z)
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(m, x, z), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.func.vmap(step)(m[:, None], x[:, None], z[:, None])[:, 0], expected)
    unseeded = torch.func.vmap(lambda m, x: scheduler.step(m, times[0], x, 0.5).prev_sample)
    assert unseeded(m[:, None], x[:, None]).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_dtypes(dtype: torch.dtype, eta: float) -> None:
    z = noise(2, 16, seed=4)
    exact = run(DDIMFlowScheduler(shift=3.0), x=noise(2, 16, dtype=torch.float64), eta=eta, variance_noise=z.double())
    rounded = run(DDIMFlowScheduler(shift=3.0), x=noise(2, 16, dtype=dtype), eta=eta, variance_noise=z.to(dtype))
    assert rounded.dtype == dtype
    assert float((rounded.double() - exact).abs().max()) < 100 * torch.finfo(dtype).eps


# -- with the rest of the package -------------------------------------------------------------------------------------


def test_a_planned_run_works_with_sample_invert_and_the_others() -> None:
    scheduler = DDIMFlowScheduler(use_dynamic_shifting=True, use_karras_sigmas=True)
    scheduler.set_timesteps(12, mu=1.1)
    x = noise(2, 3, 8, 8)
    plain = sample(model, x, scheduler)
    step_by_step = x
    for t in scheduler.timesteps:
        step_by_step = scheduler.step(model(step_by_step, t), t, step_by_step).prev_sample
    torch.testing.assert_close(plain, step_by_step, rtol=0, atol=1e-6)
    parallel = sample_parallel(model, x, scheduler, window=4, tolerance=0.0).sample
    torch.testing.assert_close(parallel, plain, rtol=0, atol=1e-5)
    assert torch.equal(sample(model, x, Schedule.of(scheduler).scheduler()), plain)
    assert torch.equal(sample(model, x, copy.deepcopy(scheduler)), plain)
    inversion = invert(model, plain, scheduler, method="variance_noise", seed=1)
    torch.testing.assert_close(reconstruct(model, inversion), plain, rtol=0, atol=1e-4)


# -- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_configurations_go_both_ways(settings: dict, caplog) -> None:
    theirs = Theirs(**settings)
    with caplog.at_level(logging.WARNING):
        ours = DDIMFlowScheduler.from_config(theirs.config, eta=0.5)
        back = Theirs.from_config(ours.config)
        again = DDIMFlowScheduler.from_config(back.config)
    assert "not expected" not in caplog.text and "unknown settings" not in caplog.text
    assert {name: ours.config[name] for name in FlowConfig() if name != "eta"} == {
        name: back.config[name] for name in FlowConfig() if name != "eta"
    }
    assert ours.config.eta == ours.flow_settings.eta == again.config.eta == 0.5
    assert again.flow_settings == ours.flow_settings
    assert back.config._class_name == ours.config._class_name == "FlowMatchEulerDiscreteScheduler"


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_files_equal_diffusers_byte_for_byte_and_are_read_by_both(tmp_path: Path, settings: dict) -> None:
    ours, theirs = DDIMFlowScheduler(**settings), Theirs(**settings)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    name = "scheduler_config.json"
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert DDIMFlowScheduler.from_pretrained(tmp_path / "theirs").flow_settings == ours.flow_settings
    again = Theirs.from_pretrained(tmp_path / "ours")
    assert dict(again.config) == {key: value for key, value in theirs.config.items() if key != "_use_default_values"}


def test_eta_is_kept_in_the_file_and_diffusers_ignores_it(tmp_path: Path, caplog) -> None:
    DDIMFlowScheduler(shift=3.0, eta=0.5).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_eta"] == 0.5
    assert DDIMFlowScheduler.from_pretrained(tmp_path).flow_settings == FlowConfig(shift=3.0, eta=0.5)
    with caplog.at_level(logging.WARNING):
        assert Theirs.from_pretrained(tmp_path).config.shift == 3.0
    assert "not expected" not in caplog.text


def test_registering_settings_replaces_them() -> None:
    scheduler = DDIMFlowScheduler(eta=0.5)
    scheduler.register_to_config(shift=3.0)
    assert scheduler.flow_settings == FlowConfig(shift=3.0, eta=0.5) and scheduler.shift == 3.0
    assert DDIMFlowScheduler.from_settings(FlowConfig(shift=2.0)).flow_settings == FlowConfig(shift=2.0)
    assert repr(scheduler) == "DDIMFlowScheduler(shift=3.0, eta=0.5)"
    assert set(scheduler.compatibles) == {DDIMFlowScheduler, Theirs, diffusers.FlowMatchHeunDiscreteScheduler}


# -- copies and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"])
def test_a_copy_goes_on_with_the_same_run(copied) -> None:
    scheduler = DDIMFlowScheduler(use_dynamic_shifting=True, eta=1.0)
    assert copied(scheduler).timesteps.equal(scheduler.timesteps)
    scheduler.set_timesteps(5, mu=1.3)
    scheduler.set_begin_index(1)
    x = noise(1, 8)
    for t in scheduler.timesteps[:2]:
        x = scheduler.step(model(x, t), t, x).prev_sample
    other = copied(scheduler)
    assert (other.step_index, other.begin_index, other.sigma_min) == (2, 1, scheduler.sigma_min)
    t = scheduler.timesteps[2]
    assert torch.equal(other.step(model(x, t), t, x).prev_sample, scheduler.step(model(x, t), t, x).prev_sample)


@pytest.mark.parametrize("timestep", [0, 1000, True, torch.tensor(1000), torch.tensor([1000, 1000])], ids=str)
def test_whole_numbers_are_no_timesteps(timestep) -> None:
    scheduler = DDIMFlowScheduler()
    scheduler.set_timesteps(4)
    with pytest.raises(DDIMError, match="element of scheduler.timesteps"):
        scheduler.step(noise(2, 4), timestep, noise(2, 4))


def test_other_wrong_arguments_are_refused() -> None:
    scheduler = DDIMFlowScheduler()
    x = noise(1, 4)
    with pytest.raises(DDIMError, match="call set_timesteps"):
        scheduler.step(x, 1000.0, x)
    scheduler.set_timesteps(4)
    with pytest.raises(DDIMError, match="not in the plan of 4 steps"):
        scheduler.step(x, 123.4, x)
    with pytest.raises(DDIMError, match="needs noise"):
        scheduler.scale_noise(x, scheduler.timesteps[:1])
    with pytest.raises(DDIMError, match="begin_index must be"):
        scheduler.set_begin_index(4)
    with pytest.raises(DDIMError, match="shift must be"):
        scheduler.set_shift(0.0)
    with pytest.raises(DDIMError, match="eta"):
        scheduler.step(x, scheduler.timesteps[0], x, eta=1.5)
    with pytest.raises(DDIMError, match="stochastic_sampling=True draws all noise again"):
        DDIMFlowScheduler.from_config(Theirs(stochastic_sampling=True).config)
    with pytest.raises(DDIMError, match="needs a FlowConfig"):
        DDIMFlowScheduler.from_settings(scheduler.settings)
    assert DDIMFlowScheduler.from_config(Theirs(stochastic_sampling=True).config, stochastic_sampling=False)
