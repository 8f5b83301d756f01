"""Sampling through ComfyUI's own path, so that ControlNet, hooks, masks, previews and Cancel work.

ComfyUI's samplers work in other coordinates, x_ve = x_t / sqrt(alpha_bar) with sigma^2 = (1 - alpha_bar) / alpha_bar,
and its model call returns the predicted x_0 ("denoised") after guidance, hooks and masks. Here the core's loop runs in
its own coordinates and calls that model at the MODEL's own sigma for each timestep. Where the schedule's level is not
the MODEL's (zero SNR, which ComfyUI rounds to alpha_bar 4.9e-8; other betas; another prediction type), a last post-CFG
hook recovers the network's raw output and reads it at the schedule's level, and the kept area of a mask gets the
schedule's noise.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ..ddim import DDIMError, Schedule, predict_x0, sample
from .bridge import (
    ModelFacts,
    Run,
    image_indices,
    initial_noise,
    model_facts,
    schedule_from_sigmas,
    schedule_sigmas,
    spoken_by,
    step_noise,
    with_settings,
)
from .sockets import SamplerSettings

__all__ = ["make_sampler", "raw_output", "refuse_flow", "run"]

FLOW = tuple(
    getattr(comfy.model_sampling, name) for name in ("CONST", "COSMOS_RFLOW") if hasattr(comfy.model_sampling, name)
)
SAME_SIGMA = 1e-5  # relative: what a float32 table makes of one level


def run(
    model: Any,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    schedule: Schedule,
    work: Callable[[Run], Tensor],
    cfg: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """``sample_custom`` with ``work`` in the place of a sampler's function."""
    levels = _Levels.of(model_facts(model), schedule)
    samples = _with_right_channels(model, latent)
    indices = image_indices({**latent, "samples": samples})
    noise = initial_noise(samples.shape, seed, latent.get("batch_index"))
    kept: dict[str, Tensor] = {}
    callback = latent_preview.prepare_callback(model, len(schedule.plan), kept)

    def function(inner, x, sigmas, extra_args=None, callback=None, disable=None):  # the signature that KSAMPLER calls
        denoise = _Denoiser(inner, levels, extra_args or {})
        report = partial(_report, callback, sigmas)
        return work(Run(denoise, inner.latent_image, inner.noise, levels.schedule, report, indices, seed))

    result = comfy.sample.sample_custom(
        model,
        noise,
        cfg,
        comfy.samplers.KSAMPLER(function),
        schedule_sigmas(schedule, levels.table),
        positive,
        negative,
        samples,
        noise_mask=latent.get("noise_mask"),
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return result, model.model.process_latent_out(kept["x0"].cpu()) if "x0" in kept else result


def make_sampler(settings: SamplerSettings) -> Any:
    """A KSAMPLER that steps over the SIGMAS it is given, one timestep for each."""
    return comfy.samplers.KSAMPLER(_sample_sigmas, {"settings": settings})


def _sample_sigmas(inner, x, sigmas, extra_args=None, callback=None, disable=None, *, settings):
    """The signature that KSAMPLER calls; x and the result in ComfyUI's coordinates, (B, ...)."""
    refuse_flow(inner.inner_model.inner_model.model_sampling)
    if len(sigmas) < 2:
        return x
    schedule = schedule_from_sigmas(sigmas)
    levels = _Levels(sigmas[sigmas > 0].flip(0).cpu(), schedule, None)
    extra_args = extra_args or {}
    report = partial(_report, callback, sigmas)
    result = sample(
        _Denoiser(inner, levels, extra_args),
        _start(inner, x, float(sigmas[0]), settings),
        with_settings(schedule, settings),
        eta=settings.eta,
        use_clipped_model_output=settings.use_clipped_model_output,
        callback=lambda i, t, x_t, x0: report(i, x_t, x0),
        **step_noise(settings, schedule, int(extra_args.get("seed") or 0), x.shape),
    )
    return result * _scale(float(sigmas[-1]))


def _start(inner: Any, x: Tensor, sigma: float, settings: SamplerSettings) -> Tensor:
    """The first sample in the core's coordinates; a latent that DDIM Invert gave is in them already.

    Raises:
        DDIMError: where noise was added to such a latent.
    """
    if settings.variance_noise is None or settings.variance_noise.inversion is None:
        return x / _scale(sigma)
    if inner.noise.any():
        raise DDIMError(
            "variance_noise belongs to an inverted latent, which is noisy already: turn add_noise off (or use Disable "
            "Noise)"
        )
    return x


@dataclass(frozen=True, eq=False)
class _Levels:
    """At which sigma the MODEL is called for a timestep, and which level the schedule has there.

    Attributes:
        table: the MODEL's sigmas, float32 CPU, shape ``(T,)``.
        schedule: the run's, with ``prediction_type="sample"``: ComfyUI's model call answers with x_0.
        spoken: what the raw output is, where it has to be read again at the schedule's level.
        retyped: the schedule reads the raw output as something else than the MODEL does.
    """

    table: Tensor
    schedule: Schedule
    spoken: str | None = None
    retyped: bool = False

    @classmethod
    def of(cls, facts: ModelFacts, schedule: Schedule) -> _Levels:
        """Check that MODEL and schedule fit.

        Raises:
            DDIMError: where their lengths differ, or their levels do and the MODEL's output cannot be read at another.
        """
        if len(facts.sigmas) != len(schedule.noise):
            raise DDIMError(
                f"the schedule has {len(schedule.noise)} noise levels (num_train_timesteps) and the MODEL "
                f"{len(facts.sigmas)}; connect the MODEL to DDIM Schedule, which then takes the MODEL's"
            )
        spoken = spoken_by(facts, schedule)
        as_x0 = replace(schedule, config=replace(schedule.config, prediction_type="sample"))
        levels = cls(facts.sigmas, as_x0, spoken, retyped=spoken != facts.prediction_type)
        if facts.prediction_type is None and not all(levels.same(t) for t in schedule.plan.timesteps):
            raise DDIMError(
                "the MODEL predicts neither epsilon, v nor x_0, so it can only be sampled at its own noise levels; "
                "connect the MODEL to DDIM Schedule, with prediction_type epsilon and rescale_betas_zero_snr off"
            )
        return levels

    def alpha_bar(self, t: int) -> float:
        """The schedule's level."""
        return self.schedule.noise.levels[t]

    def same(self, t: int) -> bool:
        """Whether the MODEL's own conversion to x_0 is the schedule's too."""
        a = self.alpha_bar(t)
        return (
            not self.retyped
            and a > 0
            and math.isclose(math.sqrt((1 - a) / a), float(self.table[t]), rel_tol=SAME_SIGMA)
        )


class _Denoiser:
    """``denoise(x_t, t) -> x_0`` in the core's coordinates, from ComfyUI's model call.

    Args:
        inner: the KSamplerX0Inpaint that KSAMPLER hands to a sampler's function.
        levels: of MODEL and schedule.
        extra_args: what KSAMPLER wants passed along: model_options, seed, denoise_mask.
    """

    def __init__(self, inner: Any, levels: _Levels, extra_args: dict[str, Any]) -> None:
        self.inner, self.levels, self.extra_args = inner, levels, extra_args
        self.noise = inner.noise  # the kept area's noise, before it is fitted to a level

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """x_t is ``(B, ...)``, t a timestep; the result has the shape of x_t."""
        t = int(t)
        sigma = float(self.levels.table[t])
        extra_args = self.extra_args
        if not self.levels.same(t):
            extra_args = self._read_at_own_level(t)
        if extra_args.get("denoise_mask") is not None:
            self.inner.noise = self._kept_noise(t, sigma)
        return self.inner(x_t * _scale(sigma), x_t.new_full((len(x_t),), sigma), **extra_args)

    def _read_at_own_level(self, t: int) -> dict[str, Any]:
        """extra_args with one more post-CFG hook, on copies: the run's own are shared."""
        options = self.extra_args.get("model_options", {})
        hook = partial(_x0_at_level, self.levels.alpha_bar(t), self.levels.spoken)
        hooks = [*options.get("sampler_post_cfg_function", []), hook]
        return {**self.extra_args, "model_options": {**options, "sampler_post_cfg_function": hooks}}

    def _kept_noise(self, t: int, sigma: float) -> Tensor:
        """Noise with which ComfyUI's latent + sigma * noise is the kept area at the schedule's level."""
        if self.levels.same(t):
            return self.noise
        latent = self.inner.latent_image
        at_level = self.levels.schedule.scheduler().add_noise(latent, self.noise, torch.tensor(t))
        return (at_level * _scale(sigma) - latent) / sigma


def _x0_at_level(alpha_bar: float, prediction_type: str, args: dict[str, Any]) -> Tensor:
    """A post-CFG hook: the x_0 that the network's output means at ``alpha_bar``."""
    x, sigma = args["input"], args["sigma"]
    output = raw_output(args["model"].model_sampling, sigma, args["denoised"], x)
    return predict_x0(output, x / _scale(float(sigma.flatten()[0])), alpha_bar, prediction_type)


def raw_output(sampling: Any, sigma: Tensor, denoised: Tensor, x: Tensor) -> Tensor:
    """The network's output that ComfyUI turned into ``denoised``.

    For every kind of model, denoised = offset(x) + slope * output with one slope per image, so both are read off the
    model's own conversion.
    """
    offset = sampling.calculate_denoised(sigma, torch.zeros_like(x), x)
    slope = sampling.calculate_denoised(sigma, torch.ones_like(x), torch.zeros_like(x))
    return (denoised - offset) / slope


def refuse_flow(sampling: Any) -> None:
    """Raise DDIMError for a flow model."""
    if isinstance(sampling, FLOW):
        raise DDIMError(
            "DDIM is not defined for flow models (Flux, SD3, Wan and their like), which mix noise in another way; use "
            "the stock KSampler with sampler_name 'euler', their deterministic sampler"
        )


def _scale(sigma: float) -> float:
    """x_ve / x_t = 1 / sqrt(alpha_bar) = sqrt(1 + sigma^2)."""
    return math.sqrt(1 + sigma * sigma)


def _report(callback: Callable | None, sigmas: Tensor, i: int, x_t: Tensor, x0: Tensor) -> None:
    """Tell ComfyUI that step i is done: previews and progress, and Cancel raises from here."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    sigma = sigmas[min(i, len(sigmas) - 1)]
    if callback is not None:
        callback({"x": x_t * _scale(float(sigma)), "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})


def _with_right_channels(model: Any, latent: dict[str, Any]) -> Tensor:
    """The latents, an empty one with as many channels as the MODEL wants."""
    known = inspect.signature(comfy.sample.fix_empty_latent_channels).parameters
    sizes = {key: latent[key] for key in known if key in latent}  # newer versions resize empty latents too
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **sizes)
