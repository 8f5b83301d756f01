"""Flow and EDM MODELs inside real ComfyUI: every family against ComfyUI's own Euler and ancestral Euler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.comfyui.families import FAMILIES, RECTIFIED, SCALED, conditions, etas_of_stock

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

SHAPES = {"image": (2, 3, 8, 8), "video": (2, 3, 5, 8, 8)}
HALF = torch.zeros(1, 8, 8).index_fill(2, torch.arange(4, 8), 1.0)  # the right half may change
SOFT = torch.linspace(0, 1, 8).expand(1, 8, 8).clone()
TOLERANCE = 1e-4


def picture(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(8))


def apart(result: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((result - expected).abs().max() / expected.abs().max())


def assert_same(family: str, ours: Tensor, stock: Tensor, tolerance: float = TOLERANCE) -> None:
    """Print the difference, for the table in docs/comfyui.md, and check it."""
    difference = apart(ours, stock)
    print(f"{family}: {difference:.2g}")
    assert difference < tolerance


@pytest.fixture(scope="module")
def models(worker: Any) -> Callable[[str], Any]:
    """``models(family)``: a MODEL around the network of wavy.py."""
    made: dict[str, Any] = {}

    def model(family: str) -> Any:
        if family not in made:
            (made[family],) = worker("wavy_sampled_as", **FAMILIES[family])
        return made[family]

    return model


@pytest.fixture
def both(calls: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """DDIMSample at eta 0 and stock Euler, on the schedule of one DDIMSchedule."""

    def run(model: Any, latent: dict[str, Any], prompts: Any = None, **plan: Any) -> tuple[Tensor, Tensor]:
        prompts = prompts or conditions()
        schedule, sigmas = calls.schedule(model=model, **plan)
        given = {"latent_image": latent, **prompts}
        ours = calls.sample(model=model, schedule=schedule, cfg=4.0, **given)
        return ours, calls.custom(model, prompts, calls.euler(), sigmas, latent_image=latent)

    return run


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_ddim_sample_at_eta_0_is_stock_euler(models: Any, both: Any, family: str, shape: str) -> None:
    assert_same(family, *both(models(family), {"samples": torch.zeros(SHAPES[shape])}))


@pytest.mark.parametrize("spacing", ["leading", "linspace", "quad"])
@pytest.mark.parametrize("family", ["sd3", "edm"])
def test_every_spacing_of_the_models_own_table_is_stock_euler(
    models: Any, both: Any, family: str, spacing: str
) -> None:
    latent = {"samples": torch.zeros(SHAPES["image"])}
    assert_same(family, *both(models(family), latent, timestep_spacing=spacing, steps=7))


@pytest.mark.parametrize("scheduler", ["simple", "normal", "sgm_uniform", "beta"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_sampler_at_eta_0_is_stock_euler_on_stock_sigmas(
    worker: Any, calls: Any, models: Any, family: str, scheduler: str
) -> None:
    given = {"model": models(family), "scheduler": scheduler, "steps": 8, "denoise": 1.0}
    sigmas = worker.node("BasicScheduler", calls.custom_sampling, **given)
    latent = {"samples": torch.zeros(SHAPES["image"])}
    results = [
        calls.custom(models(family), conditions(), sampler, sigmas, latent_image=latent)
        for sampler in (calls.sampler(), calls.euler())
    ]
    assert_same(family, *results)


@pytest.mark.parametrize("denoise", [0.3, 0.8])
@pytest.mark.parametrize("family", FAMILIES)
def test_image_to_image_is_stock_eulers(models: Any, both: Any, family: str, denoise: float) -> None:
    assert_same(family, *both(models(family), {"samples": picture(SHAPES["image"])}, denoise=denoise))


@pytest.mark.parametrize("mask", [HALF, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_masked_run_is_stock_eulers(models: Any, both: Any, family: str, mask: Tensor) -> None:
    start = picture(SHAPES["image"])
    ours, stock = both(models(family), {"samples": start, "noise_mask": mask}, denoise=0.6)
    assert_same(family, ours, stock)
    assert torch.allclose(ours[..., 0], start[..., 0], atol=1e-3)
    assert (ours[..., 4:] - start[..., 4:]).abs().mean() > 0.1


@pytest.mark.parametrize("stock_eta", [0.3, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_step_noise_is_stock_ancestral_eulers_under_the_mapping_of_eta(
    worker: Any, calls: Any, models: Any, family: str, stock_eta: float
) -> None:
    """One DDIM KSampler per step, because ComfyUI's eta of a flow model is another eta of DDIM's in each step."""
    sigmas = worker("attribute", value=calls.schedule(model=models(family))[1], path=[])
    stock = worker.node("SamplerEulerAncestral", calls.custom_sampling, eta=stock_eta, s_noise=1.0)
    latent = {"samples": torch.zeros(SHAPES["image"])}
    expected = calls.custom(models(family), conditions(), stock, sigmas, latent_image=latent)
    etas = etas_of_stock(sigmas, stock_eta) if family in RECTIFIED else [stock_eta] * 8
    errors = [apart(step_by_step(calls, models(family), etas, seed), expected) for seed in (3, 4)]
    print(
        f"{family}, with noise: {min(errors):.2g}; ComfyUI's eta {stock_eta} is {min(etas[:-1]):.3f} to {max(etas):.3f}"
    )
    assert min(errors) < 2e-4 and max(errors) > 1e-2, errors  # 0.3.64 draws with the run's seed, 0.33 with seed + 1


def step_by_step(calls: Any, model: Any, etas: list[float], seed: int) -> Tensor:
    """A run in as many pieces as it has steps, each with its own eta and the noise that ComfyUI draws."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(SHAPES["image"])
    for i, eta in enumerate(etas):
        schedule, _ = calls.schedule(model=model, steps=len(etas), start_step=i, end_step=i + 1)
        noise = torch.randn(1, *x.shape, generator=generator)
        held = {"variance_noise": calls.noise_of(schedule, noise, eta)} if eta else {}
        given = {"latent_image": {"samples": x}, "schedule": schedule, "cfg": 4.0, "eta": eta, "add_noise": i == 0}
        x = calls.sample(model=model, **conditions(), **given, **held)
    return x


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_halves_are_the_whole(calls: Any, models: Any, family: str, eta: float) -> None:
    def part(start: Tensor, add_noise: bool, **plan: Any) -> Tensor:
        schedule, _ = calls.schedule(model=models(family), **plan)
        return calls.sample(model=models(family), **conditions(), latent_image={"samples": start}, schedule=schedule,
                            eta=eta, add_noise=add_noise)  # fmt: skip

    empty = torch.zeros(SHAPES["image"])
    whole = part(empty, True)
    assert apart(part(part(empty, True, end_step=3), False, start_step=3), whole) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_two_halves_with_stock_nodes_are_the_whole(worker: Any, calls: Any, models: Any, family: str) -> None:
    """SamplerCustom hands a noisy latent on in ComfyUI's own form; DDIM Sampler reads and leaves that form."""
    _, sigmas = calls.schedule(model=models(family))
    high, low = worker.node("SplitSigmas", calls.custom_sampling, sigmas=sigmas, step=3)
    given = {"latent_image": {"samples": picture(SHAPES["image"])}}
    whole = calls.custom(models(family), conditions(), calls.euler(), sigmas, **given)
    first = calls.custom(models(family), conditions(), calls.sampler(), high, **given)
    rest = {"latent_image": {"samples": first}, "add_noise": False}
    assert_same(family, calls.custom(models(family), conditions(), calls.sampler(), low, **rest), whole)


@pytest.mark.parametrize("family", ["sd3", "edm"])
def test_an_image_is_the_same_alone_and_in_a_batch(calls: Any, models: Any, family: str) -> None:
    schedule, _ = calls.schedule(model=models(family))
    given = {"model": models(family), **conditions(), "schedule": schedule, "eta": 1.0}
    batch = calls.sample(latent_image={"samples": torch.zeros(3, 3, 8, 8)}, **given)
    alone = calls.sample(latent_image={"samples": torch.zeros(1, 3, 8, 8), "batch_index": [2]}, **given)
    assert apart(alone, batch[2:]) < TOLERANCE


@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("family", ["sd3", "edm"])
def test_cancel_ends_a_run_with_the_step_it_is_in(worker: Any, calls: Any, models: Any, family: str, at: int) -> None:
    schedule, _ = calls.schedule(model=models(family), steps=50)
    latent = {"latent_image": {"samples": torch.zeros(1, 3, 8, 8)}}
    inputs = {**calls.sample_defaults(), **conditions(), **latent, "schedule": schedule, "cfg": 1.0}
    ended = worker("cancel_during", model=models(family), call_number=at, node="DDIMSample", inputs=inputs)
    assert ended == {"calls": at, "ended": "InterruptProcessingException"}


@pytest.mark.parametrize("node", ["DDIMSample", "DDIMSampler"])
@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_noise_brings_the_picture_back(worker: Any, calls: Any, models: Any, family: str, node: str) -> None:
    model, start = models(family), picture(SHAPES["image"]) * 0.5
    schedule, sigmas = calls.schedule(model=model)
    settings = {"method": "variance_noise", "seed": 2, "cfg": 1.0, "guidance_rescale": 0.0, "eta": 1.0,
                "noise_path": "cycle", "refinements": 4, "noise_precision": "full"}  # fmt: skip
    given = {"model": model, **conditions(), "schedule": schedule}
    latent, noise, error = worker.node("DDIMInvert", latent_image={"samples": start}, **given, **settings)
    if node == "DDIMSample":
        run = {"latent_image": latent, "variance_noise": noise, "eta": 1.0, "add_noise": False, "cfg": 1.0}
        back = calls.sample(**given, **run)
    else:
        sampler = calls.sampler(1.0, variance_noise=noise)
        run = {"latent_image": latent, "add_noise": False, "cfg": 1.0}
        back = calls.custom(model, conditions(), sampler, sigmas, **run)
    assert apart(back, start) < 1e-4, worker("attribute", value=error, path=[])


@pytest.mark.parametrize("method", ["ddim", "fixed_point", "edict", "bdia"])
@pytest.mark.parametrize("family", ["sd3", "edm"])
def test_the_other_inversions_come_back_too(worker: Any, calls: Any, models: Any, family: str, method: str) -> None:
    model, start = models(family), picture(SHAPES["image"]) * 0.5
    schedule, _ = calls.schedule(model=model, steps=20)
    settings = {"method": method, "seed": 2, "cfg": 1.0, "guidance_rescale": 0.0, "eta": 0.0,
                "noise_path": "cycle", "refinements": 20, "noise_precision": "full"}  # fmt: skip
    given = {"model": model, **conditions(), "schedule": schedule}
    latent, noise, _ = worker.node("DDIMInvert", latent_image={"samples": start}, **given, **settings)
    held = {"variance_noise": noise} if method in ("edict", "bdia") else {}
    back = calls.sample(**given, **held, latent_image=latent, eta=0.0, add_noise=False, cfg=1.0)
    assert apart(back, start) < {"ddim": 1.0, "fixed_point": 0.1, "edict": 1e-3, "bdia": 1e-3}[method]


def test_a_noise_scale_is_stock_eulers(worker: Any, calls: Any, both: Any) -> None:
    """HiDream-O1's noise has a standard deviation of 7.5 or 8."""
    newer = ["ModelSamplingDiscreteFlow", "set_noise_scale"]
    if not worker("knows", module="comfy.model_sampling", path=newer)["known"]:
        pytest.skip("this ComfyUI has no noise_scale")
    (model,) = worker("wavy_sampled_as", **SCALED)
    assert_same("scaled", *both(model, {"samples": torch.zeros(SHAPES["image"])}))
    assert_same("scaled", *both(model, {"samples": picture(SHAPES["image"])}, denoise=0.5))
    _, sigmas = calls.schedule(model=model)
    stock = worker.node("SamplerEulerAncestral", calls.custom_sampling, eta=1.0, s_noise=1.0)
    latent = {"samples": torch.zeros(SHAPES["image"])}
    expected = calls.custom(model, conditions(), stock, sigmas, latent_image=latent)
    etas = etas_of_stock(worker("attribute", value=sigmas, path=[]), 1.0)
    assert min(apart(step_by_step(calls, model, etas, seed), expected) for seed in (3, 4)) < 2e-4


def test_numbered_timesteps_are_refused_by_a_model_that_has_none(models: Any, calls: Any) -> None:
    """SVD's table of sigmas was made up for schedulers: its entries are not the timesteps of betas."""
    schedule, _ = calls.schedule()
    latent = {"samples": torch.zeros(SHAPES["image"])}
    with pytest.raises(RuntimeError, match="DDIMError.*connect the MODEL"):
        calls.sample(model=models("svd"), schedule=schedule, **conditions(), latent_image=latent)


def test_image_to_image_networks_are_refused(worker: Any, calls: Any) -> None:
    """They take a picture and give another one: there is no noise to remove."""
    if not worker("knows", module="comfy.model_sampling", path=["IMG_TO_IMG_FLOW"])["known"]:
        pytest.skip("this ComfyUI has no such MODELs")
    (model,) = worker("wavy_sampled_as", **{**FAMILIES["sd3"], "prediction": "IMG_TO_IMG_FLOW"})
    schedule, sigmas = calls.schedule()
    sentence = "DDIMError.*KSampler"
    with pytest.raises(RuntimeError, match=sentence):
        calls.schedule(model=model)
    with pytest.raises(RuntimeError, match=sentence):
        calls.sample(model=model, **conditions(), latent_image={"samples": torch.zeros(1, 3, 8, 8)}, schedule=schedule)
    with pytest.raises(RuntimeError, match=sentence):
        calls.custom(model, conditions(), calls.sampler(), sigmas, latent_image={"samples": torch.zeros(1, 3, 8, 8)})
