"""Negative-prompt inversion and proximal guidance in DDIMSample, and DDIMEditGuidance, run in the embedded host."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import ddim
from ddim import DDIMError, SchedulerConfig

STEPS = 6


class Wavy(torch.nn.Module):
    """A network without a right answer, which counts the rows of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        self.rows.append(len(x))
        weight = (rows * torch.linspace(-1, 1, rows.shape[1])).sum(1)[:, None, None, None]
        return torch.sin(0.5 * x + weight) + 0.2 * torch.cos(x.flip(-1))


@pytest.fixture
def world(call: Any, backend: ModuleType) -> Any:
    class World:
        network = Wavy()
        model = backend.current().model_from_network(network, SchedulerConfig(clip_sample=False))
        schedule = call("DDIMSchedule", steps=STEPS, model=model)[0]
        picture = {"samples": torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5)) * 2 - 1}

        def prompt(self, digits: str) -> Any:
            return call("DDIMDemoPrompt", digits=digits)[0]

        def rows(self, digits: str) -> Any:
            rows = self.prompt(digits)[0][0][:, 0].repeat(2, 1)
            return lambda x, t: self.network(x, t.expand(len(x)), rows)

        def invert(self, method: str = "ddim") -> tuple[Any, Any]:
            given = {"model": self.model, "positive": self.prompt("3"), "negative": self.prompt("")}
            return call("DDIMInvert", **given, latent_image=self.picture, schedule=self.schedule, method=method)[:2]

        def sample(self, latent: Any, digits: str = "8", **given: Any) -> Tensor:
            given = {"add_noise": False, "cfg": 3.0, "source": self.prompt("3"), **given}
            prompts = {"positive": self.prompt(digits), "negative": self.prompt("")}
            given = {"model": self.model, "schedule": self.schedule, **prompts, **given}
            return call("DDIMSample", latent_image=latent, **given)[0]["samples"]

    return World()


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("operator", ddim.PROXIMAL_OPERATORS)
def test_the_node_is_the_core(world: Any, operator: str, cfg: float) -> None:
    latent, noise = world.invert()
    given = {"proximal": operator, "proximal_quantile": 0.6, "cfg": cfg}
    found = world.sample(latent, variance_noise=noise, **given)
    edited = ddim.proximal_guided_model(world.rows("8"), world.rows("3"), cfg, 0.6, operator)
    expected = ddim.sample(edited, latent["samples"], world.schedule.scheduler())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_source_takes_the_place_of_negative(world: Any) -> None:
    latent, noise = world.invert()
    found = world.sample(latent, variance_noise=noise)
    npi = world.sample(latent, variance_noise=noise, source=None, negative=world.prompt("3"))
    assert torch.equal(found, npi)
    assert not torch.allclose(found, world.sample(latent, variance_noise=noise, source=None), atol=1e-3)


@pytest.mark.parametrize("method", ddim.INVERSION_METHODS)
@pytest.mark.parametrize("proximal", ["off", "soft"])
def test_the_same_prompt_gives_the_picture_back_at_any_scale(world: Any, method: str, proximal: str) -> None:
    latent, noise = world.invert(method)
    eta = 1.0 if method == "variance_noise" else 0.0
    given = {"variance_noise": noise, "eta": eta, "proximal": proximal}
    back = world.sample(latent, "3", cfg=7.5, **given)
    reached = world.sample(latent, "3", cfg=1.0, **given)
    assert torch.allclose(back, reached, atol=1e-3)


def test_it_costs_two_calls_a_step_at_any_scale(world: Any) -> None:
    latent, noise = world.invert()
    for cfg in (1.0, 3.0):
        world.network.rows.clear()
        world.sample(latent, variance_noise=noise, proximal="soft", cfg=cfg)
        assert sum(world.network.rows) == 2 * 2 * STEPS


def test_rescale_and_cfg_plus_plus_go_with_it(world: Any) -> None:
    latent, noise = world.invert()
    plain = world.sample(latent, variance_noise=noise, proximal="soft", cfg=0.6)
    for more in ({"guidance_rescale": 0.7}, {"guidance_mode": "cfg++"}):
        other = world.sample(latent, variance_noise=noise, proximal="soft", cfg=0.6, **more)
        assert bool(other.isfinite().all()) and not torch.allclose(other, plain, atol=1e-4)


def test_without_an_inversion_or_a_source_it_is_refused_before_any_call(world: Any) -> None:
    latent, noise = world.invert()
    world.network.rows.clear()
    wrong = [
        ("edit an inverted image, and this run has none", {"proximal": "soft"}),
        ("edit an inverted image, and this run has none", {}),
        ("connect that to source", {"proximal": "soft", "variance_noise": noise, "source": None}),
        ("acts in every step", {"proximal": "hard", "variance_noise": noise, "guidance_end": 0.5}),
    ]
    for message, given in wrong:
        with pytest.raises(DDIMError, match=message):
            world.sample(latent, **given)
    assert world.network.rows == []


# -- DDIMEditGuidance ----------------------------------------------------------------------------------------------


def with_edit(call: Any, model: Any, prompt: Any, weight: float, threshold: float, warm_up: float = 0.0) -> Any:
    return call(
        "DDIMEditGuidance", model=model, edit=prompt, edit_weight=weight, edit_threshold=threshold, warm_up=warm_up
    )[0]


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_edits_in_the_node_are_those_of_the_core(world: Any, call: Any, cfg: float) -> None:
    """Two edits on recorded noise; e_0 is the negative prompt's, or at cfg 1 the positive's."""
    latent, noise = world.invert("variance_noise")
    model = with_edit(call, world.model, world.prompt("8"), 3.0, 0.6)
    model = with_edit(call, model, world.prompt("1"), -1.5, 0.8)
    found = world.sample(latent, "3", model=model, variance_noise=noise, eta=1.0, cfg=cfg, source=None)
    plain, nothing, added, removed = (world.rows(digits) for digits in ("3", "", "8", "1"))

    def edited(x: Tensor, t: Tensor) -> Tensor:
        guided, reference = plain(x, t), plain(x, t)
        if cfg != 1.0:
            reference = nothing(x, t)
            guided = ddim.guide(reference, guided, cfg)
        guided = ddim.edit_guide(guided, reference, added(x, t), 3.0, 0.6)
        return ddim.edit_guide(guided, reference, removed(x, t), -1.5, 0.8)

    scheduler = world.schedule.scheduler()
    expected = ddim.sample(edited, latent["samples"], scheduler, eta=1.0, variance_noise=noise.noise)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_each_edit_costs_one_evaluation_and_a_warm_up_none(world: Any, call: Any) -> None:
    latent, noise = world.invert("variance_noise")
    given = {"variance_noise": noise, "eta": 1.0, "cfg": 1.0, "source": None}
    plain = world.sample(latent, "3", **given)
    for warm_up, calls in ((0.0, 2 * STEPS), (0.5, 3 * STEPS // 2), (1.0, STEPS)):
        world.network.rows.clear()
        model = with_edit(call, world.model, world.prompt("8"), 2.0, 0.5, warm_up)
        found = world.sample(latent, "3", model=model, **given)
        assert len(world.network.rows) == calls
        assert torch.equal(found, plain) == (warm_up == 1.0)


def test_rescale_comes_before_or_after_an_edit(world: Any, call: Any) -> None:
    latent, noise = world.invert("variance_noise")
    given = {"variance_noise": noise, "eta": 1.0, "cfg": 3.0, "source": None}
    first = call("DDIMCFGRescale", model=world.model, guidance_rescale=0.7)[0]
    before = with_edit(call, first, world.prompt("8"), 2.0, 0.5)
    edited = with_edit(call, world.model, world.prompt("8"), 2.0, 0.5)
    after = call("DDIMCFGRescale", model=edited, guidance_rescale=0.7)[0]
    results = [world.sample(latent, "3", model=model, **given) for model in (before, edited, after)]
    assert all(bool(result.isfinite().all()) for result in results)
    assert not torch.allclose(results[0], results[2], atol=1e-4)
