"""Keyed noise: its definition, its invariances, its statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ddim
from ddim.noise.operators import NUMPY, TORCH, Operators
from ddim.noise.philox import COS, LANES, LN4, LOG, SIN, _box_muller, key_of_seed, philox4x32

F = np.float32
WORDS = st.integers(0, 2**32 - 1)
SEEDS = st.integers(-(2**70), 2**70)


def words_by_definition(counter: list[int], key: tuple[int, int]) -> list[int]:
    """Philox4x32-10 in plain whole numbers, from the paper."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % (1 << 32), (k[1] + 0xBB67AE85) % (1 << 32)]
    return c


def polynomial(coefficients: tuple[float, ...], x: np.float32) -> np.float32:
    total = F(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = F(F(total * x) + F(coefficient))
    return total


def element_by_definition(seed: int, image: int, step: int, element: int) -> np.float32:
    """One number of the noise, one scalar operation at a time."""
    tile, place = divmod(element, 4 * LANES)
    k, lane = divmod(place, LANES)
    words = words_by_definition([tile * LANES + lane, image, step, 0], key_of_seed(seed))
    a, b = words[k // 2 * 2 : k // 2 * 2 + 2]
    v = F(a | 1)
    mantissa, exponent = math.frexp(float(v))  # in [1/2, 1): brought to [sqrt(1/2), sqrt(2))
    if np.float32(mantissa) < np.float32(math.sqrt(0.5)):
        mantissa, exponent = 2 * mantissa, exponent - 1
    f = F(mantissa) - F(1)
    radius = np.sqrt(F(F(polynomial(LOG, f) * f) + F(F(exponent - 32) * F(-LN4))))
    radius = -radius if a & 1 else radius
    u = F(F(b - (1 << 32) if b >> 31 else b) * F(2.0**-31))
    return F(radius * polynomial(COS, F(u * u))) if k % 2 == 0 else F(F(radius * u) * polynomial(SIN, F(u * u)))


def array_of(values: np.ndarray, ops: Operators):
    """An array of the kind that the operators take."""
    return torch.from_numpy(values) if ops is TORCH else values


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
@pytest.mark.parametrize("ops", [NUMPY, TORCH], ids=["numpy", "torch"])
def test_words_are_the_published_known_answers_of_philox(counter, key, expected, ops):
    words = [array_of(np.array([[word]], np.int64), ops) for word in counter]
    scratch = array_of(np.zeros((6, 1, 1), np.int64), ops)
    even, odd = philox4x32(words, key, scratch, ops)
    found = (int(word[0, 0]) & 0xFFFFFFFF for word in (even[0], odd[0], even[1], odd[1]))
    assert tuple(found) == expected


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, image=WORDS, step=WORDS, element=st.integers(0, 20000))
def test_every_element_has_the_bits_of_the_scalar_definition(seed, image, step, element):
    noise = ddim.keyed_noise((1, element + 1), seed, step, [image])
    assert noise[0, element].numpy().tobytes() == element_by_definition(seed, image, step, element).tobytes()


def test_the_transform_is_that_of_box_and_muller():
    rng = np.random.default_rng(0)
    edges = np.array([0, 1, 2, 3, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.int64)
    a = np.concatenate([rng.integers(0, 2**32, 100_000, dtype=np.int64), edges, edges])
    b = np.concatenate([rng.integers(0, 2**32, 100_000, dtype=np.int64), edges, edges[::-1]])
    found = []
    for ops in (NUMPY, TORCH):
        scratch = array_of(np.stack([a, a, b, b, a, a])[:, None], ops)
        result = array_of(np.empty((1, 1, 2, 2, len(a)), np.float32), ops)
        _box_muller(scratch, result, ops)
        found.append(np.asarray(result)[0, 0])
    (cosine, sine), second_pair = found[0]
    assert found[0].tobytes() == found[1].tobytes()
    assert second_pair.tobytes() == found[0][0].tobytes()
    # words of 32 bits are rounded to the 24 of float32 on their way
    v, u = (a | 1).astype(np.float32), b.astype(np.uint32).view(np.int32).astype(np.float32)
    radius = np.sqrt(-2 * np.log(v.astype(np.float64) / 2.0**32)) * np.where(a & 1, -1.0, 1.0)
    turn = np.pi * u.astype(np.float64) / 2.0**32
    np.testing.assert_allclose(cosine, radius * np.cos(turn), atol=1e-6)
    np.testing.assert_allclose(sine, radius * np.sin(turn), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    step=st.integers(0, 10_000),
    images=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    shape=st.sampled_from([(1,), (7,), (255,), (256,), (257,), (3, 20, 20), (1023,), (4, 32, 32), (2, 3, 5, 7, 11)]),
)
def test_an_image_has_the_same_bits_alone_and_in_any_batch(seed, step, images, shape):
    batch = ddim.keyed_noise((len(images), *shape), seed, step, images)
    for row, image in zip(batch, images, strict=True):
        assert torch.equal(row, ddim.keyed_noise((1, *shape), seed, step, [image])[0])


def test_large_images_do_not_depend_on_how_the_work_is_cut():
    whole = ddim.keyed_noise((3, 100_000), 5, 6)
    for image in range(3):
        for count in (1, 256, 1024, 32_769, 99_999):
            assert torch.equal(ddim.keyed_noise((1, count), 5, 6, [image])[0], whole[image, :count])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_the_float32_values_cast_last(dtype):
    shape = (2, 4, 9, 9)
    assert torch.equal(ddim.keyed_noise(shape, 1, 2, dtype=dtype), ddim.keyed_noise(shape, 1, 2).to(dtype))


def test_moments_and_distribution_are_those_of_a_standard_normal():
    x = ddim.keyed_noise((8, 1 << 18), 11, 3).double().flatten()
    n = len(x)
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs(float((x**power).mean()) - moment) < 4 * math.sqrt(spread / n), power
    ordered = torch.special.ndtr(x.sort().values)
    expected = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    assert float((ordered - expected).abs().max()) * math.sqrt(n) < 1.63  # Kolmogorov-Smirnov at 1 %
    for bound in (3.0, 4.0, 4.5):  # tails, both sides, as counts
        rate = math.erfc(bound / math.sqrt(2)) * n
        assert abs(int((x.abs() > bound).sum()) - rate) < 4 * math.sqrt(rate)


@pytest.mark.parametrize("lag", [1, 2, 255, 256, 257, 512, 768, 1024])
def test_elements_are_uncorrelated_also_in_their_squares(lag):
    x = ddim.keyed_noise((1, 1 << 20), 4, 9).double()[0]
    for values in (x, x**2 - 1):
        scaled = values / values.std()
        assert abs(float((scaled[:-lag] * scaled[lag:]).mean())) < 4.5 / math.sqrt(len(x) - lag)


def test_images_steps_and_seeds_are_independent_of_each_other():
    n = 1 << 16
    streams = [ddim.keyed_noise((4, n), seed, step) for seed in (-1, 0, 1, 2, 1 << 32) for step in (0, 1, 2)]
    x = torch.cat(streams).double()
    for values in (x, x**2 - 1):
        correlation = torch.corrcoef(values) - torch.eye(len(x), dtype=torch.float64)
        assert float(correlation.abs().max()) < 5 / math.sqrt(n)  # 1770 pairs


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 + 1])
def test_noise_is_unrelated_to_the_initial_noise_of_the_same_seed(seed):
    shape = (1, 1 << 16)
    initial = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    for step in range(4):
        both = torch.cat([initial, ddim.keyed_noise(shape, seed, step)]).double()
        assert abs(float(torch.corrcoef(both)[0, 1])) < 4.5 / math.sqrt(shape[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 3), 0, 0, [0]), "one image per row: 2 expected, got 1"),
        (((1, 3), 0, -1), "step must be a whole number between 0 and 4294967295, got -1"),
        (((1, 3), 0, 1 << 32), "step must be a whole number"),
        (((1, 3), 0, 0, [-1]), "each of image_indices must be a whole number"),
        (((1, 3), 0.5, 0), "seed must be a whole number"),
        (((1, (1 << 34) + 1), 0, 0), "at most 17179869184 elements per image"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ddim.DDIMError, match=message):
        ddim.keyed_noise(*arguments)


def test_an_empty_batch_has_no_noise():
    assert ddim.keyed_noise((0, 3, 4), 0, 0).shape == (0, 3, 4)
    assert ddim.keyed_noise((2, 0), 0, 0).shape == (2, 0)
