"""Align Your Steps: the published tables, the authors' interpolation, and exactly S timesteps for every S."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ddim import END, TIMESTEP_SPACINGS, DDIMError, DDIMScheduler, SchedulerConfig, SigmaConfig, make_plan

diffusers_schedules = pytest.importorskip("diffusers.schedulers").AysSchedules

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
AYS = ("ays", "ays_sdxl")
IN_DIFFUSERS = {"ays": "StableDiffusion", "ays_sdxl": "StableDiffusionXL"}
# The sigmas that the authors publish with their "how to", from the noisiest to that of timestep 0.
PUBLISHED_SIGMAS = {
    "ays": (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
            0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
    "ays_sdxl": (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
                 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
}  # fmt: skip


def stable_diffusion_sigmas() -> np.ndarray:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.cumprod(1 - betas)
    return np.sqrt((1 - alpha_bar) / alpha_bar)


@pytest.mark.parametrize("spacing", AYS)
def test_ten_steps_are_the_published_table(spacing: str) -> None:
    published = diffusers_schedules[f"{IN_DIFFUSERS[spacing]}Timesteps"]
    assert make_plan(10, 1000, spacing).timesteps == tuple(published)
    scheduler = DDIMScheduler(**SD, timestep_spacing=spacing)
    scheduler.set_timesteps(10)
    assert scheduler.timesteps.tolist() == published


@pytest.mark.parametrize("spacing", AYS)
def test_other_counts_are_nearest_to_the_authors_interpolation(spacing: str) -> None:
    """ln(sigma), interpolated evenly between the published sigmas; the last one becomes the end of the run."""
    table, logs = np.log(stable_diffusion_sigmas()), np.log(PUBLISHED_SIGMAS[spacing])
    for steps in (1, 2, 3, 5, 7, 8, 12, 15, 20, 25, 30, 50):
        wanted = np.interp(np.linspace(0, 1, steps + 1)[:-1], np.linspace(0, 1, 11), logs)
        nearest = np.abs(wanted[:, None] - table).argmin(1)
        ours = np.array(make_plan(steps, 1000, spacing).timesteps)
        # Their sigmas are those of whole timesteps, rounded a little: half-way cases may fall to either side.
        assert np.abs(ours - nearest).max() <= 1, (steps, ours, nearest)
        assert (ours != nearest).sum() <= 1 + steps // 20, (steps, ours, nearest)


@pytest.mark.parametrize("spacing", AYS)
@pytest.mark.parametrize("total", [1000, 1, 2, 37, 100, 1500])
def test_every_count_gives_that_many_falling_timesteps_from_the_last_one(spacing: str, total: int) -> None:
    for steps in range(1, total + 1, 1 if total <= 1000 else 7):
        timesteps = make_plan(steps, total, spacing).timesteps
        assert len(timesteps) == steps and timesteps[0] == total - 1 and timesteps[-1] >= 0
        assert all(t > t_next for t, t_next in pairwise(timesteps))
        assert make_plan(steps, total, spacing).pairs[-1][1] == END


@pytest.mark.parametrize("spacing", AYS)
def test_another_number_of_training_timesteps_scales_the_table(spacing: str) -> None:
    of_1000, of_4000 = (np.array(make_plan(10, total, spacing).timesteps) for total in (1000, 4000))
    assert np.abs(of_4000 / 3999 - of_1000 / 999).max() < 1 / 3999


@pytest.mark.parametrize("spacing", AYS)
def test_it_belongs_to_stable_diffusion_and_is_no_spacing_of_diffusers(spacing: str) -> None:
    assert spacing in TIMESTEP_SPACINGS
    with pytest.raises(DDIMError, match=r"parity='diffusers'.*must be one of 'leading', 'trailing', 'linspace'"):
        DDIMScheduler(timestep_spacing=spacing, parity="diffusers").set_timesteps(10)
    assert SchedulerConfig(timestep_spacing=spacing)["timestep_spacing"] == spacing
    for kind in ("flow", "variance_exploding"):
        with pytest.raises(DDIMError, match=f"must not be '{spacing}' for a {kind} model.*Stable Diffusion"):
            SigmaConfig(kind, (0.1, 0.5, 1.0), timestep_spacing=spacing)
