"""float16 and bfloat16: the caller sees half precision, the state between steps is float32."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from ddim import DDIMScheduler, sample

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
ALLOWED = {torch.float16: 3e-3, torch.bfloat16: 2e-2}


def loop(scheduler, model, x: Tensor, steps: int = 50, **arguments) -> Tensor:
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t), t, x, **arguments).prev_sample
    return x


def exact_model(six_modes, scheduler, prediction_type: str):
    """A perfect model that sees the half-precision sample and answers without further rounding."""
    levels = scheduler.noise_schedule.alpha_bar.tolist()
    return lambda x, t: six_modes.output(x, levels[int(t)], prediction_type).to(
        torch.float64 if x.dtype == torch.float64 else torch.float32
    )


def rms(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


def start() -> Tensor:
    return torch.randn(32, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_fifty_steps_by_hand_stay_near_float64(six_modes, dtype, prediction_type: str, spacing: str) -> None:
    scheduler = DDIMScheduler(**SD, prediction_type=prediction_type, timestep_spacing=spacing)
    model = exact_model(six_modes, scheduler, prediction_type)
    x = start().to(dtype)
    exact = loop(scheduler, model, x.double())
    found = loop(scheduler, model, x)
    assert found.dtype == dtype
    assert rms(found - exact) < ALLOWED[dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_state_is_what_helps(six_modes, dtype) -> None:
    """The same loop with copies of the tensors, which the scheduler cannot know again, is several times worse."""
    scheduler = DDIMScheduler(**SD, timestep_spacing="leading")
    model = exact_model(six_modes, scheduler, "epsilon")
    x = start().to(dtype)
    exact = loop(scheduler, model, x.double())
    kept = rms(loop(scheduler, model, x) - exact)
    for i in range(50):
        forgetful = DDIMScheduler(**SD)  # a new scheduler has no state
        forgetful.set_timesteps(50)
        t = forgetful.timesteps[i]
        x = forgetful.step(model(x, t), t, x).prev_sample
    assert kept < 0.4 * rms(x - exact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_is_several_times_nearer_than_diffusers(six_modes, dtype) -> None:
    diffusers = pytest.importorskip("diffusers")
    ours = DDIMScheduler(**SD)
    levels = ours.noise_schedule.alpha_bar.tolist()

    def model(x, t):
        return six_modes.output(x, levels[int(t)], "epsilon").to(x.dtype)

    x = start().to(dtype)
    exact = loop(ours, model, x.double())
    theirs = rms(loop(diffusers.DDIMScheduler(**SD), model, x) - exact)
    assert rms(loop(ours, model, x) - exact) < theirs / 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loop_by_hand_is_as_good_as_sample(six_modes, dtype) -> None:
    scheduler = DDIMScheduler(**SD)
    model = exact_model(six_modes, scheduler, "epsilon")
    x = start().to(dtype)
    exact = loop(scheduler, model, x.double())
    scheduler.set_timesteps(50)
    assert rms(sample(model, x, scheduler) - exact) < ALLOWED[dtype]


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_at_tiny_alpha_bar_the_sample_that_the_model_saw_is_the_state(six_modes, steps: int) -> None:
    """The cosine schedule begins at alpha_bar 2e-9, where an unseen rounding error would be amplified 20000 times."""
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, timestep_spacing="trailing")
    model = exact_model(six_modes, scheduler, "epsilon")
    x = start().to(torch.bfloat16)
    exact = loop(scheduler, model, x.double(), steps)
    assert rms(loop(scheduler, model, x, steps) - exact) < 0.03


def one_step(scheduler: DDIMScheduler, x: Tensor, i: int) -> Tensor:
    t = scheduler.timesteps[i]
    return scheduler.step(torch.zeros_like(x), t, x).prev_sample


def test_a_tensor_changed_in_place_is_taken_as_it_is() -> None:
    scheduler = DDIMScheduler(**SD)
    scheduler.set_timesteps(10)
    x = one_step(scheduler, torch.full((1, 8), 1.001, dtype=torch.bfloat16), 0)
    changed = x.clone()
    x.mul_(0.5)
    assert torch.equal(one_step(scheduler, x, 1), one_step(scheduler, changed * 0.5, 1))


def test_under_inference_mode_the_state_is_kept_too(six_modes) -> None:
    scheduler = DDIMScheduler(**SD)
    model = exact_model(six_modes, scheduler, "epsilon")
    x = start().to(torch.bfloat16)
    exact = loop(scheduler, model, x.double())
    with torch.inference_mode():
        assert rms(loop(scheduler, model, x) - exact) < ALLOWED[torch.bfloat16]
        scheduler.set_timesteps(10)
        x = one_step(scheduler, torch.full((1, 8), 1.001, dtype=torch.bfloat16), 0)
        x[0, :4] = 7.0  # no version counter tells of this
        again = one_step(scheduler, x, 1)
        assert torch.equal(again[0, :4], one_step(scheduler, x.clone(), 1)[0, :4])


def test_copies_start_without_a_state() -> None:
    scheduler = DDIMScheduler(**SD)
    scheduler.set_timesteps(10)
    x = one_step(scheduler, torch.full((1, 8), 1.001, dtype=torch.float16), 0)
    fresh = DDIMScheduler(**SD)
    fresh.set_timesteps(10)
    expected = scheduler.step(torch.zeros_like(x), fresh.timesteps[1], x.double()).prev_sample.half()
    for copied in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert torch.equal(one_step(copied, x, 1), expected)


def test_gradients_flow_through_the_tensor_that_the_caller_holds() -> None:
    scheduler = DDIMScheduler(**SD)
    scheduler.set_timesteps(10)
    x = torch.ones(1, 8, dtype=torch.bfloat16, requires_grad=True)
    middle = one_step(scheduler, x, 0)
    middle.retain_grad()
    one_step(scheduler, middle, 1).float().sum().backward()
    assert middle.grad is not None and x.grad is not None
    assert float(middle.grad.abs().sum()) > 0 and float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_add_noise_is_exact_at_every_timestep(dtype) -> None:
    """sigma at t = 0 is 0.01: diffusers rounds alpha_bar first and adds no noise there in bfloat16."""
    scheduler = DDIMScheduler()
    timesteps = torch.arange(1000)
    zeros, ones = torch.zeros(1000, 1, dtype=dtype), torch.ones(1000, 1, dtype=dtype)
    levels = scheduler.noise_schedule.alpha_bar[:, None]
    step = 2 * torch.finfo(dtype).eps
    for found, exact in (
        (scheduler.add_noise(zeros, ones, timesteps), (1 - levels).sqrt()),
        (scheduler.add_noise(ones, zeros, timesteps), levels.sqrt()),
        (scheduler.get_velocity(ones, zeros, timesteps), -(1 - levels).sqrt()),
        (scheduler.get_velocity(zeros, ones, timesteps), levels.sqrt()),
    ):
        assert found.dtype == dtype
        assert float((found.double() / exact - 1).abs().max()) < step / 2
