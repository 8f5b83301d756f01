"""DDIMCheckModel in the embedded host: the demo model and networks of every kind, declared rightly and wrongly."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import SchedulerConfig, make_schedule


@pytest.fixture
def prompt(call: Any) -> Any:
    return call("DDIMDemoPrompt", digits="3")[0]


class Flat(torch.nn.Module):
    """The exact network for data that is one brightness per image, of a kind, whatever the MODEL is declared as."""

    def __init__(self, kind: str, config: SchedulerConfig) -> None:
        super().__init__()
        self.kind, self.noise = kind, make_schedule(1, config).noise

    def forward(self, x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        level = self.noise.level_at(int(timestep[0]))
        mean = x.flatten(1).mean(1).view(-1, 1, 1, 1)
        x0 = (level.alpha * mean / (level.alpha**2 + level.sigma**2 / x[0].numel())).expand_as(x)
        epsilon = (x - level.alpha * x0) / level.sigma
        v = level.alpha * epsilon - level.sigma * x0
        return {"epsilon": epsilon, "sample": x0, "v_prediction": v, "nothing": torch.sin(40 * x)}[self.kind]


@pytest.fixture
def check(call: Any, backend: ModuleType, exact_model: Any, prompt: Any) -> Any:
    """The report and the type for a network of one kind in a MODEL that is declared as another."""

    def run(kind: str, declared: str, **settings: Any) -> tuple[str, str]:
        config = exact_model(prediction_type=declared, **settings)[1].config
        model = backend.current().model_from_network(Flat(kind, config), config)
        latent = {"samples": torch.ones(1, 3, 8, 8)}
        return call("DDIMCheckModel", model=model, positive=prompt, latent_image=latent)

    return run


@pytest.mark.parametrize("declared", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_kind_is_found_whatever_was_declared(check: Any, kind: str, declared: str) -> None:
    report, found = check(kind, declared)
    assert found == kind
    lines = report.splitlines()
    assert f"({kind})" in lines[0] and "do not reach zero SNR: alpha_bar is 0.0046" in lines[2]
    if kind == declared:
        assert "leave prediction_type at 'from model'" in lines[3]
    else:
        assert lines[3] == f"It is loaded as {declared}: set prediction_type of DDIM Schedule to {kind}."
    assert ("ztsnr" in lines[4]) == (kind != "epsilon")


def test_what_is_none_of_them_is_undecided(check: Any) -> None:
    report, found = check("nothing", "epsilon")
    assert found == "undecided" and report.startswith("Undecided: only ")


def test_its_advice_makes_the_picture_right(call: Any, check: Any, exact_model: Any, prompt: Any) -> None:
    """A v network that was loaded as epsilon: what the report says to set is what a schedule then needs."""
    report, found = check("v_prediction", "epsilon")
    assert "set prediction_type of DDIM Schedule to v_prediction" in report
    model, network = exact_model(prediction_type="epsilon")
    network.config = SchedulerConfig(**{**network.config, "prediction_type": "v_prediction"})
    schedule, _ = call("DDIMSchedule", steps=6, model=model, prediction_type=found)
    latent = {"samples": torch.zeros(1, 3, 8, 8)}
    result, _, _ = call(
        "DDIMSample", model=model, positive=prompt, negative=prompt, latent_image=latent, schedule=schedule, cfg=1.0
    )
    assert torch.allclose(result["samples"], torch.tensor(-0.4), atol=1e-5)


@pytest.mark.parametrize("sampled_as, kind", [("v_prediction", "v_prediction"), ("flow", "flow_prediction")])
def test_the_demo_model(call: Any, prompt: Any, sampled_as: str, kind: str) -> None:
    model = call("DDIMDemoModel", sampled_as=sampled_as)[0]
    latent = call("DDIMDemoLatent", batch_size=5)[0]
    report, found = call("DDIMCheckModel", model=model, positive=prompt, latent_image=latent)
    assert found == kind
    assert "reach zero SNR: alpha_bar is 0 at" in report
    assert "connect the MODEL" in report.splitlines()[3]


def test_two_calls_of_two_images(call: Any, exact_model: Any, prompt: Any) -> None:
    model, network = exact_model()
    call("DDIMCheckModel", model=model, positive=prompt, latent_image={"samples": torch.zeros(7, 3, 8, 8)})
    assert [len(steps) for steps in network.calls] == [2, 2]


@pytest.fixture
def plot(nodes: dict[str, type]) -> Any:
    """The plot that DDIMSchedule shows for a MODEL and some settings."""

    def run(model: Any, **settings: Any) -> dict[str, Any]:
        return nodes["DDIMSchedule"]().build(**{"steps": 6, **settings}, model=model)["ui"]["ddim_schedule"][0]

    return run


def _codes(report: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in report["warnings"]]


def test_the_plot_of_the_schedule_warns_of_what_was_measured(
    call: Any, backend: ModuleType, nodes: dict[str, type], plot: Any, prompt: Any
) -> None:
    config = SchedulerConfig(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    model, twin = (backend.current().model_from_network(Flat("v_prediction", config), config) for _ in range(2))
    before = plot(model)
    assert _codes(before) == []  # nothing is known yet
    call("DDIMCheckModel", model=model, positive=prompt, latent_image={"samples": torch.zeros(1, 3, 8, 8)})
    (warning,) = plot(model)["warnings"]
    assert warning["values"] == {"measured": "v_prediction", "prediction_type": "epsilon"}
    assert "measured that this MODEL predicts v_prediction" in warning["text"]
    patched = call("DDIMCFGRescale", model=model, guidance_rescale=0.5)[0]
    assert _codes(plot(patched)) == ["measured_type"]  # a copy has the same network
    assert _codes(plot(model, prediction_type="v_prediction")) == []
    assert _codes(plot(twin)) == []  # another network with the same levels and the same declared type
    # The live plot of a schedule that ran before the check, while the graph is edited.
    asked = {"node": "DDIMSchedule", "model_levels": before["model_levels"]}
    answers = [
        sys.modules["pack.nodes.editor.routes"].schedule_answer({**asked, "inputs": inputs}, nodes)["schedule"]
        for inputs in ({"steps": 7}, {"steps": 7, "prediction_type": "v_prediction"})
    ]
    assert list(map(_codes, answers)) == [["measured_type"], []]


def test_what_was_measured_is_forgotten_with_the_network(backend: ModuleType) -> None:
    config = SchedulerConfig()
    model = backend.current().model_from_network(Flat("epsilon", config), config)
    facts = backend.current().model_facts(model)
    backend.remember_measured(facts, "epsilon")
    assert backend.measured_prediction_type(facts) == "epsilon"
    del model
    gc.collect()
    assert backend.measured_prediction_type(facts) is None
