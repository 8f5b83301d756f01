"""Sampling through ComfyUI's own path, so that ControlNet, hooks, masks, previews and Cancel work.

ComfyUI's samplers hold a sample in other coordinates (see ``comfyui_levels``), and its model call returns the predicted
x_0 ("denoised") after guidance, hooks and masks. Here the core's loop runs in its own coordinates and calls that model
at ComfyUI's sigma for each timestep. Where the level of a variance preserving schedule is not the MODEL's (zero SNR,
which ComfyUI rounds to alpha_bar 4.9e-8; other betas; another prediction type), a last post-CFG hook recovers the
network's raw output and converts it to x_0 at the schedule's level, and the area that a mask keeps gets noise of the
schedule's level.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from ...ddim import DDIMError, predict_x0
from ..values import Latent
from .comfyui_levels import Coordinates, ModelSampling, RunLevels, coordinates_of, raw_output
from .contract import ModelFacts, Run, Sampled, SamplingRequest, Work
from .run_rules import initial_noise, start_of_run, timestep_index
from .sigmas import schedule_sigmas

__all__ = ["Patcher", "run_request", "sigmas_sampler"]

Patcher: TypeAlias = Any  # comfy.model_patcher.ModelPatcher: a MODEL
InnerModel: TypeAlias = Any  # comfy.samplers.KSamplerX0Inpaint: what a sampler's function gets as its model
StepCallback: TypeAlias = Callable[[dict[str, Any]], object]


def run_request(request: SamplingRequest, facts: ModelFacts, work: Work) -> Sampled:
    """Call ``sample_custom`` with ``work`` as the sampler's function."""
    model: Patcher = request.model
    sampling = model.get_model_object("model_sampling")
    levels = RunLevels.of(facts, request.schedule, coordinates_of(sampling))
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
        denoiser = _Denoiser(inner, levels, extra_args or {})
        report = partial(_report, callback, sigmas, levels.coordinates)
        result = work(Run(denoiser, start, levels.schedule, report, request.image_indices, request.seed))
        return result / _after_sampler(sampling, sigmas[-1], result)

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
    coordinates = coordinates_of(inner.inner_model.inner_model.model_sampling)
    if len(sigmas) < 2:
        return x
    if not add_noise and inner.noise.any():
        raise DDIMError(
            "variance_noise belongs to an inverted latent, which is noisy already: turn add_noise off (or use Disable "
            "Noise)"
        )
    extra_args = extra_args or {}
    levels = RunLevels.of_sigmas(sigmas, coordinates)
    run = Run(
        denoise=_Denoiser(inner, levels, extra_args),
        start=x / coordinates.scale(float(sigmas[0])) if add_noise else inner.latent_image,
        schedule=levels.schedule,
        report=partial(_report, callback, sigmas, coordinates),
        image_indices=tuple(range(len(x))),
        seed=int(extra_args.get("seed") or 0),
    )
    return work(run) * coordinates.scale(float(sigmas[-1]))


class _Denoiser:
    """``denoise(x_t, t) -> x_0`` in the core's coordinates, from ComfyUI's model call.

    Args:
        inner: The model that KSAMPLER passes to a sampler's function.
        levels: Of MODEL and schedule.
        extra_args: What KSAMPLER wants passed to the model: model_options, seed, denoise_mask.
    """

    def __init__(self, inner: InnerModel, levels: RunLevels, extra_args: dict[str, Any]) -> None:
        self.inner, self.levels, self.extra_args = inner, levels, extra_args
        self.noise: Tensor = inner.noise  # of the area that a mask keeps, before it is adapted to a level

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Return the predicted x_0 of x_t ``(B, ...)`` at timestep t."""
        t = timestep_index(self.levels.schedule, t)
        sigma, same = float(self.levels.table[t]), self.levels.same(t)
        if self.extra_args.get("denoise_mask") is not None:
            self.inner.noise = self.noise if same else self._kept_noise(t, sigma)
        extra_args = self.extra_args if same else self._rereading(t)
        return self.inner(x_t * self.levels.coordinates.scale(sigma), x_t.new_full((len(x_t),), sigma), **extra_args)

    def _rereading(self, t: int) -> dict[str, Any]:
        """Return extra_args with one more post-CFG hook; copies, because the run's own are shared."""
        reread_as = self.levels.reread_as
        assert reread_as is not None, "RunLevels.of refuses such a MODEL at any level but its own"
        options = self.extra_args.get("model_options", {})
        hook = partial(_x0_at_level, self.levels, t, reread_as)
        hooks = [*options.get("sampler_post_cfg_function", []), hook]
        return {**self.extra_args, "model_options": {**options, "sampler_post_cfg_function": hooks}}

    def _kept_noise(self, t: int, sigma: float) -> Tensor:
        """Return noise with which ComfyUI's ``latent + sigma * noise`` is the kept area at the schedule's level."""
        latent = self.inner.latent_image
        at_level = self.levels.schedule.noise.add_noise(latent, self.noise, t)
        return (at_level * self.levels.coordinates.scale(sigma) - latent) / sigma


def _x0_at_level(levels: RunLevels, t: int, prediction_type: str, args: dict[str, Any]) -> Tensor:
    """Convert the network's raw output to x_0 at the schedule's level of t; a post-CFG hook."""
    x, sigma = args["input"], args["sigma"]
    output = raw_output(args["model"].model_sampling, sigma, args["denoised"], x)
    x_t = x / levels.coordinates.scale(float(sigma.flatten()[0]))
    return predict_x0(output, x_t, levels.alpha_bar(t), prediction_type)


def _after_sampler(sampling: ModelSampling, sigma: Tensor, like: Tensor) -> Tensor:
    """Return the factor by which KSAMPLER multiplies a result: 1 / (1 - sigma) for flow models, else 1."""
    factor: Tensor = sampling.inverse_noise_scaling(sigma, like.new_ones([1] * like.ndim))
    return factor


def _report(
    callback: StepCallback | None, sigmas: Tensor, coordinates: Coordinates, i: int, x_t: Tensor, x0: Tensor
) -> None:
    """Report step i to ComfyUI for previews and progress; raises if the user cancelled the run."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    sigma = sigmas[min(i, len(sigmas) - 1)]
    if callback is not None:
        x = x_t * coordinates.scale(float(sigma))
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})


def _with_model_channels(model: Patcher, latent: Latent) -> Tensor:
    """Return the samples; of an empty latent with as many channels as the MODEL wants."""
    accepted = inspect.signature(comfy.sample.fix_empty_latent_channels).parameters
    sizes = {key: latent[key] for key in accepted if key in latent}  # newer versions resize empty latents too
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **sizes)
