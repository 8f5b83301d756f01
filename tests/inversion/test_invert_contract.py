"""What ``invert`` promises beyond the error: calls, batches, precision, progress, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ddim
from ddim import DDIMError, VarianceNoise


@pytest.fixture
def plan(scheduler: Any) -> ddim.DDIMScheduler:
    return scheduler(8)


@pytest.fixture
def data(mixture: Any) -> Any:
    return mixture(21, shape=(2, 6, 6))


class Counted:
    """A model that counts its calls."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.model(x, t)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
def test_model_calls_are_as_announced(plan: Any, data: Any, method: str, check: bool) -> None:
    model = Counted(data.model(plan))
    found = ddim.invert(model, data.draw(1, 1), plan, method=method, seed=1, check=check)
    most = ddim.model_calls(method, 8, check=check)
    assert model.calls == most if method != "fixed_point" else 16 < model.calls <= most
    assert bool(found.residual.isnan().all()) == (not check and method != "variance_noise")


def test_variance_noise_costs_one_call_per_step_each_way(plan: Any, data: Any) -> None:
    model = Counted(data.model(plan))
    found = ddim.invert(model, data.draw(1, 1), plan, method="variance_noise", seed=1)
    assert model.calls == 8
    ddim.sample(model, found.latent, plan, eta=1.0, variance_noise=found.variance_noise)
    assert model.calls == 16


@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
def test_an_image_does_not_depend_on_its_batch(plan: Any, data: Any, method: str) -> None:
    model, x0 = data.model(plan), data.draw(4, 3)
    together = ddim.invert(model, x0, plan, method=method, seed=9)
    alone = ddim.invert(model, x0[2:3], plan, method=method, seed=9, image_indices=[2])
    assert torch.allclose(together.latent[2:3], alone.latent, rtol=0, atol=1e-9)
    if together.variance_noise is not None:
        back = ddim.sample(model, alone.latent, plan, eta=1.0, variance_noise=together.variance_noise[:, 2:3])
        assert torch.allclose(back, x0[2:3], rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
def test_the_callback_sees_every_step_and_can_stop(plan: Any, data: Any, method: str) -> None:
    seen: list[tuple[int, int]] = []

    def note(i: int, t: Tensor, x: Tensor, x0: Tensor) -> None:
        assert x.shape == x0.shape == (2, 2, 6, 6)
        seen.append((i, int(t)))

    ddim.invert(data.model(plan), data.draw(2, 1), plan, method=method, seed=1, callback=note)
    timesteps = plan.timesteps.tolist() if method == "variance_noise" else plan.timesteps.tolist()[::-1]
    assert seen == list(enumerate(timesteps))

    def stop(i: int, t: Tensor, x: Tensor, x0: Tensor) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ddim.invert(data.model(plan), data.draw(2, 1), plan, method=method, seed=1, callback=stop)


@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
def test_the_callback_of_reconstruct_sees_what_the_model_saw(plan: Any, data: Any, method: str) -> None:
    """The sample before each step, and the x_0 that the model's output for that very sample means."""
    network, seen = data.model(plan), []

    def model(x: Tensor, t: Tensor) -> Tensor:
        seen.append((int(t), x))
        return network(x, t)

    def check(i: int, t: Tensor, x: Tensor, x0: Tensor) -> None:
        assert any(step == int(t) and torch.equal(x, given) for step, given in seen)
        alpha_bar = ddim.Schedule.of(plan).noise.alpha_bar_at(int(t))
        expected = (x - (1 - alpha_bar) ** 0.5 * network(x, t)) / alpha_bar**0.5
        assert torch.allclose(x0, expected, rtol=0, atol=1e-9)

    found = ddim.invert(network, data.draw(2, 1), plan, method=method, seed=1, check=False)
    ddim.reconstruct(model, found, plan, callback=check)
    assert seen


def test_half_precision_noise_keeps_the_picture(plan: Any, data: Any, mse: Any) -> None:
    model, x0 = data.model(plan), data.draw(2, 5)
    found = ddim.invert(model, x0, plan, method="variance_noise", seed=1, noise_dtype=torch.float16)
    noise = found.variance_noise
    assert torch.equal(noise[:-1].half().double(), noise[:-1].double())
    back = ddim.sample(model, found.latent, plan, eta=1.0, variance_noise=noise)
    assert float(mse(back, x0).max()) <= 1e-26


def test_half_precision_pictures_come_back_to_their_own_rounding(plan: Any, data: Any) -> None:
    model, x0 = data.model(plan), data.draw(2, 5).half()
    found = ddim.invert(model, x0, plan, method="variance_noise", seed=1)
    assert found.latent.dtype == torch.float16 and found.variance_noise.dtype == torch.float32
    back = ddim.sample(model, found.latent, plan, eta=1.0, variance_noise=found.variance_noise)
    assert torch.equal(back, x0)


def test_noise_drawn_by_a_caller_is_not_taken_for_a_residual(plan: Any, data: Any) -> None:
    """The last step adds no noise, and a plain tensor's last row is noise: it must have no effect."""
    model, x = data.model(plan), data.draw(2, 5)
    noise = torch.randn(8, *x.shape, dtype=torch.float64)
    other = torch.cat([noise[:-1], noise[-1:] + 1])
    results = [ddim.sample(model, x, plan, eta=1.0, variance_noise=each) for each in (noise, other)]
    assert torch.equal(*results)


def test_recorded_noise_keeps_its_meaning_through_copies_only() -> None:
    noise = torch.randn(3, 2, 4).as_subclass(VarianceNoise)
    for kept in (noise.clone(), noise.float(), noise.to(torch.float64), noise[:, 1:], noise[-1], noise.half().cpu()):
        assert type(kept) is VarianceNoise
    for lost in (noise * 2, torch.randn_like(noise), noise + noise, torch.stack([noise]), noise.mean()):
        assert type(lost) is Tensor


def test_the_input_is_left_alone(plan: Any, data: Any) -> None:
    x0 = data.draw(2, 5)
    before = x0.clone()
    for method in ddim.INVERSION_METHODS:
        ddim.invert(data.model(plan), x0, plan, method=method, seed=1)
    assert torch.equal(x0, before)


def test_the_seed_is_the_only_chance(plan: Any, data: Any) -> None:
    model, x0 = data.model(plan), data.draw(2, 5)
    state = torch.get_rng_state()
    one, same, other = (ddim.invert(model, x0, plan, method="variance_noise", seed=s).latent for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 7.5])
@pytest.mark.parametrize("method", ["edict", "variance_noise", "bdia"])
def test_guided_inversion_is_exact_under_the_same_guidance(
    plan: Any, mixture: Any, mse: Any, method: str, guidance: float
) -> None:
    """Scale 7.5 is where plain inversion breaks down."""
    one, two = mixture(1, shape=(2, 6, 6)), mixture(2, shape=(2, 6, 6))
    model = ddim.guided_model(one.model(plan), two.model(plan), guidance, 0.3)
    x0 = one.draw(2, 4)
    found = ddim.invert(model, x0, plan, method=method, seed=1)
    assert float(mse(ddim.reconstruct(model, found), x0).max()) <= 1e-18


def test_a_fixed_point_keeps_going_when_the_model_overflows(plan: Any, data: Any) -> None:
    """Iterates that run away to infinity are not taken."""
    calm = data.model(plan)

    def wild(x: Tensor, t: Tensor) -> Tensor:
        return calm(x, t) + torch.where(x.abs() > 3.5, torch.full_like(x, torch.inf), torch.zeros_like(x))

    found = ddim.invert(wild, data.draw(2, 5) * 0.5, plan, method="fixed_point", refinements=8)
    assert bool(found.latent.isfinite().all())


REFUSED = {
    "unknown method": (dict(method="ddmi"), "did you mean 'ddim'"),
    "noise without eta": (dict(method="variance_noise", eta=0.0), "eta above 0"),
    "eta for a deterministic method": (dict(method="edict", eta=0.5), "eta must be 0"),
    "eta for bdia": (dict(method="bdia", eta=0.5), "eta must be 0"),
    "eta of another length": (dict(method="variance_noise", eta=[1.0] * 7), "8 expected, got 7"),
    "no whole number": (dict(method="fixed_point", refinements=1.5), "refinements must be a whole number"),
    "mixing": (dict(method="edict", mixing=1.5), "mixing must be a"),
    "noise dtype": (dict(method="variance_noise", noise_dtype=torch.int8), "noise_dtype must be a floating-point"),
    "seed": (dict(method="ddim", seed=0.5), "seed must be a whole number"),
    "path": (dict(method="variance_noise", noise_path="cycles"), "did you mean 'cycle'"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_options_are_refused_before_any_work(plan: Any, data: Any, options: Any, message: str) -> None:
    model = Counted(data.model(plan))
    with pytest.raises(DDIMError, match=message):
        ddim.invert(model, data.draw(1, 1), plan, **options)
    assert model.calls == 0


@pytest.mark.parametrize(
    ("x0", "message"),
    [
        (torch.zeros(3), "shape .B, ...."),
        (torch.zeros(1, 2, dtype=torch.int64), "floating-point"),
        (torch.full((1, 2), torch.nan), "finite"),
        (torch.zeros(0, 2), "at least one image"),
        ([[1.0]], "got list"),
    ],
)
def test_wrong_pictures_are_refused(plan: Any, x0: Any, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        ddim.invert(lambda x, t: x, x0, plan)


def test_a_plan_is_needed_and_zero_snr_needs_another_prediction(scheduler: Any) -> None:
    with pytest.raises(DDIMError, match="set_timesteps"):
        ddim.invert(lambda x, t: x, torch.zeros(1, 2), ddim.DDIMScheduler())
    with pytest.raises(DDIMError, match="v_prediction"):
        ddim.invert(lambda x, t: x, torch.zeros(1, 2), scheduler(4, rescale_betas_zero_snr=True))
    one = scheduler(1, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    with pytest.raises(DDIMError, match="at least 2 steps"):
        ddim.invert(lambda x, t: x, torch.zeros(1, 2), one, method="edict")


def test_noise_for_another_run_is_refused_and_the_message_says_which(plan: Any, data: Any, scheduler: Any) -> None:
    found = ddim.invert(data.model(plan), data.draw(2, 1), plan, method="variance_noise", seed=1)
    shape = found.latent.shape

    def check(other: Any, eta: Any = 1.0, shape: Any = shape) -> None:
        found.check_fits(ddim.Schedule(other.settings, other.plan), eta, shape)

    check(plan)
    wrong = [
        ("steps must be.*8 steps, got 9", lambda: check(scheduler(9))),
        ("timesteps must be", lambda: check(scheduler(8, timestep_spacing="leading"))),
        ("schedule must be", lambda: check(scheduler(8, beta_end=0.013))),
        ("eta must be.*eta 1.0, got 0.5", lambda: check(plan, eta=0.5)),
        ("shape must be", lambda: check(plan, shape=(1, *shape[1:]))),
    ]
    for message, call in wrong:
        with pytest.raises(DDIMError, match=message):
            call()
