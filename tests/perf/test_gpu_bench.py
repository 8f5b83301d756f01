"""``bench/gpu.py`` as far as it runs without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import ddim


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    try:
        import bench.gpu
    finally:
        sys.path.pop(0)
    return bench.gpu


@pytest.mark.parametrize("options", [{}, {"eta": 1.0, "seed": 1}], ids=["eta 0", "eta 1"])
def test_a_run_with_pictures_reads_nothing_before_its_end(gpu: ModuleType, options: dict, measure_cost: type) -> None:
    x = torch.randn((2, 4, 16, 16), generator=torch.Generator().manual_seed(0))
    run = gpu.run_with_pictures(x, 5, **options)
    with measure_cost(x) as cost:
        pictures = run()
    assert cost.host_reads == 0
    assert pictures.shape == (5, 3, 8, 8) and pictures.dtype == torch.uint8
    assert len({picture.numpy().tobytes() for picture in pictures}) == 5


def test_both_draws_of_the_table_of_noise_are_the_same(gpu: ModuleType) -> None:
    expected = ddim.keyed_noise((2, 3, 40, 40), 5, 3)
    for draw in gpu.noise_draws((2, 3, 40, 40), "cpu"):
        assert torch.equal(draw()[0], expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_device_every_measurement_is_listed_as_not_made(
    gpu: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.main([])
    printed = capsys.readouterr().out
    for item in gpu.ITEMS:
        assert any(line.startswith(item) and line.endswith("not measured") for line in printed.splitlines())
