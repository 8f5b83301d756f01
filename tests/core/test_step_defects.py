"""x_0 read late, timesteps written to, NaN, the draws of parity, private parts of torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import DDIMError, DDIMScheduler, keyed_noise, sample, sample_parallel

diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 3, 8, 8)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def planned(steps: int = 10, **settings: Any) -> DDIMScheduler:
    scheduler = DDIMScheduler(**settings)
    scheduler.set_timesteps(steps)
    return scheduler


def tensors(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    return keyed_noise(shape, 1, 0).to(dtype), keyed_noise(shape, 2, 0).to(dtype)


# -- x_0 read late ---------------------------------------------------------------------------------------------------


def overwritten(x: Tensor, with_: Tensor) -> None:
    x.copy_(with_)


def overwritten_through_data(x: Tensor, with_: Tensor) -> None:
    x.data[...] = with_


def overwritten_through_dlpack(x: Tensor, with_: Tensor) -> None:
    torch.from_dlpack(x).copy_(with_)


def overwritten_through_numpy(x: Tensor, with_: Tensor) -> None:
    x.view(torch.uint8).numpy()[...] = with_.contiguous().view(torch.uint8).numpy()


WRITES = [overwritten, overwritten_through_data, overwritten_through_dlpack, overwritten_through_numpy]
PROCESSING: list[dict[str, Any]] = [
    {"clip_sample": False},
    {"clip_sample": True},
    {"clip_sample": False, "prediction_type": "v_prediction"},
    {"clip_sample": False, "prediction_type": "sample"},
    {"thresholding": True, "sample_max_value": 1.5},
]


@pytest.mark.parametrize("settings", PROCESSING, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("target", ["sample", "model_output"])
def test_x0_is_that_of_the_step_after_latents_are_overwritten(settings, dtype, write, target: str) -> None:
    """``latents.copy_(out.prev_sample)`` is how loops with static memory go on: CUDA graphs, preallocated latents."""
    x, m = tensors(dtype)
    expected = planned(**settings).step(m.clone(), 500, x.clone(), return_dict=False)[1].clone()
    theirs = diffusers.DDIMScheduler(**settings)
    theirs.set_timesteps(10)
    same = theirs.step(m.clone(), 500, x.clone()).pred_original_sample
    output = planned(**settings).step(m, 500, x)
    write(x if target == "sample" else m, output.prev_sample)
    assert torch.equal(output.pred_original_sample, expected)
    scale = float(same.double().abs().max())
    assert torch.allclose(expected.double(), same.double(), rtol=0, atol=scale * max(4e-6, 4 * torch.finfo(dtype).eps))


def test_x0_under_inference_mode_is_that_of_the_step_too() -> None:
    with torch.inference_mode():
        x, m = (tensor.clone() for tensor in tensors())
        expected = planned(clip_sample=False).step(m.clone(), 500, x.clone(), return_dict=False)[1]
        output = planned(clip_sample=False).step(m, 500, x)
        x.copy_(output.prev_sample)
        assert torch.equal(output.pred_original_sample, expected)


def test_x0_is_that_of_the_step_when_the_sample_is_the_output() -> None:
    x, m = tensors()
    expected = planned(clip_sample=False).step(m, 500, x.clone(), return_dict=False)[1]
    output = planned(clip_sample=False).step(m, 500, x, out=x)
    assert output.prev_sample is x
    assert torch.equal(output.pred_original_sample, expected)


# -- timesteps written to --------------------------------------------------------------------------------------------


def with_numpy(timesteps: Tensor, i: int, value: int) -> None:
    timesteps.numpy()[i] = value


def with_data(timesteps: Tensor, i: int, value: int) -> None:
    timesteps.data[i] = value


def with_dlpack(timesteps: Tensor, i: int, value: int) -> None:
    torch.from_dlpack(timesteps)[i] = value


def with_an_index(timesteps: Tensor, i: int, value: int) -> None:
    timesteps[i] = value


TIMESTEP_WRITES = [with_numpy, with_data, with_dlpack, with_an_index]


@pytest.mark.parametrize("inference", [False, True], ids=["", "inference_mode"])
@pytest.mark.parametrize("write", TIMESTEP_WRITES)
@pytest.mark.parametrize("used_before", [False, True])
def test_a_timestep_written_to_is_used_as_it_is_now(write, used_before: bool, inference: bool) -> None:
    """Or refused, never silently taken for the one that was there."""
    x, m = tensors()
    with torch.inference_mode(inference):
        scheduler = planned()
        expected = scheduler.step(m, 400, x).prev_sample
        if used_before:
            scheduler.step(m, scheduler.timesteps[0], x)
        write(scheduler.timesteps, 0, 400)
        try:
            found = scheduler.step(m, scheduler.timesteps[0], x).prev_sample
        except DDIMError:
            return
        assert torch.equal(found, expected)
        assert scheduler.step_index(scheduler.timesteps[0]) == 5  # 900, 800, ... 400


@pytest.mark.parametrize("write", TIMESTEP_WRITES)
def test_a_timestep_written_to_that_is_not_in_the_plan_is_refused(write) -> None:
    x, m = tensors()
    scheduler = planned()
    write(scheduler.timesteps, 0, 123)
    with pytest.raises(DDIMError, match="123"):
        scheduler.step(m, scheduler.timesteps[0], x)


@pytest.mark.parametrize("write", TIMESTEP_WRITES)
def test_with_parity_a_timestep_written_to_is_stepped_from_as_in_diffusers(write) -> None:
    x, m = tensors()
    theirs, ours = diffusers.DDIMScheduler(), planned(parity="diffusers")
    theirs.set_timesteps(10)
    write(ours.timesteps, 3, 123)
    expected = theirs.step(m, 123, x).prev_sample
    assert torch.allclose(ours.step(m, ours.timesteps[3], x).prev_sample, expected, rtol=1e-6, atol=1e-6)


# -- NaN -------------------------------------------------------------------------------------------------------------
# The rule. Clipping works on one number at a time: NaN stays where it is. Dynamic thresholding scales an image by a
# quantile of its own numbers, and there is no quantile of numbers one of which is unknown: an image with NaN becomes
# NaN as a whole. torch.quantile has this rule, and so has diffusers. A part of the image that looks sound would hide
# that the model failed. Other images of the batch are not touched. With ``sample_max_value=1`` thresholding is plain
# clipping, and has its rule.


def as_it_is(x: Tensor) -> Tensor:
    return x


def not_contiguous(x: Tensor) -> Tensor:
    return torch.stack([x, x], dim=-1)[..., 0]


def channels_last(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last)


def tracked(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


LAYOUTS = [as_it_is, not_contiguous, channels_last, tracked]
LARGE = (2, 1, 260, 260)  # above every size at which work was ever split
CASES = [("epsilon", SHAPE), ("sample", SHAPE), ("v_prediction", SHAPE), ("epsilon", LARGE)]


def stepped(settings: dict[str, Any], x: Tensor, m: Tensor, in_vmap: bool) -> tuple[Tensor, Tensor]:
    """The next sample and x_0, image by image under ``vmap`` or in one batch."""
    scheduler = planned(**settings)

    def step(x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        return scheduler.step(m, 500, x, return_dict=False)

    if not in_vmap:
        return step(x, m)
    following, x0 = torch.func.vmap(step)(x[:, None], m[:, None])
    return following[:, 0], x0[:, 0]


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch has no batching rule for clamp in place
@pytest.mark.parametrize("in_vmap", [False, True], ids=["", "vmap"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("prediction_type", "shape"), CASES, ids=str)
def test_one_nan_makes_its_image_nan_under_thresholding_on_every_path(
    prediction_type: str, dtype: torch.dtype, layout: Callable[[Tensor], Tensor], shape: tuple[int, ...], in_vmap: bool
) -> None:
    settings = {"thresholding": True, "sample_max_value": 1.5, "prediction_type": prediction_type}
    x, m = tensors(dtype, shape)
    clean = stepped(settings, x, m, in_vmap=False)
    m[0, 0, 2, 3] = torch.nan
    theirs = diffusers.DDIMScheduler(**settings)
    theirs.set_timesteps(10)
    expected = theirs.step(m, 500, x, return_dict=False)
    for found, same, without in zip(stepped(settings, layout(x), layout(m), in_vmap), expected, clean, strict=True):
        assert bool(same[0].isnan().all()) and bool(same[1].isfinite().all())  # what diffusers does
        assert bool(found[0].isnan().all())
        assert torch.allclose(found[1], without[1], rtol=torch.finfo(dtype).eps, atol=1e-6)


# Holds before the rewrite as well.
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("in_vmap", [False, True], ids=["", "vmap"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "settings",
    [{"clip_sample": True}, {"clip_sample": False}, {"thresholding": True, "sample_max_value": 1.0}],
    ids=str,
)
def test_nan_stays_where_it_is_without_dynamic_thresholding(settings, dtype, layout, in_vmap: bool) -> None:
    x, m = tensors(dtype)
    clean = stepped(settings, x, m, in_vmap=False)
    m[0, 1, 2, 3] = torch.nan
    there = m.isnan()
    for found, without in zip(stepped(settings, layout(x), layout(m), in_vmap), clean, strict=True):
        assert torch.equal(found.isnan(), there)
        assert torch.allclose(found[~there], without[~there], rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_nan_in_a_sampling_run_follows_the_same_rule() -> None:
    scheduler = planned(thresholding=True, sample_max_value=1.5)
    x, _ = tensors()

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        output = 0.3 * torch.tanh(x_t)
        output[1, 0, 0, 0] = torch.nan
        return output

    found = sample(model, x, scheduler)
    assert bool(found[1].isnan().all()) and bool(found[0].isfinite().all())


# -- the draws of parity ------------------------------------------------------------------------------------------
# diffusers draws whenever eta is above 0, also where sigma is 0 and the noise is multiplied by it: at the last step to
# clean data. A generator that goes on to the next picture must be where diffusers' is.


def generators(kind: str) -> torch.Generator | list[torch.Generator]:
    if kind == "one":
        return torch.Generator().manual_seed(7)
    return [torch.Generator().manual_seed(7 + i) for i in range(SHAPE[0])]


def states(generator: torch.Generator | list[torch.Generator]) -> list[bytes]:
    listed = [generator] if isinstance(generator, torch.Generator) else generator
    return [bytes(each.get_state().numpy()) for each in listed]


@pytest.mark.parametrize("kind", ["one", "list"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("to_one", [True, False], ids=["set_alpha_to_one", ""])
def test_with_parity_the_generators_are_where_diffusers_leaves_them(kind, eta, dtype, spacing, to_one) -> None:
    settings = {"timestep_spacing": spacing, "set_alpha_to_one": to_one}
    theirs, ours = diffusers.DDIMScheduler(**settings), planned(parity="diffusers", **settings)
    theirs.set_timesteps(10)
    drawn, expected = generators(kind), generators(kind)
    begin = states(drawn)
    x, m = tensors(dtype)
    for t in theirs.timesteps:
        found = ours.step(m, t, x, eta=eta, generator=drawn)
        same = theirs.step(m, t, x, eta=eta, generator=expected)
        assert states(drawn) == states(expected), f"at timestep {int(t)}"
        scale = float(same.prev_sample.double().abs().max())
        assert float((found.prev_sample - same.prev_sample).abs().max()) <= scale * 4 * max(
            torch.finfo(dtype).eps, 1.2e-7
        )
    assert (states(drawn) == begin) == (eta == 0.0)


@pytest.mark.parametrize("kind", ["one", "list"])
@pytest.mark.parametrize("run", ["sample", "sample_parallel"])
def test_with_parity_a_whole_run_leaves_the_generators_where_diffusers_does(kind: str, run: str) -> None:
    """Two pictures from one generator: the second is right only if the first drew as often as in diffusers."""
    theirs, ours = diffusers.DDIMScheduler(clip_sample=False), planned(clip_sample=False, parity="diffusers")
    theirs.set_timesteps(10)
    drawn, expected = generators(kind), generators(kind)
    start, _ = tensors()

    def model(x: Tensor, t: Tensor) -> Tensor:
        return 0.3 * torch.tanh(x)

    for _ in range(2):
        if run == "sample":
            found = sample(model, start, ours, eta=1.0, generator=drawn)
        else:
            found = sample_parallel(model, start, ours, window=10, tolerance=0.0, eta=1.0, generator=drawn).sample
        same = start
        for t in theirs.timesteps:
            same = theirs.step(model(same, t), t, same, eta=1.0, generator=expected).prev_sample
        assert states(drawn) == states(expected)
        assert torch.allclose(found, same, rtol=1e-4, atol=1e-5)


# Holds before the rewrite as well: given noise is used, and nothing is drawn.
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_with_parity_given_noise_leaves_the_global_random_state_alone(eta: float) -> None:
    scheduler, before = planned(parity="diffusers"), torch.get_rng_state()
    x, m = tensors()
    for t in scheduler.timesteps:
        scheduler.step(m, t, x, eta=eta, variance_noise=m)
    assert torch.equal(torch.get_rng_state(), before)


# -- what the sources call -------------------------------------------------------------------------------------------


def test_no_private_part_of_torch_is_called(repo_root: Path) -> None:
    """They change without notice, and the core supports a range of torch releases.

    Two names with an underscore are the documented way: to register a pytree, and to write a tensor subclass.
    """
    documented = r"pytree\b|C\.DisableTorchFunctionSubclass\b"
    private = re.compile(rf"\btorch(\.\w+)*\._(?!_version__|{documented})|\bfrom torch(\.\w+)*\._")
    found = [
        f"{path.relative_to(repo_root)}:{number}: {line.strip()}"
        for path in sorted((repo_root / "ddim").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if private.search(line)
    ]
    assert found == []


# -- the closed form, so that the comparisons above do not rest on the scheduler alone -------------------------------


# Holds before the rewrite as well.
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_x0_is_equation_nine(prediction_type: str) -> None:
    x, m = tensors(torch.float64)
    a = float(torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64), 0)[500])
    exact = {
        "epsilon": (x - math.sqrt(1 - a) * m) / math.sqrt(a),
        "sample": m,
        "v_prediction": math.sqrt(a) * x - math.sqrt(1 - a) * m,
    }[prediction_type]
    output = planned(clip_sample=False, prediction_type=prediction_type).step(m, 500, x)
    assert torch.allclose(output.pred_original_sample, exact, rtol=1e-12, atol=1e-12)
