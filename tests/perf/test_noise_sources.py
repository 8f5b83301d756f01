"""Where the noise of a run comes from: a seed, generators, or a recording."""

from __future__ import annotations

import pytest
import torch

import ddim
from ddim.noise.keyed import KeyedStep, NoiseKey
from ddim.noise.recorded import VarianceNoise
from ddim.noise.source import GeneratorNoise, KeyedNoise, RecordedNoise, check_variance_noise, noise_source

SHAPE = torch.Size((3, 2, 5))
CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def test_keyed_noise_is_a_key_until_it_is_drawn_and_counts_from_the_beginning_of_the_whole_plan():
    source = KeyedNoise(NoiseKey.of(SHAPE, 7, [4, 0, 9], CPU), first=20)
    step = source.at(3, 0.5)
    assert isinstance(step, KeyedStep)
    assert torch.equal(step.draw(), ddim.keyed_noise(SHAPE, 7, 23, [4, 0, 9]))
    assert torch.equal(step.draw(), source.at(3, 0.1).draw())
    assert source.at(3, 0.0) is None


def test_one_generator_draws_for_the_whole_batch_step_after_step():
    source, stream = GeneratorNoise(seeded(5), SHAPE, CPU), seeded(5)
    for step in range(3):
        assert torch.equal(source.at(step, 1.0), torch.randn(SHAPE, generator=stream))


def test_generators_of_each_image_draw_what_each_would_draw_alone():
    source = GeneratorNoise([seeded(i) for i in range(3)], SHAPE, CPU)
    alone = [GeneratorNoise(seeded(i), torch.Size((1, *SHAPE[1:])), CPU) for i in range(3)]
    for step in range(3):
        assert torch.equal(source.at(step, 1.0), torch.cat([each.at(step, 1.0) for each in alone]))
    with pytest.raises(ddim.DDIMError, match="one per image: 3 expected, got 2"):
        GeneratorNoise([seeded(0)] * 2, SHAPE, CPU)
    assert GeneratorNoise([], torch.Size((0, 4)), CPU).at(0, 1.0).shape == (0, 4)


def test_a_generator_is_not_drawn_from_without_need_except_where_diffusers_does():
    for unused_draws, expected_draws in (((), 1), ({0}, 2), ({0, 1, 2}, 3)):
        generator, stream = seeded(1), seeded(1)
        source = GeneratorNoise(generator, SHAPE, CPU, unused_draws=unused_draws)
        assert source.at(0, 0.0) is None
        assert source.at(1, 0.7) is not None
        assert source.at(2, 0.0) is None
        for _ in range(expected_draws):
            torch.randn(SHAPE, generator=stream)
        assert torch.equal(generator.get_state(), stream.get_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_generators_draw_in_the_dtype_that_is_asked_for(dtype):
    found = GeneratorNoise(seeded(2), SHAPE, CPU, dtype).at(0, 1.0)
    assert torch.equal(found, torch.randn(SHAPE, generator=seeded(2), dtype=dtype))


def test_a_recording_gives_its_rows_and_only_a_variance_noise_those_without_sigma():
    rows = drawn(4, *SHAPE)
    plain, recorded = RecordedNoise(rows, CPU), RecordedNoise(rows.as_subclass(VarianceNoise), CPU)
    for step in range(4):
        assert torch.equal(plain.at(step, 0.3), rows[step])
        assert plain.at(step, 0.0) is None
        row = recorded.at(step, 0.0)
        assert isinstance(row, VarianceNoise)
        assert torch.equal(row.as_subclass(torch.Tensor), rows[step])


def test_a_run_takes_the_source_that_was_given():
    x, rows, generator = torch.zeros(SHAPE), drawn(4, *SHAPE), seeded(3)
    by_seed = noise_source(x, 4, unseeded=11, first=2, seed=8, image_indices=[1, 2, 3])
    assert torch.equal(by_seed.at(1, 1.0).draw(), ddim.keyed_noise(SHAPE, 8, 3, [1, 2, 3]))
    unseeded = noise_source(x, 4, unseeded=11, first=2)
    assert torch.equal(unseeded.at(1, 1.0).draw(), ddim.keyed_noise(SHAPE, 11, 3))
    assert noise_source(x, 4, unseeded=11, generator=generator) == GeneratorNoise(generator, SHAPE, CPU)
    assert noise_source(x, 4, unseeded=11, variance_noise=rows).noise is rows


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": 1, "generator": seeded(0)}, "got seed and generator"),
        ({"seed": 0, "variance_noise": drawn(4, *SHAPE)}, "got seed and variance_noise"),
        ({"generator": seeded(0), "variance_noise": drawn(4, *SHAPE)}, "got generator and variance_noise"),
        ({"variance_noise": drawn(3, *SHAPE)}, r"must have shape \(4, 3, 2, 5\)"),
        ({"image_indices": [1, 2]}, "one image per row: 3 expected, got 2"),
        ({"generator": [seeded(0)]}, "one per image: 3 expected, got 1"),
    ],
)
def test_sources_that_contradict_each_other_or_do_not_fit_are_refused(given, message):
    with pytest.raises(ddim.DDIMError, match=message):
        noise_source(torch.zeros(SHAPE), 4, unseeded=0, **given)


def test_the_noise_of_one_step_is_checked_whatever_eta_is():
    x = torch.zeros(SHAPE)
    check_variance_noise(x, None, drawn(*SHAPE))
    check_variance_noise(x, seeded(0), None)
    for generator, noise, message in (
        (seeded(0), drawn(*SHAPE), "not both"),
        (None, torch.ones(SHAPE, dtype=torch.int64), "must be floating point"),
        (None, drawn(2, 5), "must have the sample's shape"),
    ):
        with pytest.raises(ddim.DDIMError, match=message):
            check_variance_noise(x, generator, noise)
