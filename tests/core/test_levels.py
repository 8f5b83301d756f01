"""Flow and variance exploding models, against closed forms: exact flows, exact marginals, another sampler's formula."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ddim
from ddim import FLOW, VARIANCE_EXPLODING, Level, Schedule, SigmaConfig

KINDS = [FLOW, VARIANCE_EXPLODING]
Model = Callable[[Tensor, Tensor], Tensor]


def config_of(kind: str, count: int = 1000, **settings) -> SigmaConfig:
    """Evenly spaced sigmas of a flow model, shifted by 3 as SD3's are; those of an EDM model by its own rule."""
    ramp = torch.linspace(1 / count, 1, count, dtype=torch.float64)
    if kind == FLOW:
        sigmas = 3 * ramp / (1 + 2 * ramp)
    else:
        sigmas = (0.002 ** (1 / 7) + (ramp - ramp[0]) / (1 - ramp[0]) * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
    return SigmaConfig(kind, sigmas, **settings)


class Mixture:
    """Data from Gaussians of one deviation, and the exact x_0 that a sample implies."""

    def __init__(self, means: list[float], deviation: float) -> None:
        self.means = torch.tensor(means, dtype=torch.float64)
        self.deviation = deviation

    def x0(self, x: Tensor, level: Level) -> Tensor:
        variance = (level.alpha * self.deviation) ** 2 + level.sigma**2
        gaps = x[..., None] - level.alpha * self.means
        shares = torch.softmax(-(gaps**2) / (2 * variance), -1)
        each = self.means + level.alpha * self.deviation**2 / variance * gaps
        return (shares * each).sum(-1)

    def model(self, schedule: Schedule) -> Model:
        levels = {float(t): level for t, level in zip(schedule.scheduler().timesteps, schedule.levels, strict=False)}
        output = as_output(schedule.config.prediction_type)

        def call(x: Tensor, t: Tensor) -> Tensor:
            if t.ndim:
                return torch.cat([call(x[i : i + 1], each) for i, each in enumerate(t)])
            level = levels[float(t)]
            return output(x, self.x0(x, level), level)

        return call

    def quantiles(self, x: Tensor, level: Level) -> Tensor:
        """The share of samples at a level that are below x."""
        deviation = math.hypot(level.alpha * self.deviation, level.sigma)
        return torch.special.ndtr((x[..., None] - level.alpha * self.means) / deviation).mean(-1)


def as_output(prediction_type: str) -> Callable[[Tensor, Tensor, Level], Tensor]:
    """What a model of a type returns where x_0 is right, from the definitions of the outputs."""

    def epsilon(x: Tensor, x0: Tensor, level: Level) -> Tensor:
        return (x - level.alpha * x0) / level.sigma

    return {
        "sample": lambda x, x0, level: x0,
        "epsilon": epsilon,
        "flow_prediction": lambda x, x0, level: epsilon(x, x0, level) - x0,
        "inverted_flow_prediction": lambda x, x0, level: x0 - epsilon(x, x0, level),
    }[prediction_type]


def orders(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in zip(errors[:-1], errors[1:], strict=True)]


@pytest.mark.parametrize(
    ("kind", "prediction_type"), [(kind, name) for kind in KINDS for name in ddim.SIGMA_PREDICTION_TYPES[kind]]
)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "quad"])
@pytest.mark.parametrize("means", [[0.7], [-1.0, 0.2, 1.5]])
def test_eta_0_converges_to_the_exact_flow_with_order_one(kind, prediction_type, spacing, means):
    """In one dimension the flow keeps every sample's quantile, so two distribution functions give the solution."""
    data, errors = Mixture(means, 0.35), []
    for steps in (20, 40, 80, 160):
        config = config_of(kind, 2000, prediction_type=prediction_type, timestep_spacing=spacing)
        schedule = ddim.make_schedule(steps, config)
        if prediction_type == "epsilon" and schedule.levels[0].alpha == 0.0:
            schedule = schedule.part(1)  # epsilon says nothing about x_0 where there is only noise
        start, end = schedule.levels[0], Level(1.0, 0.0)
        x = torch.linspace(-1.5, 1.5, 15, dtype=torch.float64)[:, None] * start.length
        result = ddim.sample(data.model(schedule), x, schedule.scheduler())
        errors.append(float((data.quantiles(result, end) - data.quantiles(x, start)).abs().max()))
    assert errors[-1] < 0.04, errors
    assert all(0.6 < order < 1.6 for order in orders(errors)), (errors, orders(errors))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, "sigma_hat"])
def test_mean_and_deviation_of_the_data_are_kept_for_every_eta(kind, eta):
    """Every step is affine in sample and noise where the data are Gaussian, so both are propagated without sampling."""
    data, found = Mixture([1.3], 0.7), []
    for steps in (100, 200, 400):
        schedule = ddim.make_schedule(steps, config_of(kind, 4000))
        scheduler, model = schedule.scheduler(), data.model(schedule)
        level = schedule.levels[0]
        mean, variance = level.alpha * 1.3, (level.alpha * 0.7) ** 2 + level.sigma**2
        for i, t in enumerate(scheduler.timesteps):
            points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
            zero, one = scheduler.step(
                model(points, t), t, points, eta, variance_noise=0 * points
            ).prev_sample.flatten()
            slope = float(one - zero)
            mean, variance = float(zero) + slope * mean, slope**2 * variance
            variance += float(scheduler.coefficients(i, eta).sigma) ** 2
        found.append((abs(mean - 1.3), abs(math.sqrt(variance) - 0.7)))
    assert found[-1][0] < 1e-12 and found[-1][1] < 0.012, found
    assert found[-1][1] < 0.6 * found[0][1], found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 30, 300])
def test_a_point_mass_keeps_its_exact_marginal_at_every_step(kind, eta, steps):
    """DDIM's lemma 1: the level after a step holds alpha x_0 and noise of variance sigma^2, whatever eta is."""
    schedule = ddim.make_schedule(steps, config_of(kind))
    scheduler = schedule.scheduler()
    for i, level in enumerate(schedule.levels[1:]):
        c = scheduler.coefficients(i, eta)
        assert math.isclose(math.hypot(c.direction, c.sigma), level.sigma, rel_tol=1e-12, abs_tol=1e-15)
        assert math.isclose(c.alpha_next, level.alpha, rel_tol=1e-12)


def test_eta_0_of_a_flow_model_is_eulers_step():
    """x + (sigma_u - sigma_t) m, which is what flow models are sampled with elsewhere."""
    schedule = ddim.make_schedule(20, config_of(FLOW))
    scheduler = schedule.scheduler()
    for i, (at, to) in enumerate(zip(schedule.levels[:-1], schedule.levels[1:], strict=True)):
        c = scheduler.coefficients(i)
        assert math.isclose(c.step.x, 1.0, abs_tol=1e-15)
        assert math.isclose(c.step.m, to.sigma - at.sigma, rel_tol=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_step_with_noise_is_ancestral_sampling_of_flow_models(share):
    """The step of "Euler ancestral" for rectified flow, written as that sampler writes it: to a lower sigma, then
    rescaled and renoised. It is equation (12) with its own weight of the noise."""
    generator = torch.Generator().manual_seed(4)
    x, x0, z = torch.randn((3, 2, 50), generator=generator, dtype=torch.float64)
    for t, u in ((0.999, 0.9), (0.7, 0.6), (0.3, 0.05)):
        down = u * (1 + (u / t - 1) * share)
        weight = math.sqrt(u**2 - down**2 * (1 - u) ** 2 / (1 - down) ** 2)
        other = (1 - u) / (1 - down) * ((down / t) * x + (1 - down / t) * x0) + weight * z
        config = SigmaConfig(FLOW, (u, t), prediction_type="sample")
        schedule = ddim.make_schedule(2, config).part(0, 1)
        eta = weight / float(schedule.scheduler().coefficients(0, 1.0).sigma)
        assert 0 < eta <= 1
        mine = ddim.sample(lambda *_: x0, x, schedule.scheduler(), eta=eta, variance_noise=z[None])
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_all_ways_to_run_agree(kind):
    schedule = ddim.make_schedule(12, config_of(kind))
    model, scheduler = Mixture([-1.0, 1.0], 0.4).model(schedule), schedule.scheduler()
    x = torch.randn((3, 2, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = ddim.sample(model, x, scheduler, eta=0.6, seed=9)
    parallel = ddim.sample_parallel(model, x, scheduler, window=5, tolerance=0, eta=0.6, seed=9).sample
    torch.testing.assert_close(parallel, whole, rtol=1e-12, atol=1e-12)
    first, second = schedule.part(0, 5), schedule.part(5)
    middle = ddim.sample(model, x, first.scheduler(), eta=0.6, seed=9)
    torch.testing.assert_close(ddim.sample(model, middle, second.scheduler(), eta=0.6, seed=9), whole)
    state = x
    noise = torch.randn((12, *x.shape), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for t, z in zip(scheduler.timesteps, noise, strict=True):
        state = scheduler.step(model(state, t), t, state, 0.6, variance_noise=z).prev_sample
    torch.testing.assert_close(state, ddim.sample(model, x, scheduler, eta=0.6, variance_noise=noise))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_images_at_different_times_is_the_step_of_each(kind):
    schedule = ddim.make_schedule(10, config_of(kind))
    scheduler = schedule.scheduler()
    times = scheduler.timesteps[[7, 0, 3]]
    x, m, z = torch.randn((3, 3, 2, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = scheduler.step(m, times, x, 0.5, variance_noise=z)
    for i, t in enumerate(times):
        for timestep in (t, float(t), t.clone()):
            alone = scheduler.step(m[i : i + 1], timestep, x[i : i + 1], 0.5, variance_noise=z[i : i + 1])
            torch.testing.assert_close(alone.prev_sample, together.prev_sample[i : i + 1], rtol=1e-12, atol=1e-12)
    noisy = scheduler.add_noise(x, z, times)
    for i, index in enumerate((7, 0, 3)):
        level = schedule.levels[index]
        torch.testing.assert_close(noisy[i], level.alpha * x[i] + level.sigma * z[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timestep", [5, 0.123, math.nan, torch.tensor(3), torch.tensor([1.0, 2.0])])
def test_a_time_outside_the_plan_is_refused(kind, timestep):
    scheduler = ddim.make_schedule(10, config_of(kind)).scheduler()
    x = torch.zeros(2, 4)
    with pytest.raises(ddim.DDIMError, match="timesteps?"):
        scheduler.step(x, timestep, x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
@pytest.mark.parametrize("steps", [10, 40])
def test_inversions_of_an_imperfect_model_lead_back(kind, method, steps, tmp_path):
    schedule = ddim.make_schedule(steps, config_of(kind))
    right, output = Mixture([0.0], 0.8), as_output(schedule.config.prediction_type)
    levels = {float(t): level for t, level in zip(schedule.scheduler().timesteps, schedule.levels, strict=False)}

    def model(x: Tensor, t: Tensor) -> Tensor:
        level = levels[float(t)]
        return output(x, right.x0(x, level) + 0.1 * torch.sin(2 * x / level.length), level)

    x0 = 0.8 * torch.randn((3, 2, 16), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = ddim.invert(model, x0, schedule.scheduler(), method=method, seed=3)
    limit = {"ddim": 0.2 / steps, "fixed_point": 1e-9, "edict": 1e-20, "variance_noise": 1e-25, "bdia": 1e-25}[method]
    assert float(found.residual.max()) < limit, found.residual
    ddim.save_noise(found, tmp_path / "noise.safetensors")
    loaded = ddim.load_noise(tmp_path / "noise.safetensors")
    assert loaded.schedule == schedule and loaded.schedule.noise.kind == kind
    assert float((ddim.reconstruct(model, loaded) - x0).square().mean()) < limit


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_noise_of_a_right_model_has_the_variance_that_steps_of_finite_length_imply(kind):
    """z is the step's own noise and, beside it, what the model cannot know of x_0: 1 + (weight of x_0 / sigma)^2 V."""
    data, schedule = Mixture([0.0], 1.0), ddim.make_schedule(20, config_of(kind))
    x0 = torch.randn((1, 20_000), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = ddim.invert(data.model(schedule), x0, schedule.scheduler(), method="variance_noise", seed=1)
    for i, z in enumerate(found.variance_noise[:-1]):
        at, c = schedule.levels[i], schedule.scheduler().coefficients(i, 1.0)
        unknown = at.sigma**2 / at.length**2
        variance = 1 + ((c.alpha_next - c.direction * at.alpha / at.sigma) / c.sigma) ** 2 * unknown
        assert abs(float(z.mean())) < 0.03 * math.sqrt(variance)
        assert abs(float(z.var()) / variance - 1) < 0.04
    assert abs(float(found.latent.std()) / schedule.levels[0].length - 1) < 0.03


def test_noise_of_another_kind_of_model_is_refused():
    x0 = torch.zeros(1, 4, dtype=torch.float64)
    flow, exploding = (ddim.make_schedule(5, config_of(kind, prediction_type="sample")) for kind in KINDS)
    found = ddim.invert(lambda x, t: x * 0, x0, flow.scheduler())
    with pytest.raises(ddim.DDIMError, match="a flow model, got a variance exploding one"):
        ddim.reconstruct(lambda x, t: x * 0, found, exploding.scheduler())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loops_keep_a_float32_state(dtype):
    data, schedule = Mixture([-1.0, 1.0], 0.4), ddim.make_schedule(200, config_of(FLOW))
    model = data.model(schedule)
    x = torch.randn((2, 500), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    truth = ddim.sample(model, x, schedule.scheduler())
    state, scheduler = x.to(dtype), schedule.scheduler()
    for t in scheduler.timesteps:
        state = scheduler.step(model(state.double(), t).to(dtype), t, state).prev_sample.clone()
    error = float((state.double() - truth).square().mean().sqrt())
    assert error < 20 * torch.finfo(dtype).eps, error


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_step_is_the_eager_one(kind):
    scheduler = ddim.make_schedule(10, config_of(kind)).scheduler()
    x, m = torch.randn((2, 2, 4), generator=torch.Generator().manual_seed(1))
    torch._dynamo.reset()
    compiled = torch.compile(lambda m, t, x: scheduler.step(m, t, x).prev_sample, fullgraph=True, backend="eager")
    for t in scheduler.timesteps:
        torch.testing.assert_close(compiled(m, t, x), scheduler.step(m, t, x).prev_sample)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "vp"}, "kind must be"),
        ({"sigmas": [0.5, 0.2]}, "must rise strictly"),
        ({"sigmas": [0.5, 0.5]}, "must rise strictly"),
        ({"sigmas": [0.5, 1.5]}, r"sigmas\[1\]"),
        ({"sigmas": [math.nan]}, r"sigmas\[0\]"),
        ({"sigmas": []}, "sigmas must be a flat list"),
        ({"sigmas": 3}, "sigmas must be a flat list"),
        ({"final_sigma": 0.2}, "must rise strictly"),
        ({"prediction_type": "v_prediction"}, "prediction_type must be"),
        ({"times": [1.0]}, "times must be as many"),
        ({"time_scale": 0}, "time_scale"),
        ({"times": [1.0, 1.0, 2.0]}, "times must differ"),
        ({"times": [1.0, math.inf, 2.0]}, r"times\[1\]"),
        ({"clip_sample": 1}, "clip_sample must be True or False"),
        ({"sample_max_value": 0.5}, "sample_max_value"),
        ({"timestep_spacing": "even"}, "timestep_spacing"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ddim.DDIMError, match=words):
        SigmaConfig(**{"kind": FLOW, "sigmas": [0.2, 0.6, 1.0], **settings})


def test_what_a_flow_model_lacks_is_said():
    scheduler = ddim.make_schedule(5, config_of(FLOW)).scheduler()
    for name in ("betas", "alphas"):
        assert not hasattr(scheduler, name)
        with pytest.raises(ddim.DDIMError, match="no betas"):
            getattr(scheduler, name)
    with pytest.raises(ddim.DDIMError, match="epsilon"):
        ddim.make_schedule(5, config_of(FLOW, prediction_type="epsilon")).check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_of_sigmas_is_not_read_as_one_of_betas(kind):
    scheduler = ddim.make_schedule(5, config_of(kind)).scheduler()
    with pytest.raises(ddim.DDIMError, match="settings of a SigmaConfig"):
        ddim.DDIMScheduler.from_config(scheduler.config)
    assert ddim.DDIMScheduler.from_settings(scheduler.settings).settings == scheduler.settings


def test_a_model_that_is_called_with_the_logarithm_of_sigma():
    """EDM's own conditioning, ln(sigma) / 4, is negative below 1."""
    sigmas = torch.logspace(-2, 1.5, 40, dtype=torch.float64).tolist()
    config = SigmaConfig(VARIANCE_EXPLODING, sigmas, times=[math.log(sigma) / 4 for sigma in sigmas])
    seen = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        seen.append(math.exp(4 * float(t)))
        return x / (1 + seen[-1] ** 2)

    schedule = ddim.make_schedule(10, config)
    scheduler = schedule.scheduler()
    ddim.sample(model, scheduler.init_noise_sigma * torch.ones(1, 4), scheduler)
    assert seen == pytest.approx([level.sigma for level in schedule.levels[:-1]], rel=1e-5)
    assert scheduler.init_noise_sigma == pytest.approx(math.sqrt(1 + sigmas[-1] ** 2))


def test_a_copy_holds_no_tensors():
    schedule = ddim.make_schedule(10, config_of(FLOW))
    scheduler = schedule.scheduler()
    scheduler.add_noise(torch.zeros(1, 2), torch.zeros(1, 2), scheduler.timesteps[:1])
    copied = pickle.loads(pickle.dumps(scheduler))
    assert set(vars(copied.__getstate__()["settings"])) - {"noise_schedule"} == set(schedule.config)
    assert b"torch" not in pickle.dumps(schedule.config)
    assert copied.settings == scheduler.settings and torch.equal(copied.timesteps, scheduler.timesteps)


def test_an_inverse_scheduler_has_the_times_of_its_model():
    inverse = ddim.DDIMInverseScheduler.from_settings(SigmaConfig(FLOW, (0.1, 0.5, 1.0)))
    assert inverse.timesteps.tolist() == [100.0, 500.0, 1000.0]


def test_noise_of_a_run_that_ends_at_another_sigma_is_refused():
    x0 = torch.zeros(1, 4, dtype=torch.float64)
    one, other = (
        ddim.make_schedule(2, SigmaConfig(FLOW, (low, 0.9), prediction_type="sample")) for low in (1e-4, 2e-4)
    )
    found = ddim.invert(lambda x, t: x * 0, x0, one.scheduler())
    with pytest.raises(ddim.DDIMError, match="noise levels"):
        ddim.reconstruct(lambda x, t: x * 0, found, other.scheduler())
