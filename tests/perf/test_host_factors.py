"""Factors that the host computes itself: standard deviations from sums, added noise, and what is imported late."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ddim.statistics import deviations_on_host

import ddim

ROOT = Path(ddim.__file__).parent.parent


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 2048), (2, 16384), (1, 3, 300, 301), (5, 4, 16, 16)])
@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_deviations_from_sums_are_those_of_float64(shape, mean):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(3)) + mean
    found = deviations_on_host(images)
    assert found is not None
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), images.double().flatten(1).std(1), rtol=1e-6, atol=0
    )


def test_deviations_that_would_cancel_are_left_to_torch():
    images = torch.randn((1, 4096), generator=torch.Generator().manual_seed(3)) + 100
    assert deviations_on_host(images) is None
    assert deviations_on_host(torch.ones(2, 4096)) is None
    assert deviations_on_host(torch.full((1, 4096), torch.nan)) is None


@pytest.mark.parametrize("timesteps", [[7], [7, 7, 7], [0, 500, 999]])
@pytest.mark.parametrize("size", [4, 128])
@pytest.mark.parametrize("name", ["add_noise", "get_velocity"])
def test_added_noise_is_that_of_float64(timesteps, size, name):
    scheduler = ddim.DDIMScheduler()
    x, z = (torch.randn((3, 4, size, size), generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    a = scheduler.noise_schedule.alpha_bar[timesteps].reshape(-1, 1, 1, 1)
    first, second = (x, z) if name == "add_noise" else (z, -x)
    expected = a.sqrt() * first.double() + (1 - a).sqrt() * second.double()
    found = getattr(scheduler, name)(x, z, torch.tensor(timesteps))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_what_is_beside_sampling_is_imported_when_asked_for():
    code = (
        "import ddim, sys; late = ('inversion', 'storage', 'parallel', 'graph', 'interpolation')\n"
        "print([name for name in late if 'ddim.' + name in sys.modules])\n"
        "print(all(getattr(ddim, name) is not None for name in ddim.__all__), set(ddim.__all__) <= set(dir(ddim)))\n"
        "print(all(getattr(ddim, name) is sys.modules['ddim.' + name] for name in late), hasattr(ddim, 'nothing'))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split("\n")[:3] == ["[]", "True True", "True False"]
