"""Slerp against the formula on every shape, and where the formula has no answer."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim import DDIMError, slerp, slerp_path

SHAPES = [(8,), (3, 8), (2, 4, 6, 6), (2, 3, 2, 4, 4)]


def noises(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def images(x: torch.Tensor) -> list[torch.Tensor]:
    return [x] if x.ndim == 1 else list(x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_image_follows_equation_67(shape: tuple[int, ...]) -> None:
    a, b = noises(shape)
    for t in (0.1, 0.5, 0.9):
        for x, y, result in zip(images(a), images(b), images(slerp(a, b, t)), strict=True):
            theta = math.acos(float((x * y).sum() / (x.norm() * y.norm())))
            expected = (math.sin((1 - t) * theta) * x + math.sin(t * theta) * y) / math.sin(theta)
            assert torch.allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_ends_are_exact(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, b = (x.to(dtype) for x in noises(shape))
    assert torch.equal(slerp(a, b, 0.0), a) and torch.equal(slerp(a, b, 1.0), b)
    assert slerp(a, b, 0.3).dtype == dtype


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), t=st.floats(0, 1), size=st.integers(2, 40))
def test_unit_noises_stay_on_the_sphere_and_the_angle_is_shared(seed: int, t: float, size: int) -> None:
    a, b = (x / x.norm(dim=1, keepdim=True) for x in noises((2, size), seed))
    result = slerp(a, b, t)
    assert torch.allclose(result.norm(dim=1), torch.ones(2, dtype=torch.float64), atol=1e-9)
    whole, part = (torch.acos((a * x).sum(1).clamp(-1, 1)) for x in (b, result))
    assert torch.allclose(part, t * whole, atol=1e-5)
    assert torch.allclose(slerp(b, a, 1 - t), result, atol=1e-9)


def test_interpolated_noise_keeps_its_size_where_a_linear_mix_loses_it() -> None:
    a, b = noises((1, 20000))
    assert float((0.5 * (a + b)).std()) < 0.75
    assert abs(float(slerp(a, b, 0.5).std()) - 1) < 0.02


@pytest.mark.parametrize("scale", [1.0, 1 + 1e-12, 2.0])
def test_parallel_noises_are_mixed_linearly(scale: float) -> None:
    a, _ = noises((2, 5))
    assert torch.allclose(slerp(a, a * scale, 0.25), a * (0.75 + 0.25 * scale), rtol=1e-9)


@pytest.mark.parametrize("size", [2, 3, 5, 64])
@pytest.mark.parametrize("nudge", [0.0, 1e-9, 1e-7, 1e-4])
def test_opposite_noises_never_pass_through_zero(size: int, nudge: float) -> None:
    a, other = noises((2, size), 3)
    a = a / a.norm(dim=1, keepdim=True)
    for t in (0.25, 0.5, 0.75):
        result = slerp(a, -a + nudge * other, t)
        assert torch.allclose(result.norm(dim=1), torch.ones(2, dtype=torch.float64), atol=1e-2)
    first_axis = torch.eye(size, dtype=torch.float64)[-1:]
    assert abs(float(slerp(first_axis, -first_axis, 0.5).norm()) - 1) < 1e-9


def test_zero_noise_is_mixed_linearly() -> None:
    a, _ = noises((2, 5))
    zero = torch.zeros_like(a)
    assert torch.allclose(slerp(a, zero, 0.25), 0.75 * a)
    assert torch.equal(slerp(zero, zero, 0.5), zero)


def test_each_image_may_have_its_own_share() -> None:
    a, b = noises((3, 4, 4))
    together = slerp(a, b, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(together[0], a[0]) and torch.equal(together[2], b[2])
    assert torch.allclose(together[1], slerp(a[1:2], b[1:2], 0.5)[0])


@pytest.mark.parametrize("frames", [1, 2, 5, 9, 17])
def test_a_path_visits_its_points(frames: int) -> None:
    points = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1))
    path = slerp_path(points, frames)
    assert path.shape == (frames, 2, 3) and torch.equal(path[0], points[0])
    if frames > 1:
        assert torch.equal(path[-1], points[-1])
    if frames >= 5:
        assert torch.equal(path[:: (frames - 1) // 4], points)


def test_a_closed_path_comes_back_without_repeating_itself() -> None:
    points = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    path = slerp_path(points, 12, closed=True)
    assert torch.equal(path[::4], points)
    assert torch.allclose(path[-1], slerp(points[2:], points[:1], 0.75)[0])


def test_one_point_is_repeated() -> None:
    point = torch.randn(1, 4)
    assert torch.equal(slerp_path(point, 3), point.repeat(3, 1))


def test_the_inputs_are_left_alone() -> None:
    a, b = noises((2, 4))
    kept = a.clone(), b.clone()
    slerp(a, b, 0.5)
    slerp_path(a, 1)[0] += 1
    assert torch.equal(a, kept[0]) and torch.equal(b, kept[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slerp(torch.zeros(2, 3), torch.zeros(3, 2), 0.5), "the same shape"),
        (lambda: slerp(torch.zeros(2, 3), torch.zeros(2, 3), 1.5), "between 0 and 1"),
        (lambda: slerp(torch.zeros(2, 3), torch.zeros(2, 3), math.nan), "between 0 and 1"),
        (lambda: slerp(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3)), "one per image"),
        (lambda: slerp(torch.zeros(2, 3).long(), torch.zeros(2, 3).long(), 0.5), "floating point"),
        (lambda: slerp_path(torch.zeros(0, 3), 2), "needs points"),
        (lambda: slerp_path(torch.zeros(2, 3), 0), "frames must be"),
    ],
)
def test_what_cannot_be_interpolated_is_refused(call: object, message: str) -> None:
    with pytest.raises(DDIMError, match=message):
        call()
