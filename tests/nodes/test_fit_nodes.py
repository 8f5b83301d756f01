"""DDIM Fit Steps in the embedded host: what it reports must be what sampling gives, and it must be stoppable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import host.context
from ddim import DDIMError, SchedulerConfig, make_schedule, output_from_x0

CONFIG = SchedulerConfig(
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    beta_end=0.012,
    clip_sample=False,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
)
DEVIATION = 0.3  # of the data
GRID = 20


class Gaussian(torch.nn.Module):
    """The exact network for data of a normal distribution, whose mean is the label's: E[x_0 | x_t]."""

    def __init__(self, bad_after: int | None = None) -> None:
        super().__init__()
        self.noise, self.inputs, self.bad_after = make_schedule(1, CONFIG).noise, [], bad_after

    def forward(self, x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        self.inputs.append(x.clone())
        level = self.noise.levels[int(timestep[0])]
        mean = ((rows.argmax(1).float() - 5) / 5).reshape(-1, *[1] * (x.ndim - 1))
        variance = level * DEVIATION**2 + 1 - level
        x0 = mean + math.sqrt(level) * DEVIATION**2 / variance * (x - math.sqrt(level) * mean)
        output = output_from_x0(x0, x, level, "v_prediction")
        return output * math.nan if self.bad_after is not None and len(self.inputs) > self.bad_after else output


class FlowGaussian(torch.nn.Module):
    """A flow network for the same data with mean 0."""

    def forward(self, x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        sigma = (timestep / 1000).reshape(-1, *[1] * (x.ndim - 1))
        x0 = (1 - sigma) * DEVIATION**2 / ((1 - sigma) ** 2 * DEVIATION**2 + sigma**2) * x
        return (x - x0) / sigma


@pytest.fixture
def network() -> Gaussian:
    return Gaussian()


@pytest.fixture
def model(backend: Any, network: Gaussian) -> Any:
    return backend.current().model_from_network(network, CONFIG)


@pytest.fixture
def flow_model(backend: Any) -> Any:
    return backend.current().flow_model_from_network(FlowGaussian())


@pytest.fixture
def prompts(call: Any) -> dict[str, Any]:
    return {"positive": call("DDIMDemoPrompt", digits="37")[0], "negative": call("DDIMDemoPrompt", digits="")[0]}


@pytest.fixture
def fit(nodes: dict[str, type], call: Any, prompts: Any, model: Any) -> Callable[..., dict[str, Any]]:
    """``fit(steps=5, ...)`` gives everything that the node returns; quick by default."""
    node = nodes["DDIMFitSteps"]

    def run(**given: Any) -> dict[str, Any]:
        given = {"model": model, "latent_image": empty(), "cfg": 1.0, "grid": GRID, "images": 2, "steps": 4, **given}
        given.setdefault("schedule", call("DDIMSchedule", model=given["model"])[0])
        return node().fit(**{**prompts, **given})

    return run


@pytest.fixture
def draw(call: Any, model: Any, prompts: Any) -> Callable[..., Tensor]:
    """``draw(schedule, seed)``: the samples of DDIM KSampler."""

    def run(schedule: Any, seed: int, images: int = 2, **given: Any) -> Tensor:
        given = {"model": model, "latent_image": empty(images), "cfg": 1.0, **given}
        return call("DDIMSample", **prompts, schedule=schedule, seed=seed, **given)[0]["samples"]

    return run


def empty(images: int = 1, *size: int) -> dict[str, Any]:
    return {"samples": torch.zeros(images, 3, *(size or (8, 8)))}


def rmse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def report_of(result: dict[str, Any]) -> dict[str, Any]:
    (report,) = result["ui"]["ddim_fit"]
    assert len(json.dumps(report, allow_nan=False)) < 8_000
    return report


def exact_end(noise: Tensor) -> Tensor:
    """Where the probability flow ODE leads from pure noise: to the point of the data at the same quantile."""
    mean = ((torch.tensor([3.0, 7.0]) - 5) / 5).reshape(2, 1, 1, 1)
    return mean + DEVIATION * noise


@pytest.mark.parametrize("method", ["accurate", "fast"])
def test_the_errors_are_those_of_sampling(
    fit: Any, draw: Any, call: Any, model: Any, backend: Any, method: str
) -> None:
    result = fit(seed=5, method=method, grid=60)
    fitted, _ = result["result"]
    report = report_of(result)
    plans = {
        "fitted": fitted,
        **{name: call("DDIMSchedule", model=model, steps=4, timestep_spacing=name)[0] for name in ("trailing", "ays")},
    }
    shown = {each["name"]: each for each in report["schedules"]}
    for name, schedule in plans.items():
        assert shown[name]["index"] == list(schedule.plan.timesteps)
        for seed, key in ((5, "error_fitted_to"), (6, "error")):
            expected = rmse(draw(schedule, seed), exact_end(backend.initial_noise((2, 3, 8, 8), seed)))
            assert shown[name][key] == pytest.approx(expected, abs=6e-3), (name, key)
    assert shown["fitted"]["error"] < 0.8 * shown["trailing"]["error"]
    assert report["gain"] == pytest.approx(shown["trailing"]["error"] / shown["fitted"]["error"], rel=1e-2)
    assert report["warnings"] == [] and max(each["share"] for each in report["schedules"]) == 1.0


def test_the_copied_list_is_the_fitted_schedule(fit: Any, call: Any, model: Any) -> None:
    result = fit()
    fitted, sigmas = result["result"]
    report = report_of(result)
    assert result["ui"]["text"][0] == report["list"]
    pasted, pasted_sigmas = call("DDIMSchedule", model=model, timesteps=report["list"])
    assert pasted.plan == fitted.plan and torch.equal(sigmas, pasted_sigmas)
    assert pasted.config == fitted.config
    assert [note["code"] for note in report["notes"]] == ["fit_paste"]


def test_a_part_of_a_run_is_fitted_between_its_ends(fit: Any, call: Any, model: Any) -> None:
    part, _ = call("DDIMSchedule", model=model, steps=10, denoise=0.5, end_step=8)
    first, end = part.plan.timesteps[0], part.plan.pairs[-1][1]
    result = fit(schedule=part, steps=3)
    fitted, _ = result["result"]
    assert (fitted.plan.timesteps[0], fitted.plan.pairs[-1][1], len(fitted.plan)) == (first, end, 3)
    report = report_of(result)
    assert [each["name"] for each in report["schedules"]] == ["fitted", "trailing"]
    assert report["schedules"][1]["index"][0] == first
    pasted, _ = call("DDIMSchedule", model=model, timesteps=report["list"], end_step=3)
    assert pasted.plan.pairs == fitted.plan.pairs
    assert [(note["code"], note["values"]) for note in report["notes"]] == [("fit_paste_part", {"steps": 3})]


def test_a_flow_model_is_fitted_over_its_own_table(fit: Any, call: Any, flow_model: Any) -> None:
    result = fit(model=flow_model)
    fitted, sigmas = result["result"]
    report = report_of(result)
    assert [each["name"] for each in report["schedules"]] == ["fitted", "trailing"]
    pasted, pasted_sigmas = call("DDIMSchedule", model=flow_model, timesteps=report["list"])
    assert pasted.plan == fitted.plan and torch.equal(sigmas, pasted_sigmas)
    assert float(sigmas[0]) == 1.0 and float(sigmas[-1]) == 0.0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_list_that_counts_other_levels_is_not_offered_for_pasting(
    fit: Any, call: Any, flow_model: Any, shift: float
) -> None:
    """Of a schedule that has other levels than the MODEL, in number or in size."""
    text = json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift})
    schedule, *_ = call("DDIMScheduleFromConfig", config=text, steps=30 if shift == 1.0 else 1000)
    result = fit(model=flow_model, schedule=schedule, method="fast")
    report, (_, sigmas) = report_of(result), result["result"]
    _, pasted_sigmas = call("DDIMSchedule", model=flow_model, timesteps=report["list"])
    assert not torch.allclose(sigmas, pasted_sigmas, rtol=0.05)
    assert "fit_no_paste" in [message["code"] for message in report["warnings"]] and report["notes"] == []


def test_a_list_of_another_number_of_timesteps_is_not_offered_for_pasting(fit: Any, call: Any) -> None:
    schedule, _ = call("DDIMSchedule", num_train_timesteps=100, beta_end=0.12, prediction_type="v_prediction")
    report = report_of(fit(schedule=schedule, method="fast"))
    assert "fit_no_paste" in [message["code"] for message in report["warnings"]] and report["notes"] == []


def watched(network: Gaussian, cancel_at: int | None = None) -> tuple[host.context.NodeCall, list[Any]]:
    """A call of a node that records (done, total, model calls), and is cancelled after report ``cancel_at``."""
    reports: list[Any] = []

    class Flag:
        def is_set(self) -> bool:
            return cancel_at is not None and len(reports) >= cancel_at

    def report(done: float, total: float, preview: Any) -> None:
        reports.append((done, total, len(network.inputs)))

    return host.context.NodeCall("p", "n", report, Flag()), reports


@pytest.mark.parametrize("method", ["accurate", "fast"])
def test_the_bar_fills_once(fit: Any, network: Gaussian, method: str) -> None:
    call, reports = watched(network)
    with host.context.enter_node_call(call):
        fit(method=method)
    done = [report[0] for report in reports]
    (total,) = {report[1] for report in reports}
    assert done == sorted(set(done)) and done[0] == 1 and done[-1] == total
    assert [report[2] for report in reports] == sorted({report[2] for report in reports})  # one after each call
    assert len(network.inputs) == len(reports) if method == "accurate" else total
    assert total > 0.8 * len(network.inputs) and total >= len(network.inputs)


@pytest.mark.parametrize("cancel_at", [1, GRID, GRID + 30, 110])
def test_cancel_stops_before_the_next_model_call(fit: Any, network: Gaussian, cancel_at: int) -> None:
    call, reports = watched(network, cancel_at)
    with host.context.enter_node_call(call), pytest.raises(host.context.Interrupted):
        fit()
    assert len(reports) == cancel_at and len(network.inputs) == reports[-1][2]


def test_each_noise_is_that_of_an_image_of_the_batch(fit: Any, backend: Any, network: Gaussian) -> None:
    fit(seed=9, images=3)
    assert torch.equal(network.inputs[0], backend.initial_noise((3, 3, 8, 8), 9))
    network.inputs.clear()
    fit(seed=9, images=3, latent_image={**empty(2), "batch_index": [4, 1]})
    assert torch.equal(network.inputs[0], backend.initial_noise((7, 3, 8, 8), 9)[4:])


def test_the_first_image_and_its_mask_count(fit: Any, call: Any, model: Any, network: Gaussian, backend: Any) -> None:
    pictures = torch.stack([torch.full((3, 8, 8), 0.7), torch.full((3, 8, 8), -0.7)])
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :, 4:] = mask[1, :, :, :4] = 1
    half = call("DDIMSchedule", model=model, steps=10, denoise=0.5)[0]
    fit(latent_image={"samples": pictures, "noise_mask": mask}, schedule=half)
    first, trailing = network.inputs[0], network.inputs[-3]  # the last run is trailing's: 499, 374, 249, 124
    assert len(first) == 2  # the number of noises, and not of pictures
    noise = backend.initial_noise((2, 3, 8, 8), 1)  # of the seed after 0, with which the plans are compared at last
    level = half.noise.levels[374]
    kept = math.sqrt(level) * pictures[0] + math.sqrt(1 - level) * noise
    assert torch.allclose(trailing[..., :4], kept[..., :4], atol=1e-4)
    assert not torch.allclose(trailing[..., 4:], kept[..., 4:], atol=1e-2)


def test_video_is_fitted(fit: Any) -> None:
    report = report_of(fit(latent_image={**empty(1, 2, 8, 8), "noise_mask": torch.ones(2, 8, 8)}))
    assert len(report["schedules"][0]["index"]) == 4


def test_a_model_that_is_always_right_has_no_error(fit: Any, exact_model: Any) -> None:
    point, _ = exact_model(prediction_type="v_prediction")
    report = report_of(fit(model=point))
    assert all(each["error"] < 1e-5 for each in report["schedules"])


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"steps": 21}, "steps must be at most grid.*20.*got 21"),
            ({"grid": 1001}, "grid must be at most 1000.*got 1001; lower grid"),
        ],
    )
    def test_counts(self, fit: Any, network: Gaussian, given: dict[str, Any], told: str) -> None:
        with pytest.raises(DDIMError, match=told):
            fit(**given)
        assert network.inputs == []

    def test_a_part_that_is_too_short(self, fit: Any, call: Any, model: Any, network: Gaussian) -> None:
        short, _ = call("DDIMSchedule", model=model, steps=100, denoise=1.0, start_step=99)
        with pytest.raises(DDIMError, match=r"grid must be at most 10, .*the schedule \(9\)"):
            fit(schedule=short)
        assert network.inputs == []

    def test_a_schedule_of_another_kind(self, fit: Any, call: Any, flow_model: Any, network: Gaussian) -> None:
        flow, _ = call("DDIMSchedule", model=flow_model)
        with pytest.raises(DDIMError, match="the schedule belongs to a flow model"):
            fit(schedule=flow)
        assert network.inputs == []

    def test_a_flow_schedule_without_a_table(self, fit: Any, call: Any, flow_model: Any) -> None:
        text = json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
        schedule, *_ = call("DDIMScheduleFromConfig", config=text, steps=12)
        with pytest.raises(DDIMError, match="no levels but the 12 that it visits, and grid is 20; make the schedule"):
            fit(model=flow_model, schedule=schedule)

    def test_a_model_that_gives_nan(self, fit: Any, backend: Any) -> None:
        model = backend.current().model_from_network(Gaussian(bad_after=7), CONFIG)
        with pytest.raises(DDIMError, match="NaN"):
            fit(model=model)

    def test_a_latent_of_several_streams(self, fit: Any, network: Gaussian) -> None:
        with pytest.raises(DDIMError, match="one tensor of samples"):
            fit(latent_image={"samples": [torch.zeros(1, 3, 8, 8)]})
        assert network.inputs == []

    def test_a_latent_whose_list_of_images_is_empty(self, fit: Any, network: Gaussian) -> None:
        with pytest.raises(DDIMError, match="batch_index"):
            fit(latent_image={**empty(), "batch_index": []})
        assert network.inputs == []
