"""How near a picture comes back, on models whose every prediction is exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ddim

SEEDS = (0, 1, 2)
# Orders of magnitude of plain inversion, and how much four refinements must gain, by number of steps.
PLAIN = {10: 2e-2, 20: 8e-3, 50: 2e-3}
GAIN = {10: 4, 20: 25, 50: 1000}


def round_trip(mixture: Any, plan: Any, which: int, dtype: torch.dtype, **options: Any) -> tuple[Any, Any, Any]:
    data = mixture(which)
    model = data.model(plan)
    x0 = data.draw(3, which + 100).to(dtype)
    found = ddim.invert(model, x0, plan, **options)
    return x0, found, ddim.reconstruct(model, found, plan)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steps", PLAIN)
def test_errors_of_the_methods(mixture: Any, scheduler: Any, mse: Any, steps: int, seed: int) -> None:
    error = {}
    for method in ddim.INVERSION_METHODS:
        x0, found, back = round_trip(mixture, scheduler(steps), seed, torch.float64, method=method, seed=seed)
        error[method] = float(mse(back, x0).mean())
        assert torch.allclose(found.residual, mse(back, x0), rtol=1e-6, atol=1e-34)
    assert PLAIN[steps] / 3 < error["ddim"] < PLAIN[steps] * 3
    assert error["fixed_point"] * GAIN[steps] <= error["ddim"]
    assert error["edict"] <= 1e-20
    assert error["bdia"] <= 1e-27
    assert error["variance_noise"] <= 1e-26


@pytest.mark.parametrize("method", ["edict", "variance_noise"])
@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_exact_methods_in_single_precision(mixture: Any, scheduler: Any, mse: Any, method: str, steps: int) -> None:
    x0, found, back = round_trip(mixture, scheduler(steps), 4, torch.float32, method=method, seed=1)
    assert found.latent.dtype == torch.float32
    assert float(mse(back, x0).max()) <= 1e-9


def test_fixed_point_is_never_worse_than_plain_inversion(mixture: Any, scheduler: Any, mse: Any) -> None:
    """At every number of steps up to 100, with refinements from 0 to 20 in turn; each image by itself."""
    data = mixture(11, shape=(2, 8, 8))
    x0 = data.draw(3, 12)
    for steps in range(1, 101):
        plan = scheduler(steps)
        model = data.model(plan)
        plain = ddim.invert(model, x0, plan, check=False)
        refined = ddim.invert(model, x0, plan, method="fixed_point", refinements=(1, 0, 2, 4, 20)[steps % 5])
        errors = [mse(ddim.sample(model, each.latent, plan), x0) for each in (refined, plain)]
        rounding = torch.finfo(torch.float64).eps ** 2 * x0.square().flatten(1).mean(1)
        assert bool((errors[0] <= errors[1] + rounding).all()), (steps, errors)


def test_more_refinements_solve_the_step(mixture: Any, scheduler: Any) -> None:
    """Where the map is smooth (50 steps) it falls to rounding; at 10 plain iteration diverges."""
    _, found, _ = round_trip(mixture, scheduler(50), 5, torch.float64, method="fixed_point", refinements=20)
    assert float(found.residual.max()) < 1e-24
    _, found, _ = round_trip(mixture, scheduler(10), 5, torch.float64, method="fixed_point", refinements=20)
    assert float(found.residual.max()) < 1e-4


@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
def test_the_prediction_type_does_not_matter(mixture: Any, scheduler: Any, method: str) -> None:
    latents = [
        round_trip(mixture, scheduler(10, prediction_type=kind), 3, torch.float64, method=method, seed=1)[1].latent
        for kind in ddim.PREDICTION_TYPES
    ]
    for other in latents[1:]:
        assert torch.allclose(latents[0], other, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize(
    ("method", "limit"),
    [("ddim", 0.2), ("fixed_point", 1e-3), ("edict", 1e-20), ("variance_noise", 1e-26), ("bdia", 1e-26)],
)
def test_zero_terminal_snr(mixture: Any, scheduler: Any, mse: Any, kind: str, method: str, limit: float) -> None:
    for steps in (2, 10) if method in ("edict", "variance_noise", "bdia") else (10,):
        plan = scheduler(steps, prediction_type=kind, rescale_betas_zero_snr=True)
        x0, _, back = round_trip(mixture, plan, 6, torch.float64, method=method, seed=2)
        assert float(mse(back, x0).max()) <= limit


VARIANTS = {
    "leading": {"timestep_spacing": "leading"},
    "linspace": {"timestep_spacing": "linspace"},
    "quad": {"timestep_spacing": "quad"},
    "ends at the first alpha": {"timestep_spacing": "leading", "set_alpha_to_one": False},
    "ends at the first alpha, trailing": {"set_alpha_to_one": False},
    "clipped": {"clip_sample": True},
    "thresholded": {"thresholding": True, "sample_max_value": 1.5},
    "linear betas": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "cosine betas": {"beta_schedule": "squaredcos_cap_v2"},
    "pairs of diffusers": {"parity": "diffusers"},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize(("method", "limit"), [("edict", 1e-20), ("variance_noise", 1e-26), ("bdia", 1e-26)])
def test_exact_methods_hold_for_every_schedule(
    mixture: Any, scheduler: Any, mse: Any, settings: dict[str, Any], method: str, limit: float
) -> None:
    x0, _, back = round_trip(mixture, scheduler(20, **settings), 7, torch.float64, method=method, seed=2)
    assert float(mse(back, x0).max()) <= limit


@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
@pytest.mark.parametrize(("start", "stop"), [(8, 20), (0, 12), (5, 9)])
def test_a_part_of_a_plan(mixture: Any, scheduler: Any, mse: Any, method: str, start: int, stop: int) -> None:
    """Image-to-image (the last steps), and a part that ends in a noisy sample."""
    whole = scheduler(20)
    data = mixture(8)
    model = data.model(whole)
    schedule = ddim.Schedule(whole.settings, whole.plan)
    part = schedule.part(start, stop).scheduler()
    x0 = data.draw(2, 9)
    if stop < 20:
        level = schedule.alpha_bars[stop]
        noise = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x0 = level**0.5 * x0 + (1 - level) ** 0.5 * noise
    found = ddim.invert(model, x0, part, method=method, seed=3)
    limit = {"ddim": 2e-2, "fixed_point": 1e-5, "edict": 1e-20, "variance_noise": 1e-26, "bdia": 1e-26}[method]
    assert float(mse(ddim.reconstruct(model, found, part), x0).max()) <= limit


@pytest.mark.parametrize("noise_path", ddim.NOISE_PATHS)
@pytest.mark.parametrize("eta", [1.0, 0.3, 1e-6, "sigma_hat", "some"], ids=str)
def test_any_eta_gives_the_picture_back(mixture: Any, scheduler: Any, mse: Any, eta: Any, noise_path: str) -> None:
    plan = scheduler(12)
    eta = [0.0, 1.0, 0.5] * 4 if eta == "some" else eta
    data = mixture(2)
    model, x0 = data.model(plan), data.draw(2, 3)
    found = ddim.invert(model, x0, plan, method="variance_noise", eta=eta, seed=5, noise_path=noise_path)
    assert found.variance_noise.shape == (12, *x0.shape)
    back = ddim.sample(model, found.latent, plan, eta=eta, variance_noise=found.variance_noise)
    assert float(mse(back, x0).max()) <= 1e-26


def test_stepping_by_hand_gives_the_picture_back(mixture: Any, scheduler: Any, mse: Any) -> None:
    plan = scheduler(10)
    data = mixture(2)
    model, x0 = data.model(plan), data.draw(2, 3)
    found = ddim.invert(model, x0, plan, method="variance_noise", seed=5)
    x = found.latent
    for t, noise in zip(plan.timesteps, found.variance_noise, strict=True):
        x = plan.step(model(x, t), t, x, eta=1.0, variance_noise=noise).prev_sample
    assert float(mse(x, x0).max()) <= 1e-26


def test_pictures_of_any_rank(mixture: Any, scheduler: Any) -> None:
    for shape in [(5,), (2, 3, 4, 4)]:
        data = mixture(1, shape=shape)
        plan = scheduler(10)
        x0 = data.draw(2, 1)
        for method in ("fixed_point", "edict", "variance_noise"):
            found = ddim.invert(data.model(plan), x0, plan, method=method, seed=1)
            assert found.latent.shape == x0.shape and found.residual.shape == (2,)
            assert float(found.residual.max()) < 1e-3
