"""Runs inside real ComfyUI against independent implementations: diffusers, and ComfyUI's own samplers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import keyed_noise

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]  # a random network is as slow as a real one

SCALE = 0.18215  # SD1.5's latent scale: the samples of a LATENT are divided by it
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
EMPTY = {"samples": torch.zeros(1, 4, 8, 8)}
MODEL_NODES = "comfy_extras.nodes_model_advanced"


def apart(result: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((result - expected).abs().max() / expected.abs().max())


def diffusers_run(worker: Any, network: Any, contexts: Any, scheduler: Any, noise: Any, **given: Any) -> Tensor:
    """A diffusers pipeline's loop, with ComfyUI's network as its unet."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    x, batch = noise[0], len(noise[0])
    both = torch.cat([context.expand(batch, -1, -1) for context in contexts])
    for step_noise, t in zip(noise[1:], scheduler.timesteps, strict=True):
        output = worker("network", model=network, x=torch.cat([x, x]), timestep=int(t), context=both)
        text, other = output.chunk(2)
        output = other + given["cfg"] * (text - other)
        if given["rescale"]:
            output = rescale_noise_cfg(output, text, guidance_rescale=given["rescale"])
        step = {"eta": given["eta"], "variance_noise": step_noise if given["eta"] else None}
        x = scheduler.step(output, t, x, **step).prev_sample
    return x


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_ddim_sample_is_diffusers_on_the_same_network(
    worker: Any, calls: Any, network: Any, contexts: Any, conditions: Any, prediction_type: str, spacing: str,
    zero_snr: bool,
) -> None:  # fmt: skip
    """8 steps, eta 0 and 1, cfg 1 and 7.5, rescale 0 and 0.7; the MODEL stays as it was loaded: epsilon."""
    if prediction_type == "epsilon" and zero_snr and spacing == "trailing":
        pytest.skip("epsilon says nothing at zero SNR: refused, see the next test")
    from diffusers import DDIMScheduler

    settings = {"timestep_spacing": spacing, "rescale_betas_zero_snr": zero_snr, "prediction_type": prediction_type}
    schedule, _ = calls.schedule(**settings)
    noise = torch.randn(9, 1, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    noise[0] = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    scheduler = DDIMScheduler(**SD, **settings)
    scheduler.set_timesteps(8)
    errors = {}
    for eta, cfg, rescale in itertools.product([0.0, 1.0], [1.0, 7.5], [0.0, 0.7]):
        expected = diffusers_run(worker, network, contexts, scheduler, noise, eta=eta, cfg=cfg, rescale=rescale)
        result = calls.sample(
            model=network,
            **conditions,
            latent_image=EMPTY,
            schedule=schedule,
            cfg=cfg,
            guidance_rescale=rescale,
            eta=eta,
            variance_noise=calls.noise_of(schedule, noise[1:], eta) if eta else None,
        )
        errors[eta, cfg, rescale] = apart(result * SCALE, expected)
    print(f"largest relative difference: {max(errors.values()):.2g}")
    assert max(errors.values()) < 2e-4, errors


def test_an_epsilon_model_is_refused_at_zero_snr(calls: Any, network: Any, conditions: Any) -> None:
    with pytest.raises(RuntimeError, match="DDIMError.*v_prediction"):
        calls.schedule(rescale_betas_zero_snr=True, prediction_type="epsilon")
    schedule, _ = calls.schedule(rescale_betas_zero_snr=True)  # what the output is, the MODEL says when it runs
    with pytest.raises(RuntimeError, match="DDIMError.*v_prediction"):
        calls.sample(model=network, **conditions, latent_image=EMPTY, schedule=schedule)


@pytest.mark.parametrize("zero_snr", [False, True])
def test_a_patched_model_gives_the_same_as_a_schedule_alone(
    worker: Any, calls: Any, network: Any, conditions: Any, zero_snr: bool
) -> None:
    """DDIMModelSampling, the stock ModelSamplingDiscrete, and the schedule's own word mean the same."""
    schedule, _ = calls.schedule(prediction_type="v_prediction", rescale_betas_zero_snr=zero_snr)
    (stock,) = worker("add_levels", model=network, prediction="v_prediction", zsnr=zero_snr)
    ours = worker.node("DDIMModelSampling", model=network, schedule=schedule)
    taken, _ = calls.schedule(model=stock)
    results = [
        calls.sample(model=model, schedule=used, **conditions, latent_image=EMPTY)
        for model, used in [(network, schedule), (stock, schedule), (ours, schedule), (stock, taken)]
    ]
    assert max(apart(result, results[0]) for result in results[1:]) < 5e-5


@pytest.mark.parametrize("prediction", ["eps", "v_prediction"])
@pytest.mark.parametrize("scheduler", ["ours", "karras", "normal", "simple"])
def test_the_sampler_at_eta_0_is_stock_euler(
    worker: Any, calls: Any, network: Any, conditions: Any, prediction: str, scheduler: str
) -> None:
    (model,) = worker("add_levels", model=network, prediction=prediction, zsnr=prediction != "eps")
    if scheduler == "ours":
        _, sigmas = calls.schedule(model=model)
    else:
        given = {"model": model, "scheduler": scheduler, "steps": 8, "denoise": 1.0}
        sigmas = worker.node("BasicScheduler", calls.custom_sampling, **given)
    results = [calls.custom(model, conditions, sampler, sigmas) for sampler in (calls.sampler(), calls.euler())]
    assert apart(*results) < 1e-4


@pytest.mark.parametrize("prediction", ["eps", "v_prediction"])
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_the_sampler_at_eta_is_stock_euler_ancestral_with_the_same_noise(
    worker: Any, calls: Any, network: Any, conditions: Any, prediction: str, eta: float
) -> None:
    (model,) = worker("add_levels", model=network, prediction=prediction, zsnr=False)
    schedule, sigmas = calls.schedule(model=model)
    stock = worker.node("SamplerEulerAncestral", calls.custom_sampling, eta=eta, s_noise=1.0)
    expected = calls.custom(model, conditions, stock, sigmas)
    errors = []
    for seed in (3, 4):  # ComfyUI 0.3.64 draws with the run's seed, 0.33 with seed + 1
        held = calls.noise_of(schedule, stock_noise(seed), eta)
        errors.append(apart(calls.custom(model, conditions, calls.sampler(eta, variance_noise=held), sigmas), expected))
    assert min(errors) < 2e-4 and max(errors) > 1e-2, errors


@pytest.mark.parametrize("noise_mode", ["stream", "per image"])
def test_noise_modes_draw_what_they_say(calls: Any, network: Any, conditions: Any, noise_mode: str) -> None:
    schedule, sigmas = calls.schedule(model=network)
    keyed = torch.stack([keyed_noise((2, 4, 8, 8), 3, step) for step in range(8)])
    noise = {"stream": stock_noise(4), "per image": keyed}[noise_mode]
    given = calls.sampler(1.0, variance_noise=calls.noise_of(schedule, noise, 1.0))
    drawn = calls.sampler(1.0, noise_mode=noise_mode)
    assert apart(*(calls.custom(network, conditions, sampler, sigmas) for sampler in (drawn, given))) < 1e-5


def stock_noise(seed: int) -> Tensor:
    """What ComfyUI's default noise sampler draws on the CPU in seven steps; the eighth and last uses none."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(2, 4, 8, 8, generator=generator) for _ in range(8)])


def test_cfg_rescale_is_the_stock_node_for_v_and_not_for_epsilon(
    worker: Any, calls: Any, network: Any, conditions: Any
) -> None:
    """Core's RescaleCFG works in v space; diffusers', and ours, in the model's own output space."""
    errors = {}
    for prediction in ("v_prediction", "eps"):
        (model,) = worker("add_levels", model=network, prediction=prediction, zsnr=False)
        _, sigmas = calls.schedule(model=model)
        ours = worker.node("DDIMCFGRescale", model=model, guidance_rescale=0.7)
        stock = worker.node("RescaleCFG", MODEL_NODES, model=model, multiplier=0.7)
        errors[prediction] = apart(*(calls.custom(m, conditions, calls.euler(), sigmas) for m in (ours, stock)))
    assert errors["v_prediction"] < 1e-4 and errors["eps"] > 1e-2, errors


def test_cfg_rescale_works_on_flow_models(worker: Any, calls: Any, network: Any, conditions: Any) -> None:
    flow = worker.node("ModelSamplingSD3", MODEL_NODES, model=network, shift=3.0)
    given = {"model": flow, "scheduler": "simple", "steps": 4, "denoise": 1.0}
    sigmas = worker.node("BasicScheduler", calls.custom_sampling, **given)
    plain = calls.custom(flow, conditions, calls.euler(), sigmas)
    off, on = (
        calls.custom(worker.node("DDIMCFGRescale", model=flow, guidance_rescale=phi), conditions, calls.euler(), sigmas)
        for phi in (0.0, 0.7)
    )
    assert apart(off, plain) < 1e-4 and torch.isfinite(on).all() and on.std() < plain.std()


def test_the_random_network_depends_on_everything(network: Any, worker: Any) -> None:
    """Or else the comparisons above would compare nothing."""
    given = {"model": network, "x": torch.randn(1, 4, 8, 8), "timestep": 500, "context": torch.randn(1, 77, 768)}
    base = worker("network", **given)
    for change in ({"x": given["x"] + 0.1}, {"timestep": 100}, {"context": given["context"] + 0.5}):
        assert (worker("network", **{**given, **change}) - base).abs().max() > 1e-3, change
