"""CFG++ (2406.08070) against its algorithm written out by hand, its limits, and plain guidance with another scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ddim
from ddim import CFGPlusPlus, DDIMError, GuidanceInterval, guide_plus_plus, guided_model

STEPS = 8
PREDICTIONS = ("epsilon", "sample", "v_prediction")


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


def vp_scheduler(prediction_type: str = "epsilon", **settings: Any) -> ddim.DDIMScheduler:
    made = ddim.DDIMScheduler(
        prediction_type=prediction_type, timestep_spacing="trailing", **({"clip_sample": False} | settings)
    )
    made.set_timesteps(STEPS)
    return made


def flow_scheduler(eta: float = 0.0) -> ddim.DDIMFlowScheduler:
    made = ddim.DDIMFlowScheduler(shift=3.0, eta=eta)
    made.set_timesteps(STEPS)
    return made


class Pair:
    """The exact denoisers of all six modes (without a condition) and of the first two (with one)."""

    def __init__(self, scheduler: Any, six_modes: Any, mixture: Any) -> None:
        self.schedule = ddim.Schedule.of(scheduler)
        self.scheduler, self.all, self.two = scheduler, six_modes, mixture(six_modes.means[:2], six_modes.spread)

    def level(self, t: Tensor) -> ddim.Level:
        return self.schedule.levels[self.scheduler.index_of(t)]

    def _model(self, data: Any) -> Callable[[Tensor, Tensor], Tensor]:
        def model(x: Tensor, t: Tensor) -> Tensor:
            level = self.level(t)
            x0 = data.x0(x.double() / level.length, level.alpha_bar)
            kind = self.scheduler.settings.prediction_type
            if kind == "sample":
                return x0.to(x.dtype)
            if kind == "epsilon" and level.alpha == 0.0:
                return x.clone()
            if kind == "flow_prediction":
                return ((x.double() - x0) / level.sigma).to(x.dtype)
            return ddim.output_from_x0(x0, x.double(), level, kind).to(x.dtype)

        return model

    @property
    def unconditional(self) -> Callable[[Tensor, Tensor], Tensor]:
        return self._model(self.all)

    @property
    def conditional(self) -> Callable[[Tensor, Tensor], Tensor]:
        return self._model(self.two)

    def guided(self, scale: float, mode: str = "cfg++", **more: Any) -> Callable[[Tensor, Tensor], Any]:
        return guided_model(self.conditional, self.unconditional, scale, mode=mode, **more)


@pytest.fixture
def pair_of(six_modes: Any, mixture: Any) -> Callable[[Any], Pair]:
    return lambda scheduler: Pair(scheduler, six_modes, mixture)


def edm_scheduler() -> ddim.DDIMScheduler:
    sigmas = tuple(0.02 * 4000 ** (i / 99) for i in range(100))
    config = ddim.SigmaConfig("variance_exploding", sigmas, time_scale=1.0, prediction_type="sample")
    return ddim.make_schedule(STEPS, config).scheduler()


SCHEDULERS = {
    **{kind: lambda kind=kind: vp_scheduler(kind) for kind in PREDICTIONS},
    "v_prediction, zero SNR": lambda: vp_scheduler("v_prediction", rescale_betas_zero_snr=True),
    "sample, zero SNR": lambda: vp_scheduler("sample", rescale_betas_zero_snr=True),
    "flow": flow_scheduler,
    "EDM": edm_scheduler,
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_a_run_is_the_paper_s_algorithm(pair_of: Callable[[Any], Pair], name: str, eta: float, scale: float) -> None:
    """Written out: x_0 from e_0 + lambda (e_c - e_0), then alpha_u x_0 + sqrt(sigma_u^2 - c^2) e_0 + c z."""
    scheduler = SCHEDULERS[name]()
    pair = pair_of(scheduler)
    noise = torch.randn(STEPS, 3, 16, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    result = ddim.sample(pair.guided(scale), start(), scheduler, eta=eta, variance_noise=noise if eta else None)

    kind, x = scheduler.settings.prediction_type, start()
    levels = pair.schedule.levels
    for i, t in enumerate(scheduler.timesteps):
        at, to = levels[i], levels[i + 1]
        outputs = [model(x, t) for model in (pair.unconditional, pair.conditional)]
        x0_0, x0_c = (ddim.predict_x0(output, x, at, kind) for output in outputs)
        e_0 = ddim.predict_epsilon(outputs[0], x, at, kind)
        kept = at.alpha * to.sigma / (to.alpha * at.sigma)
        c = eta * to.sigma * math.sqrt(1 - kept**2)
        # x_0 is linear in epsilon, so the guided epsilon gives the guided x_0; also where alpha is 0
        x = to.alpha * (x0_0 + scale * (x0_c - x0_0)) + math.sqrt(to.sigma**2 - c**2) * e_0 + c * noise[i]
    assert torch.allclose(result, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_lambda_0_is_sampling_without_the_condition_bit_for_bit(pair_of: Callable[[Any], Pair], name: str) -> None:
    scheduler = SCHEDULERS[name]()
    pair = pair_of(scheduler)
    for dtype in (torch.float32, torch.float16):
        x = start(dtype)
        plain = ddim.sample(pair.unconditional, x, scheduler, eta=0.5, seed=3)
        assert torch.equal(ddim.sample(pair.guided(0.0), x, scheduler, eta=0.5, seed=3), plain)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("scale", [0.4, 1.0])
def test_each_step_is_plain_guidance_with_the_scale_that_the_docstring_names(
    pair_of: Callable[[Any], Pair], name: str, eta: float, scale: float
) -> None:
    scheduler = SCHEDULERS[name]()
    pair = pair_of(scheduler)
    scales = []

    def plain(x: Tensor, t: Tensor) -> Tensor:
        c = scheduler.coefficients(scheduler.index_of(t), eta)
        x0, epsilon = c.alpha_next * c.x0.m, c.direction * c.epsilon.m
        scales.append(scale * x0 / (x0 + epsilon))
        return ddim.guide(pair.unconditional(x, t), pair.conditional(x, t), scales[-1])

    x, seeded = start(), {"eta": eta, "seed": 3}
    expected = ddim.sample(plain, x, scheduler, **seeded)
    assert torch.allclose(ddim.sample(pair.guided(scale), x, scheduler, **seeded), expected, rtol=1e-8, atol=1e-8)
    assert min(scales) >= scale and scales[-1] == pytest.approx(scale)  # the last step has no direction


def test_lambda_1_with_equal_prompts_is_sampling_with_the_condition(pair_of: Callable[[Any], Pair]) -> None:
    scheduler = vp_scheduler()
    pair = pair_of(scheduler)
    same = guided_model(pair.conditional, pair.conditional, 1.0, mode="cfg++")
    assert torch.equal(ddim.sample(same, start(), scheduler), ddim.sample(pair.conditional, start(), scheduler))


@pytest.mark.parametrize("settings", [{"clip_sample": True}, {"thresholding": True, "sample_max_value": 2.0}])
def test_x0_is_processed_and_the_direction_is_not(pair_of: Callable[[Any], Pair], settings: dict[str, Any]) -> None:
    scheduler = vp_scheduler(clip_sample_range=0.5, **({"clip_sample": False} | settings))
    pair = pair_of(scheduler)
    seen: list[Tensor] = []
    result = ddim.sample(pair.guided(0.7), start(), scheduler, callback=lambda i, t, x, x0: seen.append(x0))
    x = start()
    for i, t in enumerate(scheduler.timesteps):
        c = scheduler.coefficients(i)
        uncond, text = pair.unconditional(x, t), pair.conditional(x, t)
        x0 = scheduler.process_x0(c.x0.x * x + c.x0.m * torch.lerp(uncond, text, 0.7))
        assert torch.allclose(seen[i], x0, atol=1e-10)
        x = c.alpha_next * x0 + c.direction * (c.epsilon.x * x + c.epsilon.m * uncond)
    assert torch.allclose(result, x, atol=1e-10)
    with pytest.raises(DDIMError, match="use one of them"):
        ddim.sample(pair.guided(0.7), start(), scheduler, use_clipped_model_output=True)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_fixed_point_inverts_it(pair_of: Callable[[Any], Pair], name: str, scale: float) -> None:
    scheduler = SCHEDULERS[name]()
    pair = pair_of(scheduler)
    model = pair.guided(scale)
    image = ddim.sample(model, start(), scheduler)
    plain = ddim.invert(model, image, scheduler, method="ddim")
    found = ddim.invert(model, image, scheduler, method="fixed_point", refinements=100)
    assert bool((found.residual <= plain.residual).all())
    if "zero SNR" in name:  # whose first step depends on nothing but the prompt: any latent gives it
        return
    assert float(found.residual.max()) < 1e-20
    assert torch.allclose(ddim.reconstruct(model, found, scheduler), image, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("method", ["edict", "variance_noise"])
def test_the_exact_methods_stay_exact(pair_of: Callable[[Any], Pair], name: str, method: str) -> None:
    scheduler = SCHEDULERS[name]()
    model = pair_of(scheduler).guided(0.6)
    image = ddim.sample(model, start(), scheduler)
    found = ddim.invert(model, image, scheduler, method=method, seed=1)
    assert float(found.residual.max()) < 1e-18


def test_plain_inversion_is_the_authors_own(pair_of: Callable[[Any], Pair]) -> None:
    """Their inversion takes x_0 with the unconditional epsilon and goes up with the guided one.

    That undoes a step whose outputs do not change; ours also scales what the network sees to its level, so it is
    compared with a network that ignores the scale.
    """
    scheduler = vp_scheduler()
    direction = torch.randn(3, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def model(x: Tensor, t: Tensor) -> CFGPlusPlus:
        return guide_plus_plus(direction.cos() * float(t) / 1000, direction * float(t) / 1000, 0.6)

    image = start()
    found = ddim.invert(model, image, scheduler, method="ddim", check=False)
    levels, x = ddim.Schedule.of(scheduler).levels, image
    for i in reversed(range(STEPS)):
        guided, e_0 = model(x, scheduler.timesteps[i])
        upper, lower = levels[i], levels[i + 1]
        x = upper.alpha * (x - lower.sigma * e_0) / lower.alpha + upper.sigma * guided
    assert torch.allclose(found.latent, x, rtol=1e-9)


def test_parallel_sampling_gives_the_sequential_result(pair_of: Callable[[Any], Pair]) -> None:
    scheduler = vp_scheduler()
    model = pair_of(scheduler).guided(0.6)
    level = {float(t): t for t in scheduler.timesteps}

    def batched(x: Tensor, t: Tensor) -> CFGPlusPlus:
        if not t.ndim:
            return model(x, t)
        parts = [model(part, level[float(t[3 * i])]) for i, part in enumerate(x.split(3))]
        return CFGPlusPlus(*map(torch.cat, zip(*parts, strict=True)))

    expected = ddim.sample(model, start(), scheduler, eta=0.5, seed=1)
    for window in (1, 4):
        found = ddim.sample_parallel(batched, start(), scheduler, window=window, tolerance=0.0, eta=0.5, seed=1)
        assert torch.allclose(found.sample, expected, atol=1e-12)


def test_what_cannot_be_is_refused_in_one_sentence(pair_of: Callable[[Any], Pair]) -> None:
    scheduler = vp_scheduler()
    pair = pair_of(scheduler)
    for scale in (7.5, -0.1):
        with pytest.raises(DDIMError, match=r"lambda in \[0, 1\].*lower the scale"):
            pair.guided(scale)
        with pytest.raises(DDIMError, match="lambda"):
            guide_plus_plus(start(), start(), scale)
    with pytest.raises(DDIMError, match="mode must be"):
        pair.guided(0.5, mode="cfgpp")
    with pytest.raises(DDIMError, match="whose steps have no limit"):
        ddim.fit_timesteps(pair.guided(0.5), start(), scheduler, 4, grid=6)
    with pytest.raises(DDIMError, match=r"must return a floating-point tensor of shape \(3, 16\)"):
        ddim.sample(lambda x, t: CFGPlusPlus(x, x[:1]), start(), scheduler)


# -- guidance interval ------------------------------------------------------------------------------------------------


def counted(model: Callable[[Tensor, Tensor], Tensor], calls: list[int]) -> Callable[[Tensor, Tensor], Tensor]:
    def counting(x: Tensor, t: Tensor) -> Tensor:
        calls.append(1)
        return model(x, t)

    return counting


@pytest.mark.parametrize("mode, scale", [("cfg", 3.0), ("cfg++", 0.6)])
@pytest.mark.parametrize("make", [vp_scheduler, flow_scheduler])
def test_outside_the_interval_the_unconditional_model_is_not_called(
    pair_of: Callable[[Any], Pair], make: Callable[[], Any], mode: str, scale: float
) -> None:
    scheduler = make()
    pair, calls = pair_of(scheduler), []
    active = GuidanceInterval(0.25, 0.75).on(scheduler)
    model = guided_model(pair.conditional, counted(pair.unconditional, calls), scale, mode=mode, active=active)
    result = ddim.sample(model, start(), scheduler)
    assert len(calls) == STEPS // 2
    everywhere, steps = pair.guided(scale, mode), iter(range(STEPS))

    def by_hand(x: Tensor, t: Tensor) -> Any:
        return everywhere(x, t) if 2 <= next(steps) < 6 else pair.conditional(x, t)

    assert torch.equal(result, ddim.sample(by_hand, start(), scheduler))


@pytest.mark.parametrize("make", [vp_scheduler, flow_scheduler])
def test_the_whole_run_as_interval_changes_nothing(pair_of: Callable[[Any], Pair], make: Callable[[], Any]) -> None:
    scheduler = make()
    pair = pair_of(scheduler)
    expected = ddim.sample(pair.guided(3.0, "cfg"), start(), scheduler)
    for interval in (GuidanceInterval(0.0, 1.0), GuidanceInterval(-math.inf, math.inf, "log_snr")):
        active = interval.on(scheduler)
        assert torch.equal(ddim.sample(pair.guided(3.0, "cfg", active=active), start(), scheduler), expected)


def test_an_interval_of_noise_levels_is_the_paper_s(pair_of: Callable[[Any], Pair]) -> None:
    """(sigma_low, sigma_high] of a variance exploding model, whose log-SNR is -2 ln sigma."""
    sigmas = (0.1, 0.5, 1.0, 2.0, 5.0, 20.0)
    schedule = ddim.make_schedule(6, ddim.SigmaConfig("variance_exploding", sigmas, time_scale=1.0))
    interval = GuidanceInterval(-2 * math.log(5.0), -2 * math.log(0.5), "log_snr")
    assert {sigmas[t] for t in interval.timesteps(schedule)} == {1.0, 2.0, 5.0}
    shares = GuidanceInterval(0.5, 1.0).timesteps(schedule)
    assert {sigmas[t] for t in shares} == {0.1, 0.5, 1.0}


def test_an_inversion_with_an_interval_comes_back(pair_of: Callable[[Any], Pair]) -> None:
    scheduler = vp_scheduler()
    pair = pair_of(scheduler)
    model = pair.guided(0.4, active=GuidanceInterval(0.25, 0.75).on(scheduler))
    image = ddim.sample(model, start(), scheduler)
    found = ddim.invert(model, image, scheduler, method="fixed_point", refinements=100)
    assert float(found.residual.max()) < 1e-20


def test_intervals_that_cannot_be_are_refused() -> None:
    for start_, end in [(0.8, 0.2), (0.5, 0.5), (math.nan, 1.0)]:
        with pytest.raises(DDIMError, match=r"start below its end|must be a finite number"):
            GuidanceInterval(start_, end)
    with pytest.raises(DDIMError, match="a share of the run"):
        GuidanceInterval(0.0, 5.0)
    with pytest.raises(DDIMError, match="unit must be"):
        GuidanceInterval(0.0, 1.0, "sigma")
    with pytest.raises(DDIMError, match="scheduler must be"):
        GuidanceInterval(0.0, 1.0).on(None)  # type: ignore[arg-type]
