"""What an argument that cannot be used is told: its name, what was expected, what came."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import ddim
from ddim import DDIMError
from ddim.schedule import settings

X = torch.ones(2, 3)
ABOVE_ONE = {"trained_betas": [0.1, 0.2, 1.3, 1.2], "num_train_timesteps": 4, "clip_sample": False}


def planned() -> ddim.DDIMScheduler:
    scheduler = ddim.DDIMScheduler()
    scheduler.set_timesteps(5)
    return scheduler


def step(**arguments: object) -> object:
    return planned().step(**{"model_output": X.clone(), "timestep": 800, "sample": X, **arguments})


def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return x


def inference_tensor() -> torch.Tensor:
    with torch.inference_mode():
        return torch.empty(2, 3)


REFUSED = {
    "rising levels": (lambda: ddim.betas_from_alpha_bar(torch.tensor([0.9, 0.5, 0.6])), "0.6 at timestep 2"),
    "levels of two dimensions": (lambda: ddim.betas_from_alpha_bar(X), r"shape \(T,\), T at least 1, got \(2, 3\)"),
    "level 0 in the middle": (lambda: ddim.betas_from_alpha_bar(torch.tensor([0.9, 0.0, 0.0])), "at the last timestep"),
    "NaN levels": (lambda: ddim.rescale_zero_terminal_snr(torch.tensor([0.9, torch.nan])), "nan at timestep 1"),
    "another batch": (lambda: ddim.guide(X, X[:1], 2.0), r"pred_uncond .* as pred_text, \(1, 3\) .* got .*\(2, 3\)"),
    "whole noise": (lambda: ddim.keyed_noise((2, 3), 1, 0, dtype=torch.int64), "dtype must be a floating-point dtype"),
    "a beta above 1": (
        lambda: ddim.DDIMScheduler(**ABOVE_ONE).add_noise(X[:1], X[:1], torch.tensor([2])),
        r"alpha_bar must be in \[0, 1\].* at timestep 2; a beta above 1",
    ),
    "two betas above 1": (
        lambda: ddim.DDIMScheduler(**ABOVE_ONE).add_noise(X[:1], X[:1], torch.tensor([3])),
        r"alpha_bar must be in \[0, 1\].* at timestep 3; a beta above 1",
    ),
    "an expanded out": (lambda: step(out=torch.empty(1, 3).expand(2, 3)), "out must have memory for each"),
    "an out of inference mode": (lambda: step(out=inference_tensor()), "out cannot be written outside inference mode"),
    "an out that is no tensor": (lambda: step(out=[1.0]), r"out must have .* got list \[1.0\]"),
    "no generators": (lambda: step(eta=1.0, generator=[None, None]), "generator must be a torch.Generator, or a list"),
    "a number as generator": (lambda: step(eta=1.0, generator=5), "generator must be .* got 5"),
    "no dimensions": (lambda: step(model_output=X[0, 0], sample=X[0, 0], eta=1.0), r"needs a shape \(B, ...\)"),
    "no dimensions to sample": (lambda: ddim.sample(model, X[0, 0], planned()), r"x must have the shape \(B, ...\)"),
    "a fractional shape": (lambda: ddim.keyed_noise((2, 1.5), 1, 0), "each size in shape must be a whole number"),
    "numpy": (lambda: step(sample=np.ones((2, 3))), "sample must be floating point, a dense tensor .* got ndarray"),
    "a list to add noise to": (
        lambda: planned().add_noise([1.0], X, torch.tensor([1])),
        "the sample must be floating point, a dense tensor .* got list",
    ),
    "one number as timesteps": (lambda: planned().set_timesteps(timesteps=5), "timesteps must be a list .* got int 5"),
    "a list as timestep": (lambda: step(timestep=[800]), r"timestep \[800\] is not in the plan"),
    "a list of eta": (lambda: step(eta=[1.0]), r"eta must be .* got \[1.0\]"),
    "a scale per image": (lambda: ddim.guide(X, X, torch.ones(2)), r"guidance_scale must be a number, or .*\(B, 1"),
    "two dtypes": (lambda: ddim.guide(X, X.double(), 2.0), "pred_uncond must have the dtype of pred_text"),
    "overrides": (lambda: ddim.import_config({}, 5), "overrides must be a mapping of settings, got 5"),
    "a fraction": (lambda: ddim.SchedulerConfig(num_train_timesteps=Fraction(10**400, 3)), "num_train_timesteps must"),
    "defaults in an array": (
        lambda: ddim.import_config({"_use_default_values": np.ones(2)}),
        "_use_default_values must be a list of names",
    ),
    "a meta tensor": (lambda: step(sample=X.to("meta"), model_output=X.to("meta")), "sample must be .* on meta"),
    "a sparse tensor": (lambda: step(model_output=X.to_sparse()), "model_output must be .* got a torch.sparse_coo"),
    "float8": (lambda: ddim.slerp(X.to(torch.float8_e5m2), X, 0.5), "a must be .* got a torch.float8_e5m2"),
    "no such device": (lambda: planned().set_timesteps(5, device="bogus"), "device must be .* got 'bogus': "),
    "timesteps on meta": (lambda: planned().set_timesteps(5, device="meta"), "device must be .* that keeps values"),
    "many frames": (lambda: ddim.slerp_path(X, 1e308), "a path has at most 100000 frames"),
    "many images": (lambda: ddim.keyed_noise((2**33, 1, 0), 1, 0), "at most 16777216 images"),
    "many refinements": (
        lambda: ddim.invert(model, X, planned(), method="fixed_point", refinements=10**12),
        "refinements must be a whole number between 0 and 1000",
    ),
    "no model": (lambda: ddim.sample(None, X, planned()), "model must be a function, got NoneType None"),
    "no scheduler": (
        lambda: ddim.sample(model, X, None),
        "scheduler must be a DDIMScheduler or a DDIMFlowScheduler, got NoneType",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_the_sentence_names_the_argument(case: str) -> None:
    call, message = REFUSED[case]
    with pytest.raises(DDIMError, match=message):
        call()


def test_a_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("it is there")
    for call in (
        lambda: planned().set_timesteps(5, device="cuda"),
        lambda: ddim.keyed_noise((1,), 1, 0, device="cuda"),
    ):
        with pytest.raises(DDIMError, match=r"device must be a device that torch can use here, got 'cuda': \w+"):
            call()


@pytest.mark.parametrize("method", ["ddim", "fixed_point", "edict", "variance_noise", "bdia"])
def test_inversion_refuses_a_model_output_that_does_not_fit(method: str) -> None:
    for output in (X[:1], X.to("meta"), X.long(), None):
        with pytest.raises(DDIMError, match="must return a floating-point tensor of shape"):
            ddim.invert(lambda x, t, output=output: output, X, planned(), method=method)


def test_inversion_takes_a_guided_model_output() -> None:
    def guided(x: torch.Tensor, t: torch.Tensor) -> ddim.Guided:
        return ddim.Guided(x.sin(), x.cos(), 2.0)

    found = ddim.invert(guided, X, planned(), check=False).latent
    assert torch.equal(found, ddim.invert(lambda x, t: guided(x, t).tensor(), X, planned(), check=False).latent)


def test_a_level_is_not_used_because_two_factors_are_negative() -> None:
    """(1 - 1.3) (1 - 1.2) is positive: that it is in [0, 1] makes it no level."""
    scheduler = ddim.DDIMScheduler(**ABOVE_ONE)
    scheduler.set_timesteps(4)
    for timestep in (3, 2):
        with pytest.raises(DDIMError, match="a beta above 1"):
            scheduler.step(X, timestep, X)
    scheduler.step(X, 1, X)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_slerp_keeps_very_small_and_very_large_numbers(size: float) -> None:
    a, b = (torch.randn(2, 8, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (1, 2))
    torch.testing.assert_close(ddim.slerp(a * size, b * size, 0.3) / size, ddim.slerp(a, b, 0.3), rtol=1e-12, atol=0)


def test_an_empty_batch_is_sampled_in_parallel_and_interpolated() -> None:
    found = ddim.sample_parallel(model, X[:0], planned(), window=4)
    assert found.sample.shape == (0, 3) and found.model_calls == 5
    assert ddim.slerp(X[:0], X[:0], 0.5).shape == (0, 3)


def test_long_schedules_are_not_kept() -> None:
    """A million betas take 80 MB: files of them, read one after another, must not stay in memory."""
    settings._kept_schedule.cache_clear()
    for length in (10_001, 50_000):
        ddim.make_schedule(2, ddim.SchedulerConfig(num_train_timesteps=length)).noise  # noqa: B018
    assert settings._kept_schedule.cache_info().currsize == 0
    assert ddim.make_schedule(2).noise is ddim.make_schedule(3).noise
