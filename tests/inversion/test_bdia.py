"""BDIA: exact at S model calls for every plan and kind of model, and the paper's own identity."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ddim
from ddim import DDIMError

RAMP = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
EDM = (0.002 ** (1 / 7) + RAMP * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
KINDS = {
    "variance preserving": ddim.SchedulerConfig(clip_sample=False),
    "zero terminal SNR": ddim.SchedulerConfig(
        clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "flow": ddim.SigmaConfig(ddim.FLOW, tuple((3 * RAMP / (1 + 2 * RAMP)).tolist())),
    "variance exploding": ddim.SigmaConfig(ddim.VARIANCE_EXPLODING, tuple(EDM.tolist())),
}


def imperfect(schedule: ddim.Schedule) -> Any:
    """The prediction for Gaussian data, with an error that depends on the sample as a network's does."""
    noise, kind = schedule.noise, schedule.config.prediction_type

    def model(x: Tensor, t: Tensor) -> Tensor:
        level, x_t = noise.level_at(int(noise.index_of_times(t.reshape(1)))), x.double()
        mean = 0.64 * level.alpha / (0.64 * level.alpha**2 + level.sigma**2) * x_t
        return ddim.output_from_x0(mean + 0.1 * torch.sin(2 * x_t / level.length), x_t, level, kind).to(x.dtype)

    return model


def bent(x: Tensor, t: Tensor) -> Tensor:
    """A smooth model that is right for nothing."""
    return torch.tanh(0.7 * x.double() + 0.1 * x.double().flip(-1)).to(x.dtype)


class Counted:
    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.times.append(float(t))
        return bent(x, t)


@pytest.fixture
def x0() -> Tensor:
    return torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_any_plan_of_any_kind_comes_back_to_rounding(kind: str, x0: Tensor, mse: Any) -> None:
    """Drawn at random: the number of steps, the spacing or the timesteps themselves, and the part that is run."""
    draw = random.Random(kind)
    for _ in range(25):
        config, steps = KINDS[kind], draw.randint(2, 120)
        chosen = sorted(draw.sample(range(1000), steps), reverse=True)
        spacing = replace(config, timestep_spacing=draw.choice(["leading", "trailing", "linspace"]))
        schedule = draw.choice(
            [ddim.make_schedule(steps, spacing), ddim.make_schedule(steps, config, timesteps=chosen)]
        )
        start = draw.randrange(steps - 1)
        part = schedule.part(start, draw.randint(start + 2, steps))
        model = imperfect(part)
        found = ddim.invert(model, x0, part.scheduler(), method="bdia")
        assert float(mse(ddim.reconstruct(model, found), x0).max()) <= 1e-26, (part.plan.pairs, found.residual)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-11), (torch.float16, 2e-5), (torch.bfloat16, 2e-3)])
def test_what_a_rounded_pair_loses_is_its_own_rounding(kind: str, dtype: torch.dtype, limit: float, x0: Tensor) -> None:
    schedule = ddim.make_schedule(20, KINDS[kind])
    found = ddim.invert(imperfect(schedule), x0.to(dtype), schedule.scheduler(), method="bdia")
    assert found.latent.dtype == found.second_latent.dtype == dtype
    assert float(found.residual.max()) <= limit


def test_the_model_is_called_once_a_step_and_never_at_the_first_level(x0: Tensor) -> None:
    scheduler = ddim.make_schedule(8, KINDS["zero terminal SNR"]).scheduler()
    times, model = scheduler.timesteps.tolist(), Counted()
    found = ddim.invert(model, x0, scheduler, method="bdia", check=False)
    assert model.times == [times[-1], *times[:0:-1]] and len(model.times) == 8
    model.times.clear()
    ddim.reconstruct(model, found)
    assert model.times == times[1:]


def test_calls_of_the_exact_methods() -> None:
    calls = {method: ddim.model_calls(method, 20, check=False) for method in ("bdia", "variance_noise", "edict")}
    assert calls == {"bdia": 20, "variance_noise": 20, "edict": 40}


def test_a_step_is_the_ddim_step_forwards_minus_the_one_backwards(x0: Tensor) -> None:
    """2307.10829 with gamma 1, written out for an epsilon model: from the pair to the next sample."""
    schedule = ddim.make_schedule(2, KINDS["variance preserving"])
    (a0, s0), (a1, s1), (a2, s2) = schedule.levels
    z0, z1 = x0, x0.flip(0)
    epsilon = bent(z1, None)
    clean = (z1 - s1 * epsilon) / a1
    expected = z0 + (a2 * clean + s2 * epsilon) - (a0 * clean + s0 * epsilon)
    found = ddim.invert(bent, x0, schedule.scheduler(), method="bdia", check=False)
    pair = ddim.Inversion("bdia", z0, found.residual, schedule, (0.0, 0.0), second_latent=z1)
    assert torch.allclose(ddim.reconstruct(bent, pair), expected, rtol=0, atol=1e-13)


def test_the_pair_approaches_ddims_own_path(mixture: Any, scheduler: Any, mse: Any) -> None:
    """It solves the same equation, to second order: with many steps plain DDIM reaches the picture from its latent."""
    data = mixture(5)
    x0, errors = data.draw(3, 6), []
    for steps in (20, 80, 320):
        plan = scheduler(steps)
        found = ddim.invert(data.model(plan), x0, plan, method="bdia", check=False)
        errors.append(float(mse(ddim.sample(data.model(plan), found.latent, plan), x0).max()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_what_it_cannot_do_is_refused_with_one_sentence(x0: Tensor) -> None:
    model = Counted()
    one = ddim.make_schedule(1, KINDS["flow"])
    with pytest.raises(DDIMError, match="at least 2 steps"):
        ddim.invert(model, x0, one.scheduler(), method="bdia")
    with pytest.raises(DDIMError, match="at least 2 steps"):
        ddim.reconstruct(model, ddim.Inversion("bdia", x0, torch.zeros(2), one, (0.0,), second_latent=x0))
    with pytest.raises(DDIMError, match=r"bdia inverts deterministic sampling, so eta must be 0, got 1\.0"):
        ddim.invert(model, x0, ddim.make_schedule(4).scheduler(), method="bdia", eta=1.0)
    assert model.times == []
