"""Processing of x_0: the quantile by selection against torch.quantile, dynamic thresholding, and what NaN does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ddim
from ddim.precision import quantile
from ddim.step.x0 import Clip, Threshold, x0_processor

RATIOS = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 0.995, 1.0]))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.nan_to_num(nan=-7.0), b.nan_to_num(nan=-7.0)) and torch.equal(a.isnan(), b.isnan())


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 3),
    count=st.one_of(st.integers(1, 50), st.integers(1, 20_000)),
    ratio=RATIOS,
    dtype=st.sampled_from([torch.float32, torch.float64]),
    flaw=st.sampled_from(["none", "ties", "nan", "inf", "equal"]),
    seed=st.integers(0, 1000),
)
def test_quantile_equals_torch_quantile_bit_for_bit(rows, count, ratio, dtype, flaw, seed):
    values = drawn(rows, count, seed=seed, dtype=dtype).abs()
    if flaw == "ties":
        values = (values * 3).round() / 3
    elif flaw == "equal":
        values.fill_(0.7)
    elif flaw != "none":
        values[-1, seed % count] = float(flaw)
    expected = torch.quantile(values, ratio, dim=1)
    if flaw == "inf":  # between two infinities, see the next test
        lower = torch.quantile(values, ratio, dim=1, interpolation="lower")
        expected = torch.where(lower == torch.inf, torch.inf, expected)
    before = values.clone()
    assert same(quantile(values, ratio), expected)
    assert same(values, before)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75, 0.9, 1.0])
def test_between_two_infinities_the_quantile_is_infinite_where_torch_says_nan(ratio):
    values = torch.tensor([[1.0, 2.0, torch.inf, torch.inf, torch.inf]])
    found, by_torch = quantile(values, ratio), torch.quantile(values, ratio, dim=1)
    assert same(found, torch.where(by_torch.isnan(), torch.inf, by_torch))
    assert not found.isnan().any()


@pytest.mark.parametrize("ratio", [0.5, 0.99, 0.995, 0.9999])
@pytest.mark.parametrize("count", [1_000_003, 3 * 1024 * 1024])
def test_the_rank_of_a_long_float32_row_is_rounded_as_torch_rounds_it(ratio, count):
    values = drawn(1, count, seed=1).abs()
    assert same(quantile(values, ratio), torch.quantile(values, ratio, dim=1))


def test_rows_beyond_two_to_the_24_are_taken():
    count = (1 << 24) + 5
    values = torch.arange(count, dtype=torch.float64).flip(0)[None].float()
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(values, 0.25)
    assert float(quantile(values, 0.25)[0]) == 0.25 * (count - 1)


@pytest.mark.parametrize("shape", [(1, 7), (3, 4, 8, 8), (2, 3, 2, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("ratio", "cap"), [(0.995, 1.0), (0.995, 5.0), (0.5, 1.2), (0.0, 2.0), (1.0, 100.0)])
def test_thresholding_is_the_papers_listing(oracle, shape, dtype, ratio, cap):
    x0 = 3 * drawn(*shape, seed=2, dtype=dtype)
    before = x0.clone()
    assert torch.equal(Threshold(ratio, cap)(x0), oracle.thresholded(x0, ratio, cap))
    assert torch.equal(x0, before)


def test_layouts_gradients_and_vmap(oracle):
    x0, threshold = 3 * drawn(2, 4, 6, 6, seed=3), Threshold(0.9, 4.0)
    expected = threshold(x0)
    assert torch.equal(threshold(x0.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(threshold(x0.transpose(1, 3)).transpose(1, 3), expected)
    assert torch.equal(torch.vmap(lambda image: threshold(image[None])[0])(x0), expected)
    ours, theirs = x0.clone().requires_grad_(), x0.clone().requires_grad_()
    (threshold(ours) ** 3).sum().backward()
    (oracle.thresholded(theirs, 0.9, 4.0) ** 3).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_thresholded_in_float32(oracle, dtype):
    x0 = 3 * drawn(2, 50, seed=4).to(dtype)
    torch.testing.assert_close(Threshold(0.9, 4.0)(x0).float(), oracle.thresholded(x0.float(), 0.9, 4.0))


def test_a_configuration_names_its_processing():
    options = {"ratio": 0.9, "clip_range": 0.8}
    assert x0_processor(thresholding=False, clip_sample=False, cap=2.0, **options) is None
    assert x0_processor(thresholding=False, clip_sample=True, cap=2.0, **options) == Clip(0.8)
    assert x0_processor(thresholding=True, clip_sample=True, cap=2.0, **options) == Threshold(0.9, 2.0)
    # s is at least 1, so a cap of 1 leaves clipping to [-1, 1]
    assert x0_processor(thresholding=True, clip_sample=False, cap=1.0, **options) == Clip(1.0)
    x0 = 3 * drawn(2, 50, seed=5)
    assert torch.equal(Clip(1.0)(x0), Threshold(0.9, 1.0)(x0))


@pytest.mark.parametrize("way", ["sample", "step", "step of each image", "vmap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_an_image_with_nan_becomes_nan_under_thresholding_and_the_others_stay_as_they_are(way, dtype):
    scheduler = ddim.DDIMScheduler(thresholding=True, sample_max_value=2.0)
    scheduler.set_timesteps(1)
    x, m = drawn(3, 4, 5, seed=6).to(dtype), drawn(3, 4, 5, seed=7).to(dtype)
    broken = m.clone()
    broken[1, 2, 3] = torch.nan
    t = scheduler.timesteps[0]
    ways = {
        "sample": lambda m: ddim.sample(lambda x, t: m, x, scheduler),
        "step": lambda m: scheduler.step(m, t, x).prev_sample,
        "step of each image": lambda m: scheduler.step(m, t.expand(3), x).prev_sample,
        "vmap": lambda m: torch.vmap(lambda m, x: scheduler.step(m[None], t, x[None]).prev_sample[0])(m, x),
    }
    expected, found = ways[way](m), ways[way](broken)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
