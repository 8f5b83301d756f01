"""What comes with ComfyUI's own sampling path: masks, image to image, batches, hooks, previews, Cancel."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ddim import SchedulerConfig

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]  # a random network is as slow as a real one

COUNTS = [*range(1, 61), 100, 250, 999, 1000]
PICTURE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(8)) * 3
HALF = torch.zeros(1, 8, 8).index_fill(2, torch.arange(4, 8), 1.0)  # the right half may change
SOFT = torch.linspace(0, 1, 8).expand(1, 8, 8).clone()


def apart(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("zero_snr", [False, True])
def test_sigmas_of_every_step_count_map_back_to_the_timesteps(
    worker: Any, calls: Any, network: Any, zero_snr: bool
) -> None:
    (model,) = worker("add_levels", model=network, prediction="v_prediction", zsnr=zero_snr)
    table = worker("attribute", value=model, path=["object_patches", "model_sampling", "sigmas"])
    for steps in COUNTS:
        schedule, sigmas = calls.schedule(steps=steps, model=model)
        values = worker("attribute", value=sigmas, path=[])
        timesteps = worker("attribute", value=schedule, path=["plan", "timesteps"])["value"]
        assert len(values) == steps + 1 == len(timesteps) + 1 and values[-1] == 0 and (values.diff() < 0).all()
        nearest = (values[:-1].log() - table.log()[:, None]).abs().argmin(dim=0)
        assert nearest.tolist() == timesteps and timesteps[0] == 999


@pytest.mark.parametrize("mask", [HALF, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_a_masked_run_is_stock_eulers(
    worker: Any, calls: Any, network: Any, conditions: Any, mask: torch.Tensor, zero_snr: bool
) -> None:
    (model,) = worker("add_levels", model=network, prediction="v_prediction", zsnr=zero_snr)
    _, sigmas = calls.schedule(model=model)
    latent = {"latent_image": {"samples": PICTURE, "noise_mask": mask}}
    ours = calls.custom(model, conditions, calls.sampler(), sigmas, **latent)
    stock = calls.custom(model, conditions, calls.euler(), sigmas, **latent)
    assert apart(ours, stock) < 1e-4
    assert torch.allclose(ours[..., 0], PICTURE[..., 0], atol=1e-3)


@pytest.mark.parametrize("given", ["the model's levels", "other levels", "zero SNR"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_kept_area_stays_whatever_the_schedules_levels(
    calls: Any, network: Any, conditions: Any, given: str, eta: float
) -> None:
    settings = {
        "the model's levels": {"model": network},
        "other levels": {"beta_end": 0.02},
        "zero SNR": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    }[given]
    schedule, _ = calls.schedule(**settings)
    latent = {"samples": PICTURE, "noise_mask": HALF, "kept": 1}
    result = calls.sample(model=network, **conditions, latent_image=latent, schedule=schedule, eta=eta)
    assert torch.allclose(result[..., :4], PICTURE[..., :4], atol=2e-4)
    assert (result[..., 4:] - PICTURE[..., 4:]).abs().mean() > 0.1


def test_the_network_sees_the_kept_area_at_the_schedules_level(worker: Any, calls: Any) -> None:
    """With an all-kept mask every input is the clean picture at alpha_bar of the schedule, not of the MODEL."""
    (model,) = worker("wavy_model", prediction="v_prediction", zsnr=False)
    schedule, _ = calls.schedule(steps=4, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    levels = worker("attribute", value=schedule, path=["alpha_bars"])["value"]
    prompt = {
        "positive": worker.node("DDIMDemoPrompt", digits="3"),
        "negative": worker.node("DDIMDemoPrompt", digits=""),
    }
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    latent = {"samples": picture, "noise_mask": torch.zeros(1, 8, 8)}
    given = {**prompt, "latent_image": latent, "schedule": schedule}
    seen = worker("inputs_of_network", model=model, node="DDIMSample", inputs={**calls.sample_defaults(), **given})
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    for x, level in zip(seen, levels[:-1], strict=True):
        assert torch.allclose(x, level**0.5 * picture[0] + (1 - level) ** 0.5 * noise[0], atol=1e-5), level


@pytest.mark.parametrize("denoise", [0.3, 0.8])
def test_image_to_image_is_stock_eulers(calls: Any, network: Any, conditions: Any, denoise: float) -> None:
    schedule, sigmas = calls.schedule(model=network, denoise=denoise)
    latent = {"latent_image": {"samples": PICTURE}}
    ours = calls.sample(model=network, **conditions, **latent, schedule=schedule, cfg=4.0)
    assert apart(ours, calls.custom(network, conditions, calls.euler(), sigmas, **latent)) < 1e-4


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_two_halves_are_the_whole(calls: Any, network: Any, conditions: Any, eta: float) -> None:
    def part(start: torch.Tensor, add_noise: bool, **given: Any) -> torch.Tensor:
        schedule, _ = calls.schedule(model=network, **given)
        return calls.sample(model=network, **conditions, latent_image={"samples": start}, schedule=schedule, eta=eta,
                            add_noise=add_noise)  # fmt: skip

    empty = torch.zeros(2, 4, 8, 8)
    whole = part(empty, True)
    assert apart(part(part(empty, True, end_step=3), False, start_step=3), whole) < 1e-5


def test_an_image_is_the_same_alone_and_in_a_batch(calls: Any, network: Any, conditions: Any) -> None:
    schedule, _ = calls.schedule(model=network)
    given = {"model": network, **conditions, "schedule": schedule, "eta": 1.0}
    batch = calls.sample(latent_image={"samples": torch.zeros(3, 4, 8, 8)}, **given)
    alone = calls.sample(latent_image={"samples": torch.zeros(1, 4, 8, 8), "batch_index": [2]}, **given)
    assert apart(alone, batch[2:]) < 1e-4


@pytest.mark.parametrize("prediction", ["v_prediction", "flow"])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 5, 8, 8), (2, 3, 16)], ids=["image", "video", "sound"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_latents_of_any_rank_are_the_same_in_both_hosts(
    worker: Any, calls: Any, pack: Any, shape: tuple[int, ...], eta: float, prediction: str
) -> None:
    given = {"cfg": 5.0, "guidance_rescale": 0.7, "eta": eta, "latent_image": {"samples": torch.zeros(shape)}}
    (model,) = worker("wavy_model", prediction=prediction, zsnr=True)
    prompts = {key: worker.node("DDIMDemoPrompt", digits=digits) for key, digits in PROMPTS.items()}
    there = calls.sample(model=model, **prompts, schedule=calls.schedule(model=model)[0], **given)
    assert apart(there, embedded_sample(pack, calls, prediction, given)) < 1e-4


PROMPTS = {"positive": "29", "negative": ""}


def embedded_sample(pack: Any, calls: Any, prediction: str, given: dict[str, Any]) -> torch.Tensor:
    """The same run in the embedded host."""
    nodes = pack.NODE_CLASS_MAPPINGS
    spec = importlib.util.spec_from_file_location("wavy", Path(__file__).parent / "wavy.py")
    wavy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wavy)
    backend = sys.modules["pack.nodes.backend"].current()
    if prediction == "flow":
        model = backend.flow_model_from_network(wavy.Wavy())
    else:
        config = SchedulerConfig(**wavy.CONFIG, prediction_type=prediction, rescale_betas_zero_snr=True)
        model = backend.model_from_network(wavy.Wavy(), config)
    prompts = {key: nodes["DDIMDemoPrompt"]().encode(digits)[0] for key, digits in PROMPTS.items()}
    schedule = nodes["DDIMSchedule"]().build(**calls.schedule_defaults(), model=model)["result"][0]
    settings = {**calls.sample_defaults(), **given}
    outputs = nodes["DDIMSample"]().sample(model=model, **prompts, schedule=schedule, **settings)
    return (outputs["result"] if isinstance(outputs, dict) else outputs)[0]["samples"]


def test_conditions_with_areas_masks_and_ranges_are_stock_eulers(
    worker: Any, calls: Any, network: Any, contexts: Any, conditions: Any
) -> None:
    """Everything that hangs on a conditioning goes through ComfyUI's own path."""
    positive = [
        [contexts[0], {"start_percent": 0.0, "end_percent": 0.5}],
        [contexts[1], {"area": (4, 4, 0, 2), "strength": 0.7, "set_area_to_bounds": False}],
        [contexts[0] * 0.5, {"mask": SOFT, "mask_strength": 0.8, "set_area_to_bounds": False}],
    ]
    schedule, sigmas = calls.schedule(model=network)
    given = {**conditions, "positive": positive}
    ours = calls.sample(model=network, **given, latent_image={"samples": torch.zeros(2, 4, 8, 8)}, schedule=schedule,
                        cfg=4.0)  # fmt: skip
    assert apart(ours, calls.custom(network, given, calls.euler(), sigmas)) < 1e-4


def test_a_controlled_run_is_stock_eulers(worker: Any, calls: Any, network: Any, conditions: Any) -> None:
    schedule, sigmas = calls.schedule(model=network)
    (positive,) = worker("with_control", conditioning=conditions["positive"])
    given = {**conditions, "positive": positive}
    latent = {"latent_image": {"samples": torch.zeros(1, 4, 8, 8)}}
    ours = calls.sample(model=network, **given, **latent, schedule=schedule, cfg=4.0)
    assert apart(ours, calls.custom(network, given, calls.euler(), sigmas, **latent)) < 1e-4
    free = calls.sample(model=network, **conditions, **latent, schedule=schedule, cfg=4.0)
    assert apart(ours, free) > 1e-2


@pytest.mark.parametrize("at", [1, 4])
def test_cancel_ends_a_run_with_the_step_it_is_in(
    worker: Any, calls: Any, network: Any, conditions: Any, at: int
) -> None:
    schedule, sigmas = calls.schedule(model=network, steps=50)
    latent = {"latent_image": {"samples": torch.zeros(1, 4, 8, 8)}}
    inputs = {**calls.sample_defaults(), **conditions, **latent, "schedule": schedule, "cfg": 1.0}
    told = worker("cancel_during", model=network, call_number=at, node="DDIMSample", inputs=inputs)
    assert told == {"calls": at, "ended": "InterruptProcessingException"}
    assert calls.sample(model=network, **{**inputs, "schedule": calls.schedule(steps=2)[0]}).isfinite().all()


def test_stock_results_are_bit_identical_with_the_pack_present(
    worker: Any, calls: Any, network: Any, conditions: Any, stock_results: dict[str, torch.Tensor], stock_run: Any
) -> None:
    schedule, _ = calls.schedule(model=network)
    calls.sample(model=network, **conditions, latent_image={"samples": torch.zeros(1, 4, 8, 8)}, schedule=schedule)
    for sampler, before in stock_results.items():
        assert torch.equal(stock_run(worker, network, conditions, sampler), before), sampler


def test_the_pack_loads_fast_and_brings_nothing_along(worker: Any) -> None:
    told = worker.loaded
    assert told["seconds"] < 0.2 * max(told["torch_seconds"], 1.0), told
    assert told["imported"] == []
