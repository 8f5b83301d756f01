"""The loop: its results against the paper's equations, and what it asks of memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

import ddim

SHAPE = (2, 3, 6, 5)


def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x.float() * 0.7 + t / 1000).to(x.dtype)


def start(dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def loop_of_the_paper(oracle, model, x, scheduler, eta, seed, rederive=False):
    """The loop as one would write it down, in float64, with the equations of the oracle."""
    levels, settings_ = scheduler.noise_schedule, scheduler.settings
    state, visited = x.double(), []
    for i, (t, t_next) in enumerate(scheduler.plan.pairs):
        before, after = levels.alpha_bar_at(t), levels.alpha_bar_at(t_next)
        c = oracle.coefficients(before, after, settings_.prediction_type, eta)
        z = ddim.keyed_noise(x.shape, seed, i) if c.sigma else None
        cap = settings_.sample_max_value
        limit = 1.0 if settings_.thresholding and cap == 1.0 else settings_.clip_sample_range
        clips = settings_.clip_sample or settings_.thresholding
        dynamic = settings_.thresholding and cap > 1.0
        processing = {"threshold": (settings_.dynamic_thresholding_ratio, cap)} if dynamic else {}
        processing |= {"clip": limit} if clips and not dynamic else {}
        rederives = rederive and clips  # epsilon of an unprocessed x_0 is the model's own
        x_next, x0 = oracle.step(c, state, model(state, torch.tensor(t)), z, rederive=rederives, **processing)
        visited.append((state, x0))
        state = x_next
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
def test_the_loop_equals_the_papers_with_and_without_a_callback(oracle, scheduler, steps, eta, rederive, seed):
    scheduler.set_timesteps(steps)
    x = start(torch.float64, seed)
    expected, visited = loop_of_the_paper(oracle, model, x, scheduler, eta, seed, rederive)
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
        """Returns a view of what it was given one call before."""

        def __init__(self):
            self.view = None

        def __call__(self, x, t):
            last, self.view = self.view, x[:]
            return x if last is None else last

    class Copying(Last):
        """The same from copies."""

        def __call__(self, x, t):
            return super().__call__(x.clone(), t).clone()

    constant = start(dtype, 5)
    pairs = [
        (lambda x, t: x, lambda x, t: x.clone()),
        (Last(), Copying()),
        (lambda x, t: constant, lambda x, t: constant.clone()),
    ]
    for awkward, plain in pairs:
        runs = [ddim.sample(each, start(dtype), ddim.make_schedule(6).scheduler()) for each in (awkward, plain)]
        assert torch.equal(*runs)
    assert torch.equal(constant, start(dtype, 5))


def test_gradients_flow_through_the_whole_loop():
    scheduler = ddim.make_schedule(5, ddim.SchedulerConfig(clip_sample=False)).scheduler()
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def run(weight):
        return ddim.sample(lambda x, t: torch.tanh(weight * x), start(torch.float64), scheduler, eta=1.0, seed=2).sum()

    torch.autograd.gradcheck(run, (weight,))


def most_memory(run) -> int:
    """The largest number of bytes that tensors made in a run held at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    changes = [
        (event.time_range.start, event.cpu_memory_usage) for event in record.events() if event.name == "[memory]"
    ]
    held, most = 0, 0
    for _, change in sorted(changes):
        held += change
        most = max(most, held)
    return most


@pytest.mark.parametrize("noise", ["none", "keyed", "generator"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_does_not_grow_with_the_number_of_steps(noise, dtype):
    x, output = torch.zeros((2, 3, 64, 64), dtype=dtype), torch.ones((2, 3, 64, 64), dtype=dtype)

    def run(steps):
        scheduler = ddim.make_schedule(steps).scheduler()
        sources = {"none": {}, "keyed": {"seed": 1}, "generator": {"generator": torch.Generator().manual_seed(0)}}
        options = dict(eta=0.0 if noise == "none" else 1.0, **sources[noise])
        return lambda: ddim.sample(lambda x, t: output, x, scheduler, **options)

    few, many = run(10), run(40)
    few(), many()
    assert 0 < most_memory(many) <= most_memory(few) + 40 * 64  # small numbers of each step
    assert most_memory(many) < 8 * x.float().nbytes


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
