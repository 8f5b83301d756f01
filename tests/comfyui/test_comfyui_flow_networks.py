"""Real flow architectures (SD3's MMDiT, Wan) with random weights, through ComfyUI's own loader, against stock Euler."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.comfyui.families import FAMILIES, conditions, etas_of_stock

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

MODEL_NODES = "comfy_extras.nodes_model_advanced"
SHAPES = {"sd3": (2, 16, 8, 8), "wan": (1, 16, 3, 8, 8)}
HALF = torch.zeros(1, 8, 8).index_fill(2, torch.arange(4, 8), 1.0)


def apart(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).abs().max() / expected.abs().max())


class Case(NamedTuple):
    """A MODEL with conditions for it, and latents of its shape."""

    name: str
    model: Any
    prompts: dict[str, Any]
    empty: Tensor
    picture: Tensor


@pytest.fixture(scope="module", params=SHAPES)
def case(request: pytest.FixtureRequest, worker: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, generator = request.param, torch.Generator().manual_seed(4)
    path = tmp_path_factory.mktemp("flow") / f"{name}.safetensors"
    (model,) = worker("flow_network", path=str(path), architecture=name)
    contexts, pooled = torch.randn(2, 1, 7, 4096, generator=generator), torch.randn(2, 1, 2048, generator=generator)
    prompts = {
        key: [[context, {"pooled_output": vector}]]
        for key, context, vector in zip(("positive", "negative"), contexts, pooled, strict=True)
    }
    return Case(name, model, prompts, torch.zeros(SHAPES[name]), torch.randn(SHAPES[name], generator=generator) * 3)


def both(calls: Any, case: Case, latent: dict[str, Any], model: Any = None, **plan: Any) -> tuple[Tensor, Tensor]:
    """DDIMSample at eta 0 and stock Euler, on the schedule of one DDIMSchedule."""
    model = model or case.model
    schedule, sigmas = calls.schedule(model=model, **plan)
    ours = calls.sample(model=model, schedule=schedule, cfg=4.0, latent_image=latent, **case.prompts)
    return ours, calls.custom(model, case.prompts, calls.euler(), sigmas, latent_image=latent)


def test_from_noise_from_a_picture_and_behind_a_mask_it_is_stock_euler(calls: Any, case: Case) -> None:
    errors = {
        "noise": apart(*both(calls, case, {"samples": case.empty})),
        "picture": apart(*both(calls, case, {"samples": case.picture}, denoise=0.6)),
        "mask": apart(*both(calls, case, {"samples": case.picture, "noise_mask": HALF}, denoise=0.6)),
    }
    print(f"network {case.name}: {max(errors.values()):.2g}")
    assert max(errors.values()) < 1e-4, errors


def test_a_shift_that_a_stock_node_sets_is_respected(worker: Any, calls: Any, case: Case) -> None:
    shifted = worker.node("ModelSamplingSD3", MODEL_NODES, model=case.model, shift=7.0)
    ours, stock = both(calls, case, {"samples": case.empty}, model=shifted)
    assert apart(ours, stock) < 1e-4
    assert apart(both(calls, case, {"samples": case.empty})[0], ours) > 1e-3


def test_split_runs_with_noise_are_stock_ancestral_euler(worker: Any, calls: Any, case: Case) -> None:
    """Latents with noise pass from node to node through the latent format, which shifts and scales them."""
    sigmas = worker("attribute", value=calls.schedule(model=case.model, steps=4)[1], path=[])
    stock = worker.node("SamplerEulerAncestral", calls.custom_sampling, eta=1.0, s_noise=1.0)
    given = {"latent_image": {"samples": case.empty}}
    expected = calls.custom(case.model, case.prompts, stock, sigmas, **given)
    errors = []
    for seed in (3, 4):
        x, generator = case.empty, torch.Generator().manual_seed(seed)
        for i, eta in enumerate(etas_of_stock(sigmas, 1.0)):
            schedule, _ = calls.schedule(model=case.model, steps=4, start_step=i, end_step=i + 1)
            held = calls.noise_of(schedule, torch.randn(1, *x.shape, generator=generator), eta)
            x = calls.sample(model=case.model, **case.prompts, latent_image={"samples": x}, schedule=schedule, cfg=4.0,
                             eta=eta, add_noise=i == 0, variance_noise=held)  # fmt: skip
        errors.append(apart(x, expected))
    print(f"network {case.name}, with noise: {min(errors):.2g}")
    assert min(errors) < 2e-4 and max(errors) > 1e-2, errors


def test_an_inverted_picture_comes_back_and_its_steps_are_shown(worker: Any, calls: Any, case: Case) -> None:
    schedule, _ = calls.schedule(model=case.model)
    given = {"model": case.model, **case.prompts, "schedule": schedule}
    settings = {"method": "variance_noise", "seed": 2, "cfg": 1.0, "guidance_rescale": 0.0, "eta": 1.0,
                "noise_path": "edit_friendly", "refinements": 4, "noise_precision": "half"}  # fmt: skip
    latent, noise, _ = worker.node("DDIMInvert", latent_image={"samples": case.picture}, **given, **settings)
    back = calls.sample(**given, latent_image=latent, variance_noise=noise, eta=1.0, add_noise=False, cfg=1.0)
    assert apart(back, case.picture) < 1e-4
    edited = calls.sample(**given, latent_image=latent, variance_noise=noise, eta=1.0, add_noise=False, cfg=3.0)
    assert edited.isfinite().all() and apart(edited, case.picture) > 1e-3


def test_the_random_networks_depend_on_sample_time_and_prompt(worker: Any, calls: Any, case: Case) -> None:
    """Or else the comparisons above would compare nothing."""
    run = both(calls, case, {"samples": case.empty})[0]
    other = case._replace(prompts={key: [[2 * c[0][0], c[0][1]]] for key, c in case.prompts.items()})
    assert apart(both(calls, other, {"samples": case.empty})[0], run) > 1e-3
    assert apart(both(calls, case, {"samples": case.picture}, denoise=0.6)[0], run) > 1e-2


# -- configurations of diffusers -----------------------------------------------------------------------------------


def from_config(worker: Any, model: Any, **config: Any) -> Any:
    """A schedule and SIGMAS from a FlowMatchEuler configuration."""
    text = json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", **config})
    widgets = {"config": text, "file": "(pasted text)", "steps": 8, "timestep_spacing": "from config", "denoise": 1.0,
               "fix_known_defaults": True, "start_step": 0, "end_step": 10000}  # fmt: skip
    return worker.node("DDIMScheduleFromConfig", model=model, **widgets)[:2]


@pytest.mark.parametrize("config", [{"shift": 5.0}, {"use_dynamic_shifting": True}, {"use_exponential_sigmas": True}])
@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_a_flow_configuration_is_stock_euler_on_its_sigmas(
    worker: Any, calls: Any, family: str, config: dict[str, Any]
) -> None:
    (model,) = worker("wavy_sampled_as", **FAMILIES[family])
    schedule, sigmas = from_config(worker, model, **config)
    given = {"latent_image": {"samples": torch.zeros(2, 3, 8, 8)}, **conditions()}
    ours = calls.sample(model=model, schedule=schedule, cfg=4.0, **given)
    assert apart(ours, calls.custom(model, conditions(), calls.euler(), sigmas, **given)) < 1e-4


def test_pure_noise_is_refused_where_its_sigma_is_infinite(worker: Any, calls: Any) -> None:
    (model,) = worker("wavy_sampled_as", **FAMILIES["cosmos"])
    with pytest.raises(RuntimeError, match=r"DDIMError.*largest sigma"):
        from_config(worker, model, shift=1.0)
    schedule, _ = from_config(worker, None, shift=1.0)
    latent = {"samples": torch.zeros(1, 3, 8, 8)}
    with pytest.raises(RuntimeError, match=r"DDIMError.*largest sigma"):
        calls.sample(model=model, schedule=schedule, latent_image=latent, **conditions())


# -- schedules and MODELs of different kinds -------------------------------------------------------------------------


@pytest.fixture
def flow(worker: Any, network: Any) -> Any:
    """The UNet of the other tests behind the stock node for SD3."""
    return worker.node("ModelSamplingSD3", MODEL_NODES, model=network, shift=3.0)


def test_a_schedule_of_another_kind_is_refused(worker: Any, calls: Any, network: Any, flow: Any) -> None:
    latent = {"latent_image": {"samples": torch.zeros(1, 4, 8, 8)}, **conditions(768)}
    for model, other in ((flow, network), (network, flow)):
        schedule, _ = calls.schedule(model=other)
        with pytest.raises(RuntimeError, match=r"DDIMError.*connect the MODEL to DDIM Schedule"):
            calls.sample(model=model, schedule=schedule, **latent)


def test_sigmas_of_another_kind_are_refused(calls: Any, network: Any, flow: Any) -> None:
    _, sigmas = calls.schedule(model=network)
    with pytest.raises(RuntimeError, match=r"DDIMError.*between 0 and 1"):
        calls.custom(flow, conditions(768), calls.sampler(), sigmas)


def test_model_sampling_refuses_flow_and_names_stock_nodes(worker: Any, calls: Any, network: Any, flow: Any) -> None:
    ours, theirs = calls.schedule()[0], calls.schedule(model=flow)[0]
    for model, schedule in ((flow, ours), (network, theirs)):
        with pytest.raises(RuntimeError, match=r"DDIMError.*ModelSamplingSD3"):
            worker.node("DDIMModelSampling", model=model, schedule=schedule)


def test_a_cascade_is_stock_eulers(worker: Any, calls: Any) -> None:
    """Stable Cascade predicts epsilon at 10000 levels of its own."""
    (model,) = worker("wavy_sampled_as", schedule="StableCascadeSampling", prediction="EPS", settings={"shift": 2.0},
                      time_scale=1000.0)  # fmt: skip
    given = {"latent_image": {"samples": torch.zeros(2, 3, 8, 8)}, **conditions()}
    schedule, sigmas = calls.schedule(model=model)
    ours = calls.sample(model=model, schedule=schedule, cfg=4.0, **given)
    assert apart(ours, calls.custom(model, conditions(), calls.euler(), sigmas, **given)) < 1e-4


def test_sound_and_pictures_together_run_through_the_sampler(worker: Any, calls: Any) -> None:
    """Newer versions pack such latents into one row; DDIM KSampler refuses them and says what to use."""
    if not worker("knows", module="comfy.nested_tensor", path=["NestedTensor"])["known"]:
        pytest.skip("this ComfyUI has no nested latents")
    (model,) = worker("wavy_sampled_as", **FAMILIES["sd3"])
    schedule, sigmas = calls.schedule(model=model)
    (latent,) = worker("nested_latent", parts=[torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 16)])
    with pytest.raises(RuntimeError, match=r"DDIMError.*SamplerCustom with DDIM Sampler"):
        calls.sample(model=model, **conditions(), latent_image=latent, schedule=schedule)
    runs = [
        worker.node("SamplerCustom", calls.custom_sampling, model=model, sampler=sampler, sigmas=sigmas,
                    add_noise=True, noise_seed=3, cfg=4.0, latent_image=latent, **conditions())[0]
        for sampler in (calls.sampler(), calls.euler())
    ]  # fmt: skip
    for part in (0, 1):
        ours, stock = (worker("attribute", value=run, path=["samples", "tensors", part]) for run in runs)
        assert apart(ours, stock) < 1e-4
