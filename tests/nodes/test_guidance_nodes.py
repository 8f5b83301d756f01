"""CFG++ and the guidance interval in DDIMSample and DDIMInvert, run in the embedded host."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch

import ddim
from ddim import DDIMError, GuidanceInterval, guided_model

STEPS = 8


class Wavy(torch.nn.Module):
    """A network without a right answer, which counts the rows of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor, timestep: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(x))
        shape = (-1, *[1] * (x.ndim - 1))
        weight = (rows * torch.linspace(-1, 1, rows.shape[1])).sum(1).reshape(shape)
        return torch.sin(0.5 * x + weight) + 0.2 * torch.cos(x.flip(-1) * (1 + timestep.reshape(shape) / 500))


@pytest.fixture
def prompts(call: Any) -> dict[str, Any]:
    return {"positive": call("DDIMDemoPrompt", digits="37")[0], "negative": call("DDIMDemoPrompt", digits="")[0]}


MODELS = ("epsilon", "sample", "v_prediction", "flow")


@pytest.fixture
def wavy(backend: ModuleType, exact_model: Any) -> Any:
    """A MODEL of a prediction type, and its network."""

    def make(kind: str) -> tuple[Any, Wavy]:
        network = Wavy()
        if kind == "flow":
            return backend.current().flow_model_from_network(network), network
        config = exact_model(prediction_type=kind)[1].config
        return backend.current().model_from_network(network, config), network

    return make


def latent(**keys: Any) -> dict[str, Any]:
    return {"samples": torch.zeros(2, 3, 8, 8), **keys}


def core_model(network: Wavy, prompts: dict[str, Any], scale: float, mode: str, **more: Any) -> Any:
    def with_prompt(name: str) -> Any:
        rows = prompts[name][0][0][:, 0].repeat(2, 1)[:2]
        return lambda x, t: network(x, t.expand(len(x)), rows)

    return guided_model(with_prompt("positive"), with_prompt("negative"), scale, mode=mode, **more)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_cfg_plus_plus_in_the_node_is_that_of_the_core(
    call: Any, wavy: Any, prompts: Any, backend: ModuleType, kind: str, eta: float
) -> None:
    model, network = wavy(kind)
    schedule, _ = call("DDIMSchedule", steps=STEPS, model=model)
    given = {"model": model, **prompts, "latent_image": latent(), "schedule": schedule, "eta": eta, "seed": 4}
    result, denoised, _ = call("DDIMSample", **given, cfg=0.6, guidance_mode="cfg++")
    start = backend.initial_noise((2, 3, 8, 8), 4)
    expected = ddim.sample(core_model(network, prompts, 0.6, "cfg++"), start, schedule.scheduler(), eta=eta, seed=4)
    assert torch.allclose(result["samples"], expected, atol=2e-5)
    assert torch.allclose(denoised["samples"], result["samples"], atol=2e-5)  # the last step has no direction
    plain, _, _ = call("DDIMSample", **given, cfg=0.6)
    assert not torch.allclose(plain["samples"], expected, atol=1e-2)


def test_rescale_changes_x0_and_not_the_direction(call: Any, wavy: Any, prompts: Any, backend: ModuleType) -> None:
    model, network = wavy("epsilon")
    schedule, _ = call("DDIMSchedule", steps=STEPS, model=model)
    given = {"model": model, **prompts, "latent_image": latent(), "schedule": schedule}
    result, _, _ = call("DDIMSample", **given, cfg=0.6, guidance_mode="cfg++", guidance_rescale=0.7)
    start = backend.initial_noise((2, 3, 8, 8), 0)
    expected = ddim.sample(
        core_model(network, prompts, 0.6, "cfg++", guidance_rescale=0.7), start, schedule.scheduler()
    )
    assert torch.allclose(result["samples"], expected, atol=2e-5)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("mode, cfg", [("cfg", 3.0), ("cfg++", 0.6)])
def test_outside_the_interval_the_negative_prompt_is_not_evaluated(
    call: Any, wavy: Any, prompts: Any, backend: ModuleType, kind: str, mode: str, cfg: float
) -> None:
    model, network = wavy(kind)
    schedule, _ = call("DDIMSchedule", steps=STEPS, model=model)
    given = {"model": model, **prompts, "latent_image": latent(), "schedule": schedule, "cfg": cfg}
    network.rows.clear()
    result, _, _ = call("DDIMSample", **given, guidance_mode=mode, guidance_start=0.25, guidance_end=0.75)
    assert network.rows == [2, 2, 4, 4, 4, 4, 2, 2]
    scheduler = schedule.scheduler()
    guided = core_model(network, prompts, cfg, mode, active=GuidanceInterval(0.25, 0.75).on(scheduler))
    expected = ddim.sample(guided, backend.initial_noise((2, 3, 8, 8), 0), scheduler)
    assert torch.allclose(result["samples"], expected, atol=2e-5)


def test_an_interval_of_noise_levels(call: Any, wavy: Any, prompts: Any) -> None:
    model, network = wavy("epsilon")
    schedule, _ = call("DDIMSchedule", steps=STEPS, model=model)
    given = {"model": model, **prompts, "latent_image": latent(), "schedule": schedule, "guidance_unit": "log-SNR"}
    for start, end in [(-2.0, 2.0), (-100.0, 0.0), (-100.0, 100.0)]:
        network.rows.clear()
        call("DDIMSample", **given, guidance_start=start, guidance_end=end)
        levels = [schedule.noise.log_snr_at(t) for t in schedule.plan.timesteps]
        assert network.rows == [4 if start <= level < end else 2 for level in levels]


def test_at_zero_snr_the_lowest_log_snr_is_pure_noise(call: Any, prompts: Any) -> None:
    model = call("DDIMDemoModel")[0]
    schedule, _ = call("DDIMSchedule", steps=3, model=model)
    assert schedule.noise.log_snr_at(schedule.plan.timesteps[0]) == -math.inf
    given = {"model": model, **prompts, "latent_image": call("DDIMDemoLatent", batch_size=2)[0], "schedule": schedule}
    everywhere, _, _ = call("DDIMSample", **given)
    unlimited = {"guidance_unit": "log-SNR", "guidance_start": -100.0, "guidance_end": 100.0}
    assert torch.equal(call("DDIMSample", **given, **unlimited)[0]["samples"], everywhere["samples"])


def test_a_mask_keeps_the_rest_with_cfg_plus_plus(call: Any, wavy: Any, prompts: Any) -> None:
    model, _ = wavy("v_prediction")
    schedule, _ = call("DDIMSchedule", steps=STEPS, model=model)
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    picture = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    masked = {"samples": picture, "noise_mask": mask}
    result, _, _ = call(
        "DDIMSample", model=model, **prompts, latent_image=masked, schedule=schedule, cfg=0.6, guidance_mode="cfg++"
    )
    assert torch.allclose(result["samples"][..., 4:], picture[..., 4:], atol=1e-5)
    assert not torch.allclose(result["samples"][..., :4], picture[..., :4], atol=0.1)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("method", ["fixed_point", "edict", "variance_noise"])
def test_an_inversion_with_cfg_plus_plus_comes_back(call: Any, wavy: Any, prompts: Any, kind: str, method: str) -> None:
    model, _ = wavy(kind)
    schedule, _ = call("DDIMSchedule", steps=20, model=model)
    eta = 1.0 if method == "variance_noise" else 0.0
    guided = {
        "model": model,
        **prompts,
        "schedule": schedule,
        "cfg": 0.3,
        "guidance_mode": "cfg++",
        "guidance_end": 0.9,
    }
    image, _, _ = call("DDIMSample", **guided, latent_image=latent(), seed=3)
    found, noise, error = call("DDIMInvert", **guided, latent_image=image, method=method, eta=1.0, refinements=60)
    assert error < (2e-3 if method == "fixed_point" else 1e-4)  # a network without data behind it
    again, _, _ = call(
        "DDIMSample", **guided, latent_image=found, eta=eta, add_noise=False,
        variance_noise=None if method == "fixed_point" else noise,
    )  # fmt: skip
    assert torch.allclose(again["samples"], image["samples"], atol=1e-2)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"guidance_mode": "cfg++", "cfg": 7.5}, r"lambda in \[0, 1\].*lower the scale, or use mode 'cfg'"),
        ({"guidance_start": 0.8, "guidance_end": 0.2}, "start below its end, got 0.8 to 0.2; exchange them"),
        ({"guidance_end": 3.0}, r"a share of the run, got 0 to 3; for noise levels set its unit"),
        ({"guidance_mode": "cfg++", "cfg": 0.5, "use_clipped_model_output": True}, "turn use_clipped_model_output off"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_called(
    call: Any, wavy: Any, prompts: Any, wrong: dict[str, Any], sentence: str
) -> None:
    model, network = wavy("epsilon")
    schedule, _ = call("DDIMSchedule", steps=STEPS, model=model)
    given = {"model": model, **prompts, "latent_image": latent(), "schedule": schedule}
    for node in ("DDIMSample", "DDIMInvert"):
        if node == "DDIMInvert" and "use_clipped_model_output" in wrong:
            continue
        with pytest.raises(DDIMError, match=sentence):
            call(node, **given, **wrong)
    assert network.rows == []
