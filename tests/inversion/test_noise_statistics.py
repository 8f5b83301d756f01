"""What the recorded noise is: standard normal on CycleDiffusion's path, large and correlated on the edit-friendly one;
and what sharing it between two models does, in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import ddim

STEPS = 20
COUNT = 4000


def gaussian(mixture_type: Any, mean: float, std: float) -> Any:
    one = torch.ones(1, dtype=torch.float64)
    return mixture_type(one.view(1, 1) * mean, one, one * std)


@pytest.fixture(scope="module")
def normal(mixture: Any) -> Any:
    """A one-pixel Gaussian of a mean and a deviation."""
    kind = type(mixture(0, shape=(1,)))
    return lambda mean, std: gaussian(kind, mean, std)


def recorded(normal: Any, plan: Any, noise_path: str) -> Tensor:
    """z of the steps that have noise, (S - 1, COUNT)."""
    data = normal(0.4, 0.7)
    x0 = data.draw(COUNT, 1)
    found = ddim.invert(data.model(plan), x0, plan, method="variance_noise", seed=3, noise_path=noise_path)
    return found.variance_noise[:-1, :, 0].as_subclass(Tensor)


@pytest.fixture(params=[False, True], ids=["plain", "zero terminal SNR"])
def plan(request: Any, scheduler: Any) -> Any:
    return scheduler(200, prediction_type="v_prediction", rescale_betas_zero_snr=request.param)


def variance_of_z(std: float, schedule: Any) -> Tensor:
    """Var z on the cycle path for N(m, std^2) data, plain floats: 1 + (kappa / sigma)^2 Var(x_0 | x_t).

    kappa is the weight of x_0 in the posterior's mean; what the model cannot know of x_0 comes on top of N(0, 1).
    """
    found = []
    for a, b in list(zip(schedule.alpha_bars, schedule.alpha_bars[1:], strict=False))[:-1]:
        sigma2 = (1 - b) / (1 - a) * (1 - a / b)
        kappa = math.sqrt(b) - math.sqrt(1 - b - sigma2) * math.sqrt(a / (1 - a))
        unknown = std**2 * (1 - a) / (a * std**2 + 1 - a)
        found.append(1 + kappa**2 / sigma2 * unknown)
    return torch.tensor(found, dtype=torch.float64)


def test_noise_of_the_cycle_path_is_standard_normal(normal: Any, plan: Any) -> None:
    """With the true model z is N(0, 1) and independent, but for what x_t leaves open of x_0 in the last, long steps."""
    z = recorded(normal, plan, "cycle")
    error = 5 / math.sqrt(COUNT)
    expected = variance_of_z(0.7, ddim.Schedule(plan.settings, plan.plan))
    assert float(z.mean(1).abs().max()) < error * 1.5
    assert torch.allclose(z.var(1), expected, rtol=error * math.sqrt(2), atol=0)
    assert float((expected[:150] - 1).abs().max()) < 0.06 and abs(float(z.var()) - 1) < 0.06
    correlation = torch.corrcoef(z[:150])
    off = correlation[~torch.eye(150, dtype=torch.bool)]
    assert float(off.abs().max()) < 0.03 + error
    kurtosis = (z[:150] ** 4).mean() / (z[:150] ** 2).mean() ** 2
    assert abs(float(kurtosis) - 3) < 0.05


def test_noise_is_the_drawn_noise_where_the_picture_is_known(normal: Any, plan: Any) -> None:
    """A model that knows x_0 leaves nothing to explain: z is N(0, 1) at every step, the last ones too."""
    data = normal(0.4, 1e-6)
    x0 = data.draw(COUNT, 1)
    found = ddim.invert(data.model(plan), x0, plan, method="variance_noise", seed=3)
    z = found.variance_noise[:-1, :, 0].as_subclass(Tensor)
    assert float((z.var(1) - 1).abs().max()) < 5 * math.sqrt(2 / COUNT)
    drawn = torch.stack([ddim.keyed_noise((COUNT, 1), 3, i)[:, 0] for i in range(len(z))])
    assert torch.allclose(z, drawn.double(), rtol=0, atol=1e-3)


def test_edit_friendly_noise_is_larger_and_correlated(normal: Any, plan: Any) -> None:
    """2304.06140, section 3.3: independent levels make z wider than normal, and neighbours negatively correlated."""
    z = recorded(normal, plan, "edit_friendly")
    assert float(z.var(1).min()) > 1.0
    assert float(z.var()) > 4.0
    neighbours = torch.corrcoef(z).diagonal(1)
    assert float(neighbours.mean()) < -0.3


def affine_map(mean: float, std: float, schedule: Any) -> tuple[float, list[float]]:
    """x_0 of a Gaussian model as ``c + sum_i g_i n_i``, n = (x_T, z_1, ..., z_(S-1)); plain floats, eta 1.

    The posterior mean of N(m, s^2) is m + gain (x - sqrt(a) m), so each step is affine.
    """
    bars = schedule.alpha_bars
    constant, weights = 0.0, [1.0]
    for i, (a, b) in enumerate(zip(bars, bars[1:], strict=False)):
        variance = (1 - b) / (1 - a) * (1 - a / b)
        gain = math.sqrt(a) * std**2 / (a * std**2 + 1 - a)
        direction = math.sqrt(1 - b - variance) / math.sqrt(1 - a)
        slope = math.sqrt(b) * gain + direction * (1 - math.sqrt(a) * gain)
        shift = (math.sqrt(b) - direction * math.sqrt(a)) * (1 - gain * math.sqrt(a)) * mean
        constant, weights = slope * constant + shift, [slope * weight for weight in weights]
        if i < len(bars) - 2:
            weights.append(math.sqrt(variance))
    return constant, weights


TARGETS = [((0.4, 0.7), (-0.8, 0.7)), ((0.4, 0.7), (1.0, 1.4)), ((0.0, 1.0), (0.5, 0.25))]


@pytest.mark.parametrize(("source", "target"), TARGETS)
def test_shared_noise_between_two_gaussians_is_the_closed_form(
    normal: Any, scheduler: Any, source: tuple[float, float], target: tuple[float, float]
) -> None:
    """CycleDiffusion: encode with one model, decode with the other; every pixel against the affine map."""
    plan = scheduler(STEPS)
    schedule = ddim.Schedule(plan.settings, plan.plan)
    one, two = normal(*source), normal(*target)
    x0 = one.draw(500, 2)
    found = ddim.invert(one.model(plan), x0, plan, method="variance_noise", seed=8)
    edited = ddim.sample(two.model(plan), found.latent, plan, eta=1.0, variance_noise=found.variance_noise)
    inputs = torch.cat([found.latent[None], found.variance_noise[:-1].as_subclass(Tensor)])[..., 0]
    residual = found.variance_noise[-1, :, 0].as_subclass(Tensor)
    for (mean, std), result in ((source, x0), (target, edited)):
        constant, weights = affine_map(mean, std, schedule)
        expected = constant + torch.tensor(weights, dtype=torch.float64) @ inputs + residual
        assert torch.allclose(result[:, 0], expected, rtol=0, atol=1e-10)


def test_models_that_differ_in_the_mean_are_joined_by_the_optimal_map(normal: Any, scheduler: Any) -> None:
    """Optimal transport between N(m, s^2) and N(m', s^2) is the translation; with zero SNR it is exact."""
    plan = scheduler(STEPS, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    one, two = normal(0.4, 0.7), normal(-0.8, 0.7)
    x0 = one.draw(500, 2)
    found = ddim.invert(one.model(plan), x0, plan, method="variance_noise", seed=8)
    edited = ddim.sample(two.model(plan), found.latent, plan, eta=1.0, variance_noise=found.variance_noise)
    assert torch.allclose(edited, x0 - 1.2, rtol=0, atol=1e-12)


def test_the_deterministic_latent_joins_any_two_gaussians_optimally(normal: Any, scheduler: Any) -> None:
    """With eta 0 and many steps the map is T(x) = m' + s'/s (x - m), the monotone map, which is optimal."""
    plan = scheduler(1000, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    (m, s), (m2, s2) = TARGETS[1]
    one, two = normal(m, s), normal(m2, s2)
    x0 = one.draw(200, 2)
    found = ddim.invert(one.model(plan), x0, plan, method="fixed_point", refinements=2, check=False)
    edited = ddim.sample(two.model(plan), found.latent, plan)
    assert torch.allclose(edited, m2 + s2 / s * (x0 - m), rtol=0, atol=0.02)


def test_shared_noise_moves_less_than_fresh_noise(normal: Any, scheduler: Any) -> None:
    """Cost of the map, E|x' - x|^2, against the Wasserstein distance and against independent samples."""
    plan = scheduler(100, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    (m, s), (m2, s2) = TARGETS[1]
    one, two = normal(m, s), normal(m2, s2)
    x0 = one.draw(COUNT, 2)
    found = ddim.invert(one.model(plan), x0, plan, method="variance_noise", seed=8)
    edited = ddim.sample(two.model(plan), found.latent, plan, eta=1.0, variance_noise=found.variance_noise)
    cost = float((edited - x0).square().mean())
    optimal = (m2 - m) ** 2 + (s2 - s) ** 2
    independent = (m2 - m) ** 2 + s2**2 + s**2
    print(f"cost {cost:.3f}, optimal {optimal:.3f}, independent {independent:.3f}")
    assert optimal * 0.95 < cost < optimal + 0.2 * (independent - optimal)
