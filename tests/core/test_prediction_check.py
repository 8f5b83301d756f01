"""What a network predicts, found out: networks built to be each kind, and others that are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ddim
from ddim import DDIMError, Level, find_prediction_type

SHAPE = (4, 3, 12, 12)
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FLOW = ddim.SigmaConfig("flow", tuple(i / 1000 for i in range(1, 1001)), time_scale=1000.0)
KINDS = ("epsilon", "sample", "v_prediction", "flow_prediction", "inverted_flow_prediction")


def levels(name: str) -> ddim.NoiseSchedule:
    if name == "flow":
        return FLOW.noise_schedule
    return ddim.make_schedule(1, ddim.SchedulerConfig(**SD, rescale_betas_zero_snr=name == "zero SNR")).noise


def flat_denoiser(x: Tensor, level: Level, spread: float = 1.0) -> Tensor:
    """E[x_0 | x_t] for data that is one brightness per image, normal with that spread: its exact network."""
    mean, count = x.double().flatten(1).mean(1), x[0].numel()
    precision = level.alpha**2 * spread**2 + level.sigma**2 / count
    return (level.alpha * spread**2 / precision * mean).view(-1, *[1] * (x.ndim - 1)).expand_as(x)


def network(kind: str, noise: ddim.NoiseSchedule, denoiser: Any = flat_denoiser) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact network of a kind: written out, so that nothing of the code under test is in it."""
    seen = noise.table.times

    def model(x: Tensor, t: Tensor) -> Tensor:
        index = int(t) if seen is None else int((seen - float(t)).abs().argmin())
        level = noise.level_at(index)
        x0 = denoiser(x, level)
        epsilon = (x.double() - level.alpha * x0) / level.sigma
        outputs = {
            "epsilon": epsilon,
            "sample": x0,
            "v_prediction": level.alpha * epsilon - level.sigma * x0,
            "flow_prediction": epsilon - x0,
            "inverted_flow_prediction": x0 - epsilon,
        }
        return outputs[kind].to(x.dtype)

    return model


@pytest.mark.parametrize("name", ["SD", "zero SNR", "flow"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_each_kind_is_found(name: str, kind: str, dtype: torch.dtype) -> None:
    noise = levels(name)
    found = find_prediction_type(network(kind, noise), torch.zeros(SHAPE, dtype=dtype), noise)
    assert (found.prediction_type, found.reason) == (kind, "")
    assert found.zero_snr == (name != "SD")
    assert found.explained > 0.9 and found.alpha_bar == pytest.approx(0.75, abs=0.01)
    noise_alone = kind in ("epsilon", "flow_prediction", "inverted_flow_prediction")
    assert abs(found.last_noise_weight) > 0.9 if noise_alone else abs(found.last_noise_weight) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_measured_weights_are_those_of_the_kind(kind: str) -> None:
    noise = levels("SD")
    found = find_prediction_type(network(kind, noise), torch.zeros(SHAPE), noise)
    alpha, sigma = math.sqrt(found.alpha_bar), math.sqrt(1 - found.alpha_bar)
    expected = {
        "epsilon": (1, 0), "sample": (0, 1), "v_prediction": (alpha, -sigma), "flow_prediction": (1, -1),
        "inverted_flow_prediction": (-1, 1),
    }[kind]  # fmt: skip
    assert (found.noise_weight, found.picture_weight) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("shape", [(1, 16), (2, 4, 8, 8), (1, 3, 2, 8, 8), (8, 2, 32)])
def test_any_shape_and_one_image(shape: tuple[int, ...]) -> None:
    noise = levels("zero SNR")
    for kind in ("epsilon", "v_prediction", "sample"):
        assert find_prediction_type(network(kind, noise), torch.zeros(shape), noise).prediction_type == kind


@pytest.mark.parametrize(
    "model",
    [
        lambda x, t: torch.zeros_like(x),
        lambda x, t: 0.5 * x,
        lambda x, t: torch.sin(40 * x),
        lambda x, t: x.flip(-1),
        lambda x, t: torch.ones_like(x),
    ],
)
def test_what_is_none_of_them_is_undecided(model: Any) -> None:
    found = find_prediction_type(model, torch.zeros(SHAPE), levels("SD"))
    assert found.prediction_type is None and found.reason


def test_calls_that_contradict_each_other_are_undecided() -> None:
    """epsilon at the middle, x_0 at the end: a network that was trained for other levels."""
    noise = levels("SD")
    epsilon, x0 = network("epsilon", noise), network("sample", noise)
    found = find_prediction_type(lambda x, t: (x0 if int(t) == 999 else epsilon)(x, t), torch.zeros(SHAPE), noise)
    assert found.prediction_type is None and "for pure noise it holds" in found.reason


def test_two_calls_and_the_same_answer_each_time() -> None:
    noise, calls = levels("SD"), []
    model = network("v_prediction", noise)

    def counted(x: Tensor, t: Tensor) -> Tensor:
        calls.append(int(t))
        return model(x, t)

    results = [find_prediction_type(counted, torch.full(SHAPE, math.nan), noise, seed=3) for _ in range(2)]
    assert len(calls) == 4 and calls[0] == 999 and results[0] == results[1]


def test_arguments_that_cannot_be_are_refused() -> None:
    noise, x = levels("SD"), torch.zeros(SHAPE)
    edm = ddim.SigmaConfig("variance_exploding", (0.1, 1.0, 10.0), time_scale=1.0).noise_schedule
    for model, start, told, sentence in [
        (lambda x, t: x, x, edm, "there is nothing to find out"),
        (lambda x, t: x, x, None, "noise must be a NoiseSchedule"),
        (lambda x, t: x[:1], x, noise, "must return a floating-point tensor"),
        (lambda x, t: x * math.nan, x, noise, "must be finite"),
        (lambda x, t: ddim.Guided(x, x, 2.0), x, noise, "pass the conditional one"),
        (lambda x, t: x, x[:0], noise, "at least one element"),
    ]:
        with pytest.raises(DDIMError, match=sentence):
            find_prediction_type(model, start, told)  # type: ignore[arg-type]


@pytest.mark.parametrize("reading", ["epsilon", "sample", "v_prediction", "flow_prediction"])
@pytest.mark.parametrize("label", [3, 10])
def test_the_demo_model_in_every_reading(reading: str, label: int) -> None:
    from demo import FlowNetwork, load_demo_model

    demo = load_demo_model()
    noise = ddim.make_schedule(1, ddim.SchedulerConfig(**demo.scheduler_config)).noise
    flow, x = FlowNetwork(demo.network, noise.alpha_bar), torch.zeros(2, 3, 32, 32)
    labels = torch.full((2,), label)

    def read(x: Tensor, t: Tensor) -> Tensor:
        if reading == "flow_prediction":
            return flow(x, t.expand(2), labels)
        v = demo.network(x, t.expand(2), labels)
        level = noise.level_at(int(t))
        return {
            "v_prediction": v,
            "sample": level.alpha * x - level.sigma * v,
            "epsilon": level.sigma * x + level.alpha * v,
        }[reading]

    with torch.inference_mode():
        found = find_prediction_type(read, x, FLOW.noise_schedule if reading == "flow_prediction" else noise)
    assert found.prediction_type == reading, found
