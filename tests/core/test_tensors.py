"""Any dtype, rank and layout; inputs untouched; autograd, vmap, torch.compile, copies; no global random state."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from ddim import DDIMError, DDIMInverseScheduler, DDIMScheduler, DDIMSchedulerOutput

SHAPES = [(3,), (2, 5), (2, 4, 8), (2, 3, 8, 8), (1, 4, 3, 8, 8), (2, 2, 2, 2, 2, 2), (0, 3, 4)]
SETTINGS = [
    {"clip_sample": False},
    {"clip_sample": True, "prediction_type": "v_prediction"},
    {"thresholding": True, "sample_max_value": 2.0, "prediction_type": "sample"},
]


def planned(steps: int = 10, **settings) -> DDIMScheduler:
    scheduler = DDIMScheduler(**settings)
    scheduler.set_timesteps(steps)
    return scheduler


def pair(shape, dtype=torch.float32, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2))


# An image without elements has no quantile.
SHAPES_AND_SETTINGS = [
    (shape, settings)
    for shape in SHAPES
    for settings in SETTINGS
    if not settings.get("thresholding") or (len(shape) > 1 and 0 not in shape)
]


@pytest.mark.parametrize(("shape", "settings"), SHAPES_AND_SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_rank_and_dtype_gives_the_float64_result_in_its_own_dtype(shape, settings, dtype) -> None:
    scheduler = planned(**settings)
    x, m = pair(shape, dtype)
    output = scheduler.step(m, 500, x, eta=0.5, variance_noise=m)
    exact = scheduler.step(m.double(), 500, x.double(), eta=0.5, variance_noise=m.double())
    for name in ("prev_sample", "pred_original_sample"):
        found, expected = output[name], exact[name]
        assert found.dtype == dtype and found.shape == x.shape
        torch.testing.assert_close(found.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
def test_inputs_are_never_modified_and_results_never_alias_them(settings) -> None:
    scheduler = planned(**settings)
    x, m = pair((2, 3, 4, 4))
    z = torch.ones_like(x)
    before = [each.clone() for each in (x, m, z)]
    for eta in (0.0, 1.0):
        output = scheduler.step(m, 500, x, eta=eta, variance_noise=z)
        for given in (x, m, z):
            assert output.prev_sample.data_ptr() != given.data_ptr()
        _ = output.pred_original_sample
    assert all(torch.equal(now, then) for now, then in zip((x, m, z), before, strict=True))


def test_layouts_give_the_same_numbers() -> None:
    scheduler = planned(clip_sample=True)
    x, m = pair((2, 3, 6, 8))
    expected = scheduler.step(m, 500, x).prev_sample
    channels_last = [each.to(memory_format=torch.channels_last) for each in (x, m)]
    strided = [torch.stack([each, each], dim=-1)[..., 0] for each in (x, m)]
    turned = [each.transpose(2, 3).contiguous().transpose(2, 3) for each in (x, m)]
    for a, b in (channels_last, strided, turned, (x, channels_last[1])):
        torch.testing.assert_close(scheduler.step(b, 500, a).prev_sample, expected, rtol=0, atol=1e-7)
    assert scheduler.step(channels_last[1], 500, channels_last[0]).prev_sample.is_contiguous(
        memory_format=torch.channels_last
    )


def test_timesteps_may_be_numbers_or_elements_in_any_integer_dtype() -> None:
    scheduler = planned(timestep_spacing="trailing")
    x, m = pair((1, 4))
    for i, t in enumerate(scheduler.timesteps):
        expected = scheduler.step(m, int(t), x).prev_sample
        same = (t, t.clone(), t[None], t.int(), t.numpy()[()], float(t), scheduler.timesteps[i : i + 1])
        for each in same:
            assert torch.equal(scheduler.step(m, each, x).prev_sample, expected)
        assert scheduler.step_index(t) == i


def test_assigning_a_part_of_timesteps_keeps_every_step_right() -> None:
    """Code of diffusers' users does so for image-to-image."""
    scheduler = planned(10, timestep_spacing="trailing")
    x, m = pair((1, 4))
    expected = [scheduler.step(m, int(t), x).prev_sample for t in scheduler.timesteps[4:]]
    scheduler.timesteps = scheduler.timesteps[4:]
    found = [scheduler.step(m, t, x).prev_sample for t in scheduler.timesteps]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_reach_sample_and_model_output(settings) -> None:
    scheduler = planned(**settings)
    x, m = (each.double().requires_grad_() for each in pair((2, 3, 4)))
    z = torch.ones(2, 3, 4, dtype=torch.float64)

    def step(x, m):
        output = scheduler.step(m, 500, x, eta=0.3, variance_noise=z)
        return output.prev_sample, output.pred_original_sample

    # Sample predictions take x_0 from the output alone; clipping has kinks, which random points miss.
    assert torch.autograd.gradcheck(step, (x, m))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch has no batching rule for clamp in place
@pytest.mark.parametrize("settings", SETTINGS)
def test_vmap_over_images_equals_the_batch(settings) -> None:
    scheduler = planned(**settings)
    x, m = pair((3, 1, 2, 4))

    def one(m, x):
        return scheduler.step(m, 500, x)

    output = torch.func.vmap(one)(m, x)
    expected = [one(a, b) for a, b in zip(m, x, strict=True)]
    assert isinstance(output, DDIMSchedulerOutput)
    torch.testing.assert_close(output.prev_sample, torch.stack([each.prev_sample for each in expected]))
    torch.testing.assert_close(output.pred_original_sample, torch.stack([each[1] for each in expected]))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", ["element", "image"])
def test_compiled_whole_it_gives_the_same(settings, kind: str) -> None:
    scheduler = planned(**settings)
    x, m = pair((2, 3, 4))
    z = torch.ones_like(x)

    def step(m, t, x):
        return scheduler.step(m, t, x, eta=0.5, use_clipped_model_output=True, variance_noise=z, return_dict=False)

    compiled = torch.compile(step, fullgraph=True, backend="eager", dynamic=False)
    torch._dynamo.reset()
    for value in (900, 500, 0):
        t = {"element": torch.tensor(value), "image": torch.tensor([value, 300])}[kind]
        torch.testing.assert_close(compiled(m, t, x), step(m, t, x), rtol=1e-5, atol=1e-6)


def test_eta_may_be_an_argument_of_the_compiled_function() -> None:
    scheduler = planned(10)
    x, m = pair((1, 4))

    def step(m, x, eta):
        return scheduler.step(m, 500, x, eta=eta, variance_noise=m).prev_sample

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    for eta in (0.0, 0.5, 0.7, 0.9, 1.0):
        torch.testing.assert_close(compiled(m, x, eta), step(m, x, eta))


def test_a_compiled_loop_follows_a_new_plan() -> None:
    scheduler = planned(10)
    x, m = pair((1, 4))
    compiled = torch.compile(lambda m, t, x: scheduler.step(m, t, x).prev_sample, fullgraph=True, backend="eager")
    torch._dynamo.reset()
    for steps in (10, 25, 50):
        scheduler.set_timesteps(steps)
        for t in (*scheduler.timesteps[:2], int(scheduler.timesteps[2])):
            torch.testing.assert_close(compiled(m, t, x), scheduler.step(m, t, x).prev_sample)


def test_compiled_steps_with_drawn_noise_are_refused_with_advice() -> None:
    scheduler = planned(10)
    x, m = pair((1, 4))
    torch._dynamo.reset()
    compiled = torch.compile(lambda: scheduler.step(m, 500, x, eta=1.0).prev_sample, backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="variance_noise"):
        compiled()


def test_the_inverse_step_compiles_too() -> None:
    scheduler = DDIMInverseScheduler(clip_sample=False)
    scheduler.set_timesteps(10)
    x, m = pair((2, 4))
    torch._dynamo.reset()
    compiled = torch.compile(lambda m, t, x: scheduler.step(m, t, x).prev_sample, backend="eager", fullgraph=True)
    for t in (*scheduler.timesteps, 500):
        torch.testing.assert_close(compiled(m, t, x), scheduler.step(m, t, x).prev_sample, rtol=1e-5, atol=1e-6)


def test_copies_and_pickles_step_alike_and_apart() -> None:
    scheduler = planned(10, thresholding=True, sample_max_value=2.0, timestep_spacing="trailing")
    x, m = pair((2, 3, 4))
    expected = scheduler.step(m, 499, x, eta=1.0).prev_sample
    for other in (copy.deepcopy(scheduler), copy.copy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert torch.equal(other.timesteps, scheduler.timesteps) and other.config == scheduler.config
        assert torch.equal(other.step(m, 499, x, eta=1.0).prev_sample, expected)
        other.set_timesteps(3)
        assert len(scheduler.timesteps) == 10
    fresh = pickle.loads(pickle.dumps(DDIMScheduler()))
    with pytest.raises(DDIMError, match="call set_timesteps"):
        fresh.step(m, 0, x)


def test_no_global_random_state_is_touched() -> None:
    scheduler = planned(10)
    x, m = pair((2, 4))
    before = torch.get_rng_state()
    scheduler.step(m, 500, x, eta=1.0)
    scheduler.step(m, 500, x, eta=1.0, generator=torch.Generator().manual_seed(1))
    scheduler.step(m, torch.tensor([500, 300]), x, eta=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_x0_is_that_of_the_step_whatever_happens_to_the_sample_afterwards() -> None:
    scheduler = planned(10, clip_sample=False)
    x, m = pair((2, 4))
    expected = scheduler.step(m, 500, x, return_dict=False)[1]
    output = scheduler.step(m, 500, x)
    x.copy_(output.prev_sample)
    m.data.zero_()
    assert torch.equal(output.pred_original_sample, expected)


def test_an_output_reads_as_attributes_names_numbers_and_tuple() -> None:
    scheduler = planned(10)
    x, m = pair((2, 4))
    output = scheduler.step(m, 500, x)
    prev, x0 = scheduler.step(m, 500, x, return_dict=False)
    assert torch.equal(output.prev_sample, prev) and torch.equal(output["pred_original_sample"], x0)
    assert torch.equal(output[0], prev) and torch.equal(output[1], x0) and len(output[:2]) == 2
    assert list(output) == list(output.keys()) == ["prev_sample", "pred_original_sample"] and len(output) == 2
    assert [name for name, _ in output.items()] == list(output.keys())
    assert all(torch.equal(a, b) for a, b in zip(output.to_tuple(), output.values(), strict=True))
    with pytest.raises(KeyError):
        output["nothing"]
