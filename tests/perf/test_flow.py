"""The equations on the levels of flow models, alpha = 1 - t and sigma = t, and of exploding variance, alpha = 1."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddim.step.apply import apply_step, predicted_x0
from ddim.step.coefficients import _as_floats
from ddim.step.equations import PREDICTIONS, Levels, StepCoefficients, step_coefficients

MEAN, DEVIATION = 1.3, 0.7
TIMES = torch.linspace(1.0, 0.0, 201, dtype=torch.float64)
ETAS = [0.0, 0.5, 1.0]


def flow_levels(t: Tensor) -> Levels:
    return Levels(1 - t, t)


def exploding_levels(sigma: Tensor) -> Levels:
    return Levels(torch.ones_like(sigma), sigma)


def steps_between(levels: Levels, prediction: str, eta: float) -> list[StepCoefficients]:
    at, to = (Levels(*(level[part] for level in levels)) for part in (slice(None, -1), slice(1, None)))
    return _as_floats(step_coefficients(at, to, prediction, eta))


def drawn(count: int, seed: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("eta", ETAS)
def test_steps_of_a_flow_model_are_the_formulas(eta):
    x, m, z = (drawn(100, seed) for seed in range(3))
    for i, c in enumerate(steps_between(flow_levels(TIMES), "flow_prediction", eta)):
        t, u = float(TIMES[i]), float(TIMES[i + 1])
        x0, epsilon = x - t * m, x + (1 - t) * m  # alpha + sigma is 1
        kept = (1 - t) * u / ((1 - u) * t)
        sigma = eta * u * math.sqrt(1 - kept**2)
        expected = (1 - u) * x0 + math.sqrt(max(u**2 - sigma**2, 0.0)) * epsilon + sigma * z
        found, _ = apply_step(c, x, m, noise=z)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(predicted_x0(c, x, m), x0, rtol=0, atol=1e-14)


def test_at_eta_0_a_step_is_eulers_step_along_the_flow():
    x, m = drawn(1000, 0), drawn(1000, 1)
    for i, c in enumerate(steps_between(flow_levels(TIMES), "flow_prediction", 0.0)):
        euler = x + (TIMES[i + 1] - TIMES[i]) * m
        torch.testing.assert_close(apply_step(c, x, m)[0], euler, rtol=0, atol=1e-15 * 8)


@pytest.mark.parametrize("family", ["flow", "exploding", "preserving"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_x0_and_epsilon_back_on_every_family(family, prediction):
    s = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    levels = {"flow": flow_levels, "exploding": exploding_levels, "preserving": Levels.of_alpha_bar}[family](s)
    x0, epsilon = drawn(50, 2), drawn(50, 3)
    alpha, sigma = levels
    x = alpha * x0 + sigma * epsilon
    v = alpha * epsilon - sigma * x0
    outputs = {
        "epsilon": epsilon,
        "sample": x0,
        "v_prediction": v,
        "flow_prediction": epsilon - x0,
        "inverted_flow_prediction": x0 - epsilon,
    }
    output = outputs[prediction]
    of_x0, of_epsilon = PREDICTIONS[prediction](levels)
    torch.testing.assert_close(of_x0.x * x + of_x0.m * output, x0, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_epsilon.x * x + of_epsilon.m * output, epsilon, rtol=1e-12, atol=1e-12)


def test_a_flow_model_has_no_singularity_at_pure_noise():
    c = steps_between(flow_levels(torch.tensor([1.0, 0.5], dtype=torch.float64)), "flow_prediction", 1.0)[0]
    x, m = drawn(10, 4), drawn(10, 5)
    # x is epsilon there; eta 1 replaces all of it by fresh noise
    torch.testing.assert_close(apply_step(c, x, m)[0], 0.5 * (x - m))
    assert float(c.direction) == 0.0 and float(c.sigma) == 0.5


def mean_and_deviation(family: str, eta: float, steps: int) -> tuple[float, float]:
    """Where N(1.3, 0.7^2) ends under its exact denoiser, in closed form.

    The denoiser of a Gaussian is affine in x, so a sample stays Gaussian: a step moves the mean as it moves any point,
    multiplies the deviation by its slope, and adds the variance of z.
    """
    times = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    levels = flow_levels(times) if family == "flow" else exploding_levels(80.0 * times**3)
    prediction = "flow_prediction" if family == "flow" else "sample"
    mean = MEAN * levels.alpha[:1]
    deviation = (levels.alpha[0] * DEVIATION).hypot(levels.sigma[0])
    for i, c in enumerate(steps_between(levels, prediction, eta)):
        alpha, sigma = levels.alpha[i], levels.sigma[i]
        x = torch.cat([mean, mean + deviation])
        gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
        x0 = MEAN + gain * (x - alpha * MEAN)
        x, _ = apply_step(c, x, (x - alpha * x0) / sigma - x0 if family == "flow" else x0)
        mean, deviation = x[:1], (x[1] - x[0]).hypot(torch.tensor(c.sigma, dtype=torch.float64))
    return float(mean), float(deviation)


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("family", ["flow", "exploding"])
def test_a_gaussian_keeps_its_mean_and_its_deviation_converges_with_order_one(family, eta):
    found = {steps: mean_and_deviation(family, eta, steps) for steps in (200, 400, 800)}
    assert all(abs(mean - MEAN) < 1e-9 for mean, _ in found.values())
    errors = [abs(deviation - DEVIATION) for _, deviation in found.values()]
    assert errors[0] < 0.035
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 1.8 < coarse / fine < 2.2
