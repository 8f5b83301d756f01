"""The loop of DDIM KSampler and DDIM Sampler: the core's, over the run that a host has prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..ddim import DDIMScheduler, Inversion, Schedule, reconstruct, sample
from .backend import Denoised, Run, guided_x0
from .values import FROM_SCHEDULE, SamplerSettings

__all__ = ["run_ddim"]

Denoise: TypeAlias = Callable[[Tensor, Tensor], Denoised]


def run_ddim(run: Run, settings: SamplerSettings, on_step: Callable[[int, Tensor], None] | None = None) -> Tensor:
    """Sample with the core's loop over the run's schedule.

    Args:
        run: The run.
        settings: How it steps.
        on_step: ``on_step(i, x_0)`` after step i.

    Returns:
        The last sample, ``(B, ...)``.

    Raises:
        DDIMError: Before the model is called, if the settings bring noise that was recorded for another run.
    """

    def report(i: int, x_t: Tensor, x0: Tensor) -> None:
        run.report(i, x_t, x0)
        if on_step is not None:
            on_step(i, x0)

    def after_step(i: int, t: Tensor, x_t: Tensor, x0: Tensor) -> None:
        report(i, x_t, x0)

    scheduler = _scheduler(run.schedule, _x0_settings(settings), settings.eta)
    noise = _step_noise(run, settings)
    clipped, inversion = settings.use_clipped_model_output, settings.inversion
    if inversion is not None and inversion.second_latent is not None:
        tracks = _two_tracks(inversion, inversion.second_latent, run)
        return reconstruct(run.denoise, tracks, scheduler, callback=after_step, use_clipped_model_output=clipped)
    processed = scheduler.process_x0 is not None
    return sample(
        # The model returns x_0. Unless it is processed, it can be reported as it comes, and no step computes it again.
        run.denoise if processed else _reporting(run.denoise, report),
        run.start,
        scheduler,
        eta=settings.eta,
        seed=noise.seed,
        generator=noise.generator,
        variance_noise=noise.recorded,
        use_clipped_model_output=clipped,
        image_indices=run.image_indices,
        callback=after_step if processed else None,
    )


def _reporting(denoise: Denoise, report: Callable[[int, Tensor, Tensor], None]) -> Denoise:
    """Return a model that reports each x_0 that it predicts."""
    steps = count()

    def model(x_t: Tensor, t: Tensor) -> Denoised:
        denoised = denoise(x_t, t)
        report(next(steps), x_t, guided_x0(denoised))
        return denoised

    return model


def _x0_settings(settings: SamplerSettings) -> tuple[tuple[str, Any], ...]:
    """Return what a node says about processing x_0, as settings of a scheduler; nothing if the schedule decides."""
    if settings.x0_processing == FROM_SCHEDULE:
        return ()
    return (
        ("clip_sample", settings.x0_processing == "clip"),
        ("thresholding", settings.x0_processing == "threshold"),
        ("clip_sample_range", settings.clip_sample_range),
        ("dynamic_thresholding_ratio", settings.dynamic_thresholding_ratio),
        ("sample_max_value", settings.sample_max_value),
    )


@lru_cache(maxsize=8)
def _scheduler(schedule: Schedule, x0_settings: tuple[tuple[str, Any], ...], eta: float) -> DDIMScheduler:
    """Return a scheduler for a run.

    Kept with the coefficients of this eta, for runs that differ in seed or prompt alone: nothing in it changes while
    ``sample`` runs.
    """
    if x0_settings:
        schedule = replace(schedule, config=replace(schedule.config, **dict(x0_settings)))
    return schedule.scheduler()


class _StepNoise(NamedTuple):
    """Where the step noise comes from, in the words of ``ddim.sample``: at most one is not None."""

    seed: int | None = None
    generator: torch.Generator | None = None
    recorded: Tensor | None = None


def _step_noise(run: Run, settings: SamplerSettings) -> _StepNoise:
    if settings.variance_noise is not None:
        settings.variance_noise.check(run.schedule.alpha_bars, settings.eta, run.start.shape)
        return _StepNoise(recorded=settings.variance_noise.noise)
    if settings.noise_mode == "stream":
        return _StepNoise(generator=torch.Generator().manual_seed((run.seed + 1) % 2**64))
    return _StepNoise(seed=run.seed)


def _two_tracks(inversion: Inversion, second_latent: Tensor, run: Run) -> Inversion:
    """Return an inversion by ``edict`` or ``bdia`` with both samples where the run is: device, scale and schedule."""
    return replace(inversion, latent=run.start, second_latent=second_latent.to(run.start), schedule=run.schedule)
