"""The loop: its results against the readable step, its buffers, its allocations."""

from __future__ import annotations

import pytest
import torch
from ddim.stepping import apply_step
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

import ddim

SHAPE = (2, 3, 6, 5)


def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x.float() * 0.7 + t / 1000).to(x.dtype)


def start(dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def readable_loop(model, x, scheduler, eta, seed, rederive=False):
    """The loop as one would write it down, in float64 for float64 and float32 otherwise."""
    state, visited = x, []
    for i, t in enumerate(scheduler.timesteps):
        step = scheduler.coefficients(i, eta)
        noise = ddim.keyed_noise(x.shape, seed, i) if step.sigma else None
        options = dict(process_x0=scheduler.process_x0, use_clipped_model_output=rederive, noise=noise)
        following, x0 = apply_step(step, state, model(state, t), **options)
        visited.append((state, x0))
        state = following
    return state, visited


SCHEDULERS = st.builds(
    lambda prediction, clip, thresholding, spacing, zero_snr: ddim.DDIMScheduler(
        prediction_type=prediction,
        clip_sample=clip,
        thresholding=thresholding,
        sample_max_value=2.0 if thresholding else 1.0,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=zero_snr and prediction != "epsilon",
    ),
    st.sampled_from(ddim.PREDICTION_TYPES),
    st.booleans(),
    st.booleans(),
    st.sampled_from(ddim.TIMESTEP_SPACINGS),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    scheduler=SCHEDULERS,
    steps=st.integers(1, 12),
    eta=st.sampled_from([0.0, 0.5, 1.0, "sigma_hat"]),
    rederive=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_loop_equals_the_readable_one_with_and_without_a_callback(scheduler, steps, eta, rederive, seed):
    scheduler.set_timesteps(steps)
    x = start(torch.float64, seed)
    expected, visited = readable_loop(model, x, scheduler, eta, seed, rederive)
    options = dict(eta=eta, seed=seed, use_clipped_model_output=rederive)
    before = x.clone()
    result = ddim.sample(model, x, scheduler, **options)
    kept = []
    with_callback = ddim.sample(model, x, scheduler, callback=lambda i, t, x_t, x0: kept.append((x_t, x0)), **options)
    torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)
    assert torch.equal(result, with_callback)
    assert torch.equal(x, before)
    for ours, theirs in zip(kept, visited, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_samples_that_a_model_keeps_are_left_alone(dtype):
    scheduler = ddim.make_schedule(8).scheduler()
    kept, copies = [], []

    def keeping(x, t):
        kept.append(x)
        copies.append(x.clone())
        return model(x, t)

    ddim.sample(keeping, start(dtype), scheduler, eta=1.0, seed=1)
    assert len({x.data_ptr() for x in kept}) == len(kept)
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_may_return_their_input_their_last_input_or_one_tensor_again_and_again(dtype):
    class Last:
        def __init__(self):
            self.view = None

        def __call__(self, x, t):
            last, self.view = self.view, x[:]  # a view, that no reference count shows
            return x if last is None else last.clone() if dtype == torch.bfloat16 else last

    constant = start(dtype, 5)
    for awkward in (lambda: lambda x, t: x, Last, lambda: lambda x, t: constant):
        scheduler = ddim.make_schedule(6).scheduler()
        ours = ddim.sample(awkward(), start(dtype), scheduler)
        state, run = start(dtype).float(), awkward()
        for i, t in enumerate(scheduler.timesteps):
            seen = state.to(dtype)
            output = run(seen, t).clone()
            step = scheduler.coefficients(i)
            state, _ = apply_step(step, seen if step.follows_seen else state, output, process_x0=scheduler.process_x0)
        torch.testing.assert_close(ours, state.to(dtype))
    assert torch.equal(constant, start(dtype, 5))


def test_gradients_flow_through_the_whole_loop():
    scheduler = ddim.make_schedule(5, ddim.SchedulerConfig(clip_sample=False)).scheduler()
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def run(weight):
        return ddim.sample(lambda x, t: torch.tanh(weight * x), start(torch.float64), scheduler, eta=1.0, seed=2).sum()

    torch.autograd.gradcheck(run, (weight,))


def allocations(run) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    # torch wraps a number that a tensor is multiplied by in a tensor of 8 bytes; it is not ours to avoid
    return sum(event.name == "[memory]" and event.cpu_memory_usage > 8 for event in record.events())


@pytest.mark.parametrize("noise", ["none", "keyed", "generator", "generators", "given"])
@pytest.mark.parametrize(
    ("dtype", "output_dtype"),
    [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16)],
)
@pytest.mark.parametrize("clip", [False, True])
def test_a_steady_run_allocates_nothing_per_step(noise, dtype, output_dtype, clip):
    x, output = start(dtype), start(output_dtype, 1)
    config = ddim.SchedulerConfig(clip_sample=clip)

    def run(steps):
        scheduler = ddim.make_schedule(steps, config).scheduler()
        sources = {
            "none": {},
            "keyed": {"seed": 1},
            "generator": {"generator": torch.Generator().manual_seed(0)},
            "generators": {"generator": [torch.Generator().manual_seed(i) for i in range(SHAPE[0])]},
            "given": {"variance_noise": torch.ones((steps, *SHAPE), dtype=dtype)},
        }
        options = dict(eta=0.0 if noise == "none" else 1.0, **sources[noise])
        return lambda: ddim.sample(lambda x, t: output, x, scheduler, **options)

    few, many = run(10), run(30)
    few(), many()
    assert allocations(few) == allocations(many)


def test_a_scheduler_on_a_device_never_reads_the_timesteps():
    class Forbidden(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert "_local_scalar_dense" not in func.name() and "item" not in func.name()
            return func(*args, **(kwargs or {}))

    x = start()
    for thresholding in (False, True):
        scheduler = ddim.DDIMScheduler(thresholding=thresholding, sample_max_value=3.0 if thresholding else 1.0)
        scheduler.set_timesteps(7)
        with Forbidden():
            ddim.sample(lambda x, t: x * 0.5, x, scheduler, eta=1.0, seed=0)


@pytest.mark.parametrize("wrong", [None, torch.ones(1), torch.ones(SHAPE, dtype=torch.int64), (torch.ones(SHAPE),)])
def test_what_is_no_model_output_is_refused(wrong):
    scheduler = ddim.make_schedule(3).scheduler()
    with pytest.raises(ddim.DDIMError, match="must return a floating-point tensor of shape"):
        ddim.sample(lambda x, t: wrong, start(), scheduler)
