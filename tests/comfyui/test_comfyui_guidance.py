"""CFG++ and the guidance interval inside real ComfyUI, against its own ``*_cfg_pp`` samplers and CFGOverride."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

MODEL_NODES = "comfy_extras.nodes_model_advanced"
TWO = {"samples": torch.zeros(2, 4, 8, 8)}
LAMBDA = 0.6


def apart(result: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((result - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def models(worker: Any, network: Any) -> dict[str, Any]:
    return {
        "epsilon": network,
        "v_prediction": worker("add_levels", model=network, prediction="v_prediction", zsnr=False)[0],
        "zero SNR": worker("add_levels", model=network, prediction="v_prediction", zsnr=True)[0],
        "flow": worker.node("ModelSamplingSD3", MODEL_NODES, model=network, shift=3.0),
    }


def stock(worker: Any, calls: Any, name: str) -> Any:
    return worker.node("KSamplerSelect", calls.custom_sampling, sampler_name=name)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow", "zero SNR"])
@pytest.mark.parametrize("cfg", [LAMBDA, 0.0, 1.0])
def test_it_is_stock_euler_cfg_pp(worker: Any, calls: Any, models: Any, conditions: Any, kind: str, cfg: float) -> None:
    """At zero SNR ComfyUI starts at its own largest sigma, 4518, where ours is exact: that is the whole difference."""
    model = models[kind]
    schedule, sigmas = calls.schedule(model=model)
    ours = calls.sample(model=model, schedule=schedule, **conditions, latent_image=TWO, cfg=cfg, guidance_mode="cfg++")
    expected = calls.custom(model, conditions, stock(worker, calls, "euler_cfg_pp"), sigmas, cfg=cfg)
    assert apart(ours, expected) < (2e-3 if kind == "zero SNR" else 2e-4)


def test_lambda_0_is_the_negative_prompt_alone(calls: Any, models: Any, conditions: Any) -> None:
    model = models["epsilon"]
    schedule, _ = calls.schedule(model=model)
    given = {"model": model, "schedule": schedule, "latent_image": TWO}
    ours = calls.sample(**given, **conditions, cfg=0.0, guidance_mode="cfg++")
    alone = calls.sample(**given, positive=conditions["negative"], negative=conditions["negative"], cfg=1.0)
    assert apart(ours, alone) < 1e-5


def test_other_levels_than_the_models_own_are_read_again_for_both(calls: Any, models: Any, conditions: Any) -> None:
    """A schedule with zero SNR and v for a MODEL that was loaded as epsilon, against the MODEL with those levels."""
    schedule, _ = calls.schedule(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    given = {"schedule": schedule, **conditions, "latent_image": TWO, "cfg": LAMBDA, "guidance_mode": "cfg++"}
    ours, patched = (calls.sample(model=models[kind], **given) for kind in ("epsilon", "zero SNR"))
    assert apart(ours, patched) < 5e-5


@pytest.mark.parametrize("mode, cfg", [("cfg", 4.0), ("cfg++", LAMBDA), ("cfg++", 1.0)])
@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_outside_the_interval_comfyui_evaluates_one_prompt(
    worker: Any, calls: Any, models: Any, conditions: Any, kind: str, mode: str, cfg: float
) -> None:
    model = models[kind]
    schedule, _ = calls.schedule(model=model)
    given = {
        **calls.sample_defaults(), "schedule": schedule, **conditions, "latent_image": TWO, "cfg": cfg,
        "guidance_mode": mode, "guidance_start": 0.25, "guidance_end": 0.75,
    }  # fmt: skip
    rows = worker("rows_of_network", model=model, node="DDIMSample", inputs=given)["rows"]
    assert rows == [2, 2, 4, 4, 4, 4, 2, 2]
    del given["guidance_start"], given["guidance_end"]
    rows = worker("rows_of_network", model=model, node="DDIMSample", inputs=given)["rows"]
    assert rows == [4] * 8


def test_an_interval_is_a_run_in_three_parts(calls: Any, models: Any, conditions: Any) -> None:
    model = models["epsilon"]
    given = {"model": model, **conditions}
    schedule, _ = calls.schedule(model=model)
    whole = calls.sample(**given, schedule=schedule, latent_image=TWO, cfg=4.0, guidance_start=0.25, guidance_end=0.75)
    latent: Any = TWO
    for first, last, cfg in [(0, 2, 1.0), (2, 6, 4.0), (6, 8, 1.0)]:
        part, _ = calls.schedule(model=model, start_step=first, end_step=last)
        latent = {"samples": calls.sample(**given, schedule=part, latent_image=latent, cfg=cfg, add_noise=first == 0)}
    assert apart(whole, latent["samples"]) < 1e-4


@pytest.mark.parametrize("kind", ["epsilon", "zero SNR", "flow"])
def test_a_mask_keeps_the_rest(calls: Any, models: Any, conditions: Any, kind: str) -> None:
    picture = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    schedule, _ = calls.schedule(model=models[kind])
    result = calls.sample(
        model=models[kind], schedule=schedule, **conditions, latent_image={"samples": picture, "noise_mask": mask},
        cfg=LAMBDA, guidance_mode="cfg++",
    )  # fmt: skip
    assert apart(result[..., 4:], picture[..., 4:]) < 1e-4
    assert apart(result[..., :4], picture[..., :4]) > 0.1


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
@pytest.mark.parametrize("method", ["fixed_point", "variance_noise"])
def test_inversion_with_cfg_plus_plus_comes_back(
    worker: Any, calls: Any, models: Any, conditions: Any, kind: str, method: str
) -> None:
    schedule, _ = calls.schedule(model=models[kind], steps=6)
    guided = {"model": models[kind], "schedule": schedule, **conditions, "cfg": 0.2, "guidance_mode": "cfg++"}
    eta = 1.0 if method == "variance_noise" else 0.0
    image = calls.sample(**guided, latent_image={"samples": torch.zeros(1, 4, 8, 8)})
    latent, noise, error = worker.node(
        "DDIMInvert", **guided, latent_image={"samples": image}, method=method, seed=3, guidance_rescale=0.0, eta=1.0,
        noise_path="cycle", refinements=40, noise_precision="full",
    )  # fmt: skip
    again = calls.sample(
        **guided, latent_image={"samples": worker.samples(latent)}, eta=eta, add_noise=False,
        variance_noise=noise if method == "variance_noise" else None,
    )  # fmt: skip
    limit = 0.05 if method == "fixed_point" else 1e-3  # a random network is far from what a step can be undone of
    assert apart(again, image) < limit, worker("attribute", value=error, path=[])


def test_guidance_settings_that_cannot_be_are_refused(calls: Any, models: Any, conditions: Any) -> None:
    schedule, _ = calls.schedule(model=models["epsilon"])
    given = {"model": models["epsilon"], "schedule": schedule, **conditions, "latent_image": TWO}
    with pytest.raises(RuntimeError, match="DDIMError.*lambda"):
        calls.sample(**given, guidance_mode="cfg++", cfg=7.5)
    with pytest.raises(RuntimeError, match="DDIMError.*exchange them"):
        calls.sample(**given, guidance_start=0.9, guidance_end=0.1)


# -- which kind of checkpoint -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loaded_as, kind, advice",
    [
        ("its own", "v_prediction", "leave prediction_type at 'from model'"),
        ("eps", "v_prediction", "It is loaded as epsilon: set prediction_type of DDIM Schedule to v_prediction."),
        ("flow", "flow_prediction", "connect the MODEL"),
    ],
)
def test_the_demo_model_is_recognised(worker: Any, loaded_as: str, kind: str, advice: str) -> None:
    model = worker.node("DDIMDemoModel", sampled_as="flow" if loaded_as == "flow" else "v_prediction")
    if loaded_as == "eps":
        (model,) = worker("add_levels", model=model, prediction="eps", zsnr=False)
    prompt = worker.node("DDIMDemoPrompt", digits="3")
    latent = worker.node("DDIMDemoLatent", batch_size=3)
    outputs = worker.node("DDIMCheckModel", model=model, positive=prompt, latent_image=latent, seed=0)
    report, found = (worker("attribute", value=output, path=[])["value"] for output in outputs)
    assert found == kind and advice in report, report
    assert ("do not reach zero SNR" in report) == (loaded_as == "eps")


def test_a_random_network_is_undecided(worker: Any, network: Any, conditions: Any) -> None:
    given = {"model": network, "positive": conditions["positive"], "latent_image": TWO, "seed": 0}
    report, found = (
        worker("attribute", value=output, path=[])["value"] for output in worker.node("DDIMCheckModel", **given)
    )
    assert found == "undecided" and report.startswith("Undecided: ")
