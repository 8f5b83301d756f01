"""The quantile by selection against torch.quantile, and dynamic thresholding with it."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from ddim.coefficients import Linear
from ddim.selection import clamped_quantile, clamped_quantile_of_pieces, quantile
from ddim.tensor_ops import combine
from ddim.x0_processing import Threshold, limit_of_image, threshold
from hypothesis import given, settings
from hypothesis import strategies as st


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.nan_to_num(nan=-7.0), b.nan_to_num(nan=-7.0)) and torch.equal(a.isnan(), b.isnan())


@settings(max_examples=300, deadline=None)
@given(
    rows=st.integers(1, 3),
    count=st.one_of(st.integers(1, 50), st.integers(1, 20_000)),
    ratio=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 0.995, 1.0])),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    flaw=st.sampled_from(["none", "ties", "nan", "inf", "equal"]),
    seed=st.integers(0, 1000),
)
def test_quantile_equals_torch_quantile_bit_for_bit(rows, count, ratio, dtype, flaw, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((rows, count), generator=generator, dtype=dtype).abs()
    place = int(torch.randint(count, (), generator=generator))
    if flaw == "ties":
        values = (values * 3).round() / 3
    elif flaw == "equal":
        values.fill_(0.7)
    elif flaw != "none":
        values[-1, place] = float(flaw)
    assert same(quantile(values.clone(), ratio), torch.quantile(values, ratio, dim=1))
    tracked = values.clone().requires_grad_()  # goes the way of a device: selection by torch
    assert same(quantile(tracked, ratio).detach(), torch.quantile(values, ratio, dim=1))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 4),
    count=st.integers(1, 3000),
    ratio=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 0.995, 1.0])),
    cap=st.one_of(st.floats(1, 6), st.just(2.0)),
    flaw=st.sampled_from(["none", "nan", "inf", "ties", "equal"]),
    seed=st.integers(0, 1000),
    piece=st.sampled_from([1, 7, 64, 1000, 65536]),
)
def test_a_clamped_quantile_in_pieces_is_the_selected_one(rows, count, ratio, cap, flaw, seed, piece):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((rows, count), generator=generator).abs() * torch.arange(1, rows + 1)[:, None]
    if flaw == "ties":
        values = (values * 2).round() / 2  # many at exactly the cap of 2
    elif flaw == "equal":
        values.fill_(cap)
    elif flaw != "none":
        values[-1, -2:] = float(flaw)
    # NaN counts as less than all else; torch.quantile makes NaN of a place next to infinity
    expected = torch.quantile(values.nan_to_num(nan=-1e30, posinf=1e30), ratio, dim=1).clamp(1.0, cap)
    before = values.clone()
    with mock.patch("ddim.selection.PIECE", piece):
        found = clamped_quantile(values, ratio, 1.0, cap)
    torch.testing.assert_close(found, expected, rtol=2e-7, atol=0)  # one unit in the last place
    assert same(values, before)


def test_a_clamped_quantile_reads_no_more_than_it_needs():
    read = []

    def pieces():
        for i in range(100):
            read.append(i)
            yield np.full(10, 5.0, np.float32)

    assert clamped_quantile_of_pieces(pieces, 1000, 0.995, 1.0, 2.0, torch.float32) == 2.0
    assert read == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("count", [1, 5000, 200_001])
def test_the_limit_of_an_image_is_that_of_its_predicted_x0(dtype, scale, count):
    x, m = (scale * torch.randn(count, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    x, m, process, weights = x.to(dtype), m.to(dtype), Threshold(0.99, 3.0), Linear(1.2, -0.7)
    x0 = combine(x, m, weights)
    found = limit_of_image(process, weights, x, m)
    assert found == float(torch.quantile(x0.abs(), 0.99).clamp(1.0, 3.0))


@pytest.mark.parametrize("ratio", [0.5, 0.99, 0.995, 0.9999])
@pytest.mark.parametrize("count", [1_000_003, 3 * 1024 * 1024])
def test_the_rank_of_a_long_float32_row_is_rounded_as_torch_rounds_it(ratio, count):
    values = torch.randn((1, count), generator=torch.Generator().manual_seed(1)).abs()
    assert same(quantile(values.clone(), ratio), torch.quantile(values, ratio, dim=1))


def test_rows_beyond_two_to_the_24_are_taken():
    count = (1 << 24) + 5
    values = torch.arange(count, dtype=torch.float64).flip(0)[None]
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(values, 0.25)
    assert float(quantile(values, 0.25)[0]) == 0.25 * (count - 1)


def reference_threshold(x0: torch.Tensor, ratio: float, cap: float) -> torch.Tensor:
    """Imagen's own listing, by torch.quantile."""
    rows = x0.flatten(1)
    s = torch.quantile(rows.abs(), ratio, dim=1).clamp(1, cap)[:, None]
    return (rows.clamp(-s, s) / s).reshape(x0.shape)


@pytest.mark.parametrize("shape", [(1, 7), (3, 4, 8, 8), (2, 3, 2, 5, 5)])
@pytest.mark.parametrize(("ratio", "cap"), [(0.995, 1.0), (0.995, 5.0), (0.5, 1.2), (0.0, 2.0), (1.0, 100.0)])
def test_thresholding_equals_that_by_torch_quantile(shape, ratio, cap):
    x0 = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    before = x0.clone()
    assert torch.equal(threshold(x0, ratio, cap), reference_threshold(x0, ratio, cap))
    assert torch.equal(x0, before)


def test_thresholding_takes_other_layouts_and_gradients():
    x0 = 3 * torch.randn((2, 4, 6, 6), generator=torch.Generator().manual_seed(3))
    last = x0.to(memory_format=torch.channels_last)
    assert torch.equal(threshold(last, 0.9, 4.0), threshold(x0, 0.9, 4.0))
    ours, theirs = x0.clone().requires_grad_(), x0.clone().requires_grad_()
    (threshold(ours, 0.9, 4.0) ** 3).sum().backward()
    (reference_threshold(theirs, 0.9, 4.0) ** 3).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_thresholded_too(dtype):
    x0 = 3 * torch.randn((2, 50), generator=torch.Generator().manual_seed(4)).to(dtype)
    torch.testing.assert_close(threshold(x0, 0.9, 4.0).float(), reference_threshold(x0.float(), 0.9, 4.0))
