"""Against closed forms: the exact ODE, exact marginals, exact brightness, the papers' tables, k-diffusion's step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddim import DDIMScheduler, make_noise_schedule, make_plan, sample

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}


def run(scheduler: DDIMScheduler, model, x: Tensor, **arguments) -> Tensor:
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t), t, x, **arguments).prev_sample
    return x


# -- the probability-flow ODE -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "quad"])
def test_eta_0_converges_to_the_exact_solution_of_a_gaussian_with_order_one(
    mixture, prediction_type: str, spacing: str
) -> None:
    """N(mean, s^2) flows along x_t = sqrt(a) mean + sqrt(a s^2 + 1 - a) z with constant z."""
    data = mixture(torch.tensor([[0.7]], dtype=torch.float64), 0.5)
    errors = []
    for steps in (20, 40, 80, 160):
        scheduler = DDIMScheduler(**SD, prediction_type=prediction_type, timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        levels = scheduler.noise_schedule.alpha_bar
        a = float(levels[scheduler.plan.timesteps[0]])
        z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
        start = math.sqrt(a) * 0.7 + math.sqrt(a * 0.25 + 1 - a) * z
        end = run(scheduler, data.model(levels, prediction_type), start)
        errors.append(float((end - (0.7 + 0.5 * z)).abs().max()))
    orders = [math.log2(first / second) for first, second in zip(errors[:-1], errors[1:], strict=True)]
    assert errors[-1] < 0.025
    assert all(0.75 < order < 1.35 for order in orders), (errors, orders)


def mixture_cdf(x: Tensor, means: list[float], deviation: float) -> Tensor:
    return torch.stack([torch.special.ndtr((x - mean) / deviation) for mean in means]).mean(0)


def quantile_of_data(levels: Tensor, means: list[float], spread: float) -> Tensor:
    low, high = torch.full_like(levels, -10), torch.full_like(levels, 10)
    for _ in range(80):
        middle = (low + high) / 2
        below = mixture_cdf(middle, means, spread) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def test_eta_0_converges_to_the_exact_solution_of_a_mixture_with_order_one(mixture) -> None:
    """In one dimension the flow keeps every point's quantile, so two distribution functions give the exact solution."""
    means, spread = [-1.0, 0.2, 1.5], 0.35
    data = mixture(torch.tensor([[mean] for mean in means], dtype=torch.float64), spread)
    errors = []
    for steps in (25, 50, 100, 200):
        scheduler = DDIMScheduler(**SD, prediction_type="v_prediction", timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        levels = scheduler.noise_schedule.alpha_bar
        a = float(levels[-1])
        start = torch.linspace(-1.8, 1.8, 25, dtype=torch.float64)[:, None]
        deviation = math.sqrt(a * spread**2 + 1 - a)
        exact = quantile_of_data(mixture_cdf(start, [math.sqrt(a) * mean for mean in means], deviation), means, spread)
        end = run(scheduler, data.model(levels, "v_prediction"), start)
        errors.append(float((end - exact).square().mean().sqrt()))
    orders = [math.log2(first / second) for first, second in zip(errors[:-1], errors[1:], strict=True)]
    assert errors[-1] < 0.02 and all(0.7 < order < 1.4 for order in orders), (errors, orders)


# -- marginals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 30, 1000])
def test_a_point_mass_keeps_its_exact_marginal_at_every_step_for_every_eta(eta: float, steps: int) -> None:
    """DDIM's lemma 1: mean sqrt(b) x_0 and variance 1 - b, whatever eta is: direction^2 + sigma^2 = 1 - b."""
    scheduler = DDIMScheduler(**SD, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    for i, (_, t_next) in enumerate(scheduler.plan.pairs):
        c, b = scheduler.coefficients(i, eta), scheduler.noise_schedule.alpha_bar_at(t_next)
        assert math.isclose(c.direction**2 + c.sigma**2, 1 - b, rel_tol=1e-12, abs_tol=1e-15)
        assert math.isclose(c.alpha_next**2, b, rel_tol=1e-12)


def deviation_of_samples(data, steps: int, eta: float) -> tuple[float, float]:
    """Mean and deviation of all samples of a Gaussian: every step is affine in the sample and in the noise."""
    scheduler = DDIMScheduler(**SD, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    levels = scheduler.noise_schedule.alpha_bar
    model = data.model(levels, "epsilon")
    a = float(levels[-1])
    mean, variance = math.sqrt(a) * 0.7, a * 0.25 + 1 - a
    for t in scheduler.timesteps:
        x = torch.tensor([[mean], [mean + 1.0], [mean]], dtype=torch.float64)
        z = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
        base, up, noisy = scheduler.step(model(x, t), t, x, eta=eta, variance_noise=z).prev_sample[:, 0].tolist()
        mean, variance = base, (up - base) ** 2 * variance + (noisy - base) ** 2
    return mean, math.sqrt(variance)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_mean_is_right_and_the_deviation_converges_for_every_eta(mixture, eta: float) -> None:
    data = mixture(torch.tensor([[0.7]], dtype=torch.float64), 0.5)
    errors = []
    for steps in (50, 100, 200, 400):
        mean, deviation = deviation_of_samples(data, steps, eta)
        assert mean == pytest.approx(0.7, abs=0.0025)
        errors.append(0.5 - deviation)
    assert 0 < errors[-1] < 0.011
    assert all(later < 0.72 * earlier for earlier, later in zip(errors[:-1], errors[1:], strict=True)), errors


def test_the_loops_noise_has_the_moments_of_the_closed_form(mixture) -> None:
    data = mixture(torch.tensor([[0.7]], dtype=torch.float64), 0.5)
    scheduler = DDIMScheduler(**SD, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    levels = scheduler.noise_schedule.alpha_bar
    a, count = float(levels[-1]), 6000
    z = torch.randn(1, count, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    start = math.sqrt(a) * 0.7 + math.sqrt(a * 0.25 + 1 - a) * z
    end = sample(data.model(levels, "epsilon"), start, scheduler, eta=1.0, seed=5)
    mean, deviation = deviation_of_samples(data, 20, 1.0)
    assert float(end.mean()) == pytest.approx(mean, abs=4 * deviation / count**0.5)
    assert float(end.std()) == pytest.approx(deviation, rel=4 / (2 * count) ** 0.5)


def test_sigma_hat_is_the_larger_variance_of_the_paper() -> None:
    """Section 5: the mean of eta = 1 with noise of variance 1 - a / b."""
    scheduler = DDIMScheduler(**SD)
    scheduler.set_timesteps(20)
    for i, (t, t_next) in enumerate(scheduler.plan.pairs):
        hat, one = scheduler.coefficients(i, "sigma_hat"), scheduler.coefficients(i, 1.0)
        a, b = (scheduler.noise_schedule.alpha_bar_at(each) for each in (t, t_next))
        assert math.isclose(hat.sigma**2, 1 - a / b, rel_tol=1e-12) and hat.sigma > one.sigma
        assert hat.direction == one.direction


# -- brightness -------------------------------------------------------------------------------------------------------


def brightness(mixture, steps: int, **settings) -> float:
    """Mean of samples of N(1, 1) begun from noise of mean 0: the flow is affine, so the mean follows it alone."""
    data = mixture(torch.tensor([[1.0]], dtype=torch.float64), 1.0)
    scheduler = DDIMScheduler(**SD, prediction_type="v_prediction", **settings)
    scheduler.set_timesteps(steps)
    model = data.model(scheduler.noise_schedule.alpha_bar, "v_prediction")
    return float(run(scheduler, model, torch.zeros(1, 1, dtype=torch.float64)))


@pytest.mark.parametrize(("steps", "leading"), [(5, 0.851), (10, 0.896), (20, 0.916), (50, 0.926)])
def test_zero_snr_with_trailing_keeps_the_mean_exactly_where_leading_loses_it(
    mixture, steps: int, leading: float
) -> None:
    zero_snr = {"rescale_betas_zero_snr": True}
    assert brightness(mixture, steps, timestep_spacing="trailing", **zero_snr) == pytest.approx(1.0, abs=1e-12)
    assert brightness(mixture, steps, timestep_spacing="linspace", **zero_snr) == pytest.approx(1.0, abs=1e-12)
    assert brightness(mixture, steps, timestep_spacing="leading") == pytest.approx(leading, abs=0.001)
    assert brightness(mixture, steps, timestep_spacing="leading", **zero_snr) < 0.993


@pytest.mark.parametrize(("steps", "mean"), [(5, 0.824), (10, 0.909), (20, 0.953), (50, 0.981)])
def test_parity_diffusers_loses_the_mean_with_linspace_as_diffusers_does(mixture, steps: int, mean: float) -> None:
    settings = {"timestep_spacing": "linspace", "rescale_betas_zero_snr": True, "parity": "diffusers"}
    assert round(brightness(mixture, steps, **settings), 3) == mean


# -- k-diffusion ------------------------------------------------------------------------------------------------------


def ancestral_step(x: Tensor, denoised: Tensor, sigma_from: float, sigma_to: float, eta: float, z: Tensor) -> Tensor:
    """Euler with ancestral noise in variance-exploding coordinates (Karras et al. 2022 with noise added back)."""
    up = min(sigma_to, eta * math.sqrt(sigma_to**2 * (sigma_from**2 - sigma_to**2) / sigma_from**2))
    down = math.sqrt(max(sigma_to**2 - up**2, 0.0))
    return x + (x - denoised) / sigma_from * (down - sigma_from) + up * z


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_a_step_equals_k_diffusions_ancestral_step(six_modes, eta: float, prediction_type: str) -> None:
    scheduler = DDIMScheduler(**SD, prediction_type=prediction_type, timestep_spacing="trailing")
    scheduler.set_timesteps(23)
    noise = scheduler.noise_schedule
    draw = torch.Generator().manual_seed(2)
    for t, t_next in scheduler.plan.pairs:
        a, b = noise.alpha_bar_at(t), noise.alpha_bar_at(t_next)
        x, z = (torch.randn(4, 16, generator=draw, dtype=torch.float64) for _ in range(2))
        output = six_modes.output(x, a, prediction_type)
        ours = scheduler.step(output, t, x, eta=eta, variance_noise=z).prev_sample
        sigma_from, sigma_to = math.sqrt((1 - a) / a), math.sqrt((1 - b) / b)
        theirs = ancestral_step(x / math.sqrt(a), six_modes.x0(x, a), sigma_from, sigma_to, eta, z) * math.sqrt(b)
        assert float((ours - theirs).abs().max()) < 1e-12


# -- the tables of "Common Diffusion Noise Schedules and Sample Steps are Flawed" -------------------------------------


@pytest.mark.parametrize(
    ("settings", "snr", "root"),
    [
        (("linear", 0.0001, 0.02), "4.035993e-05", "0.006353"),
        (("squaredcos_cap_v2", 0.0001, 0.02), "2.428735e-09", "4.928220e-05"),
        (("scaled_linear", 0.00085, 0.012), "0.004682", "0.068265"),
    ],
)
def test_table_1_terminal_signal_to_noise(settings: tuple, snr: str, root: str) -> None:
    """To the last printed digit with the float32 tables that the paper was computed with; float64 agrees to 2e-5."""
    name, start, end = settings

    def as_printed(value: float, printed: str) -> bool:
        mantissa, _, exponent = printed.partition("e")
        last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        return abs(value - float(printed)) <= 1.01 * last_digit  # the last bit of a long product is the processor's

    last = make_noise_schedule(1000, start, end, name, parity="diffusers").alpha_bar_at(999)
    assert as_printed(last / (1 - last), snr) and as_printed(math.sqrt(last), root)
    exact = make_noise_schedule(1000, start, end, name).alpha_bar_at(999)
    assert exact == pytest.approx(last, rel=2e-5)


def test_table_2_timesteps() -> None:
    table = {
        "leading": [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
        "linspace": [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1],
        "trailing": [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100],
    }
    for spacing, timesteps in table.items():
        assert [t + 1 for t in make_plan(10, 1000, spacing).timesteps] == timesteps
