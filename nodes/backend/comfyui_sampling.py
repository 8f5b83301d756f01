"""Sampling through ComfyUI's own path, so that ControlNet, hooks, masks, previews and Cancel work.

ComfyUI's samplers use other coordinates, x_ve = x_t / sqrt(alpha_bar) with sigma^2 = (1 - alpha_bar) / alpha_bar, and
its model call returns the predicted x_0 ("denoised") after guidance, hooks and masks. Here the core's loop runs in its
own coordinates and calls that model at the MODEL's own sigma for each timestep. Where the schedule's level is not the
MODEL's (zero SNR, which ComfyUI rounds to alpha_bar 4.9e-8; other betas; another prediction type), a last post-CFG
hook recovers the network's raw output and converts it to x_0 at the schedule's level, and the area that a mask keeps
gets noise of the schedule's level.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ...ddim import DDIMError, Schedule, predict_x0
from ..values import Latent
from .contract import (
    ModelFacts,
    Run,
    Sampled,
    SamplingRequest,
    Work,
    initial_noise,
    output_type,
    predicting_x0,
    start_of_run,
)
from .sigmas import schedule_from_sigmas, schedule_sigmas

__all__ = ["ModelSampling", "Patcher", "raw_output", "refuse_flow", "run_request", "sigmas_sampler"]

Patcher: TypeAlias = Any  # comfy.model_patcher.ModelPatcher: a MODEL
ModelSampling: TypeAlias = Any  # a class of comfy.model_sampling
InnerModel: TypeAlias = Any  # comfy.samplers.KSamplerX0Inpaint: what a sampler's function gets as its model
StepCallback: TypeAlias = Callable[[dict[str, Any]], object]

FLOW = tuple(
    getattr(comfy.model_sampling, name) for name in ("CONST", "COSMOS_RFLOW") if hasattr(comfy.model_sampling, name)
)
SAME_SIGMA = 1e-5  # relative: how far a float32 table is from the level that it stores


def run_request(request: SamplingRequest, facts: ModelFacts, work: Work) -> Sampled:
    """Call ``sample_custom`` with ``work`` as the sampler's function."""
    model: Patcher = request.model
    levels = _Levels.of(facts, request.schedule)
    samples = _with_model_channels(model, request.latent)
    last: dict[str, Tensor] = {}

    def function(
        inner: InnerModel,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: StepCallback | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        start = start_of_run(inner.latent_image, inner.noise, levels.schedule, add_noise=request.add_noise)
        denoiser, report = _Denoiser(inner, levels, extra_args or {}), partial(_report, callback, sigmas)
        return work(Run(denoiser, start, levels.schedule, report, request.image_indices, request.seed))

    result = comfy.sample.sample_custom(
        model,
        initial_noise(samples.shape, request.seed, request.batch_index),
        request.cfg,
        comfy.samplers.KSAMPLER(function),
        schedule_sigmas(levels.schedule, levels.table),
        request.positive,
        request.negative,
        samples,
        noise_mask=request.latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, len(levels.schedule.plan), last),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=request.seed,
    )
    return request.result(result, model.model.process_latent_out(last["x0"].cpu()) if "x0" in last else result)


def sigmas_sampler(work: Work, *, add_noise: bool) -> object:
    """Build a KSAMPLER that steps over the SIGMAS it is given, one timestep for each."""
    return comfy.samplers.KSAMPLER(_sample_sigmas, {"work": work, "add_noise": add_noise})


def _sample_sigmas(
    inner: InnerModel,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: StepCallback | None = None,
    disable: bool | None = None,
    *,
    work: Work,
    add_noise: bool,
) -> Tensor:
    """Run ``work`` as a sampler's function; x and the result are in ComfyUI's coordinates, ``(B, ...)``.

    Raises:
        DDIMError: If noise was added to a latent that is noisy already.
    """
    refuse_flow(inner.inner_model.inner_model.model_sampling)
    if len(sigmas) < 2:
        return x
    if not add_noise and inner.noise.any():
        raise DDIMError(
            "variance_noise belongs to an inverted latent, which is noisy already: turn add_noise off (or use Disable "
            "Noise)"
        )
    extra_args = extra_args or {}
    levels = _Levels(sigmas[sigmas > 0].flip(0).cpu(), schedule_from_sigmas(sigmas))
    run = Run(
        denoise=_Denoiser(inner, levels, extra_args),
        start=x / _scale(float(sigmas[0])) if add_noise else x,
        schedule=levels.schedule,
        report=partial(_report, callback, sigmas),
        image_indices=tuple(range(len(x))),
        seed=int(extra_args.get("seed") or 0),
    )
    return work(run) * _scale(float(sigmas[-1]))


@dataclass(frozen=True, eq=False)
class _Levels:
    """At which sigma the MODEL is called for a timestep, and which level the schedule has there.

    Attributes:
        table: The MODEL's sigmas, float32 CPU, shape ``(T,)``.
        schedule: The run's, with ``prediction_type="sample"``: ComfyUI's model call returns x_0.
        reread_as: What the raw output is, for levels at which it has to be converted again. None if every level is the
            MODEL's own.
        retyped: The schedule gives the MODEL another prediction type than its own.
    """

    table: Tensor
    schedule: Schedule
    reread_as: str | None = None
    retyped: bool = False

    @classmethod
    def of(cls, facts: ModelFacts, schedule: Schedule) -> _Levels:
        """Match a MODEL with a schedule.

        Raises:
            DDIMError: If their lengths differ, or their levels do and the MODEL's output cannot be converted.
        """
        if len(facts.sigmas) != len(schedule.noise):
            raise DDIMError(
                f"the schedule has {len(schedule.noise)} noise levels (num_train_timesteps) and the MODEL "
                f"{len(facts.sigmas)}; connect the MODEL to DDIM Schedule, which then uses the MODEL's"
            )
        raw = output_type(facts.prediction_type, schedule)
        levels = cls(facts.sigmas, predicting_x0(schedule), raw, retyped=raw != facts.prediction_type)
        if facts.prediction_type is None and not all(levels.same(t) for t in schedule.plan.timesteps):
            raise DDIMError(
                "the MODEL predicts neither epsilon, v nor x_0, so it can only be sampled at its own noise levels; "
                "connect the MODEL to DDIM Schedule, with prediction_type epsilon and rescale_betas_zero_snr off"
            )
        return levels

    def alpha_bar(self, t: int) -> float:
        """Return the schedule's level."""
        return self.schedule.noise.levels[t]

    def same(self, t: int) -> bool:
        """Return whether the MODEL's own conversion to x_0 is right for the schedule too."""
        a = self.alpha_bar(t)
        if self.retyped or a == 0:
            return False
        return math.isclose(math.sqrt((1 - a) / a), float(self.table[t]), rel_tol=SAME_SIGMA)


class _Denoiser:
    """``denoise(x_t, t) -> x_0`` in the core's coordinates, from ComfyUI's model call.

    Args:
        inner: The model that KSAMPLER passes to a sampler's function.
        levels: Of MODEL and schedule.
        extra_args: What KSAMPLER wants passed to the model: model_options, seed, denoise_mask.
    """

    def __init__(self, inner: InnerModel, levels: _Levels, extra_args: dict[str, Any]) -> None:
        self.inner, self.levels, self.extra_args = inner, levels, extra_args
        self.noise: Tensor = inner.noise  # of the area that a mask keeps, before it is adapted to a level

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Return the predicted x_0 of x_t ``(B, ...)`` at timestep t."""
        t = int(t)
        sigma, same = float(self.levels.table[t]), self.levels.same(t)
        if self.extra_args.get("denoise_mask") is not None:
            self.inner.noise = self.noise if same else self._kept_noise(t, sigma)
        extra_args = self.extra_args if same else self._rereading(t)
        return self.inner(x_t * _scale(sigma), x_t.new_full((len(x_t),), sigma), **extra_args)

    def _rereading(self, t: int) -> dict[str, Any]:
        """Return extra_args with one more post-CFG hook; copies, because the run's own are shared."""
        assert self.levels.reread_as is not None, "_Levels.of refuses such a MODEL at any level but its own"
        options = self.extra_args.get("model_options", {})
        hook = partial(_x0_at_level, self.levels.alpha_bar(t), self.levels.reread_as)
        hooks = [*options.get("sampler_post_cfg_function", []), hook]
        return {**self.extra_args, "model_options": {**options, "sampler_post_cfg_function": hooks}}

    def _kept_noise(self, t: int, sigma: float) -> Tensor:
        """Return noise with which ComfyUI's ``latent + sigma * noise`` is the kept area at the schedule's level."""
        latent = self.inner.latent_image
        at_level = self.levels.schedule.noise.add_noise(latent, self.noise, t)
        return (at_level * _scale(sigma) - latent) / sigma


def _x0_at_level(alpha_bar: float, prediction_type: str, args: dict[str, Any]) -> Tensor:
    """Convert the network's raw output to x_0 at ``alpha_bar``; a post-CFG hook."""
    x, sigma = args["input"], args["sigma"]
    output = raw_output(args["model"].model_sampling, sigma, args["denoised"], x)
    return predict_x0(output, x / _scale(float(sigma.flatten()[0])), alpha_bar, prediction_type)


def raw_output(sampling: ModelSampling, sigma: Tensor, denoised: Tensor, x: Tensor) -> Tensor:
    """Recover the network's output from ComfyUI's ``denoised``.

    For every kind of model, denoised = offset(x) + slope * output with one slope per image, so both can be measured
    with the model's own conversion.
    """
    offset = sampling.calculate_denoised(sigma, torch.zeros_like(x), x)
    slope = sampling.calculate_denoised(sigma, torch.ones_like(x), torch.zeros_like(x))
    return (denoised - offset) / slope


def refuse_flow(sampling: ModelSampling) -> None:
    """Raise DDIMError for a flow model."""
    if isinstance(sampling, FLOW):
        raise DDIMError(
            "DDIM is not defined for flow models (Flux, SD3, Wan and others), which mix image and noise in another "
            "way; use the stock KSampler with sampler_name 'euler', their deterministic sampler"
        )


def _scale(sigma: float) -> float:
    """Return x_ve / x_t = 1 / sqrt(alpha_bar) = sqrt(1 + sigma^2)."""
    return math.sqrt(1 + sigma * sigma)


def _report(callback: StepCallback | None, sigmas: Tensor, i: int, x_t: Tensor, x0: Tensor) -> None:
    """Report step i to ComfyUI for previews and progress; raises if the user cancelled the run."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    sigma = sigmas[min(i, len(sigmas) - 1)]
    if callback is not None:
        callback({"x": x_t * _scale(float(sigma)), "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})


def _with_model_channels(model: Patcher, latent: Latent) -> Tensor:
    """Return the samples; of an empty latent with as many channels as the MODEL wants."""
    accepted = inspect.signature(comfy.sample.fix_empty_latent_channels).parameters
    sizes = {key: latent[key] for key in accepted if key in latent}  # newer versions resize empty latents too
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **sizes)
