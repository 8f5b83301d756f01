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
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ...ddim import CFGPlusPlus, DDIMError, predict_x0
from ..values import Guidance, Latent
from .comfyui_levels import ModelSampling, OutputMap, RunLevels, coordinates_of, run_levels_of_sigmas
from .contract import Denoised, ModelFacts, Run, Sampled, SamplingRequest, Work
from .run_rules import initial_noise, start_of_run, timestep_reader
from .sigmas import schedule_sigmas

__all__ = ["Patcher", "run_request", "sigmas_sampler"]

Patcher: TypeAlias = Any  # comfy.model_patcher.ModelPatcher: a MODEL
InnerModel: TypeAlias = Any  # comfy.samplers.KSamplerX0Inpaint: what a sampler's function gets as its model
PostCFG: TypeAlias = Callable[[dict[str, Any]], Tensor]
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
        denoiser = _Denoiser(inner, levels, extra_args or {}, request.guidance)
        report = partial(_report, callback, sigmas.unbind(), denoiser)
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
    host_sigmas = tuple(sigmas.tolist())
    levels = run_levels_of_sigmas(host_sigmas, coordinates)
    denoiser = _Denoiser(inner, levels, extra_args)
    run = Run(
        denoise=denoiser,
        start=x / coordinates.scale(host_sigmas[0]) if add_noise else inner.latent_image,
        schedule=levels.schedule,
        report=partial(_report, callback, sigmas.unbind(), denoiser),
        image_indices=tuple(range(len(x))),
        seed=int(extra_args.get("seed") or 0),
    )
    return work(run) * coordinates.scale(host_sigmas[-1])


class _Call(NamedTuple):
    """How ComfyUI's model is called at a timestep.

    Attributes:
        sigma: ComfyUI's, as a float of the host.
        sigmas: The same for every image, ``(B,)`` on the model's device.
        scale: x_host / x_t, a number in host memory; None where both are the same.
        same: Whether the MODEL's own conversion to x_0 is right for the schedule too.
    """

    sigma: float
    sigmas: Tensor
    scale: Tensor | None
    same: bool


class _Denoiser:
    """``denoise(x_t, t) -> x_0`` in the core's coordinates, from ComfyUI's model call.

    What it needs at a timestep is prepared for all of them at once, so that a step neither waits for the device nor
    copies anything to it.

    Args:
        inner: The model that KSAMPLER passes to a sampler's function.
        levels: Of MODEL and schedule.
        extra_args: What KSAMPLER wants passed to the model: model_options, seed, denoise_mask.
        guidance: How the prompts are combined, and in which steps.
    """

    def __init__(
        self,
        inner: InnerModel,
        levels: RunLevels,
        extra_args: dict[str, Any],
        guidance: Guidance = Guidance(),  # noqa: B008 (it is immutable)
    ) -> None:
        self.inner, self.levels, self.extra_args = inner, levels, extra_args
        self.noise: Tensor = inner.noise  # of the area that a mask keeps, before it is adapted to a level
        self._two, self._unguided = guidance.mode == "cfg++", guidance.unguided(levels.schedule)
        self._masked = extra_args.get("denoise_mask") is not None
        self._timestep_of = timestep_reader(levels.schedule)
        self._calls: dict[int, _Call] = {}
        self._prepare(levels.schedule.plan.timesteps)
        self._last: tuple[Tensor, Tensor] | None = None  # x_t, and how ComfyUI holds it

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Denoised:
        """Return the predicted x_0 of x_t ``(B, ...)`` at timestep t; with CFG++ a pair of them."""
        t = self._timestep_of(t)
        call = self._call_at(t)
        if self._masked:
            self.inner.noise = self.noise if call.same else self._kept_noise(t, call.sigma)
        x = x_t if call.scale is None else x_t * call.scale
        self._last = x_t, x
        if t in self._unguided:
            return self._unguided_x0(x, call, self._extra_args(t, call))
        if not self._two:
            x0: Tensor = self.inner(x, call.sigmas, **self._extra_args(t, call))
            return x0
        unconditional: list[Tensor] = []
        guided = self.inner(x, call.sigmas, **self._extra_args(t, call, unconditional.append))
        return CFGPlusPlus(guided, self._with_kept_area(unconditional[0], call))

    def _unguided_x0(self, x: Tensor, call: _Call, extra_args: dict[str, Any]) -> Tensor:
        """Call the model with the positive prompt alone: at cfg 1 ComfyUI leaves the other out of the batch."""
        guider = self.inner.inner_model
        cfg, guider.cfg = guider.cfg, 1.0
        try:
            x0: Tensor = self.inner(x, call.sigmas, **extra_args)
        finally:
            guider.cfg = cfg
        return x0

    def _with_kept_area(self, x0: Tensor, call: _Call) -> Tensor:
        """Replace what a mask keeps, as ComfyUI does it with the guided x_0."""
        mask = self.extra_args.get("denoise_mask")
        if mask is None:
            return x0
        function = self.extra_args.get("model_options", {}).get("denoise_mask_function")
        if function is not None:
            options = {"model": self.inner.inner_model, "sigmas": self.inner.sigmas}
            mask = function(call.sigmas, mask, extra_options=options)
        return x0 * mask + self.inner.latent_image * (1.0 - mask)

    def in_host(self, x_t: Tensor, step: int) -> Tensor:
        """Return x_t of the last call, or of a step of the schedule, as ComfyUI holds it."""
        if self._last is not None and self._last[0] is x_t:
            return self._last[1]
        scale = self._call_at(self.levels.schedule.plan.timesteps[step]).scale
        return x_t if scale is None else x_t * scale

    def _call_at(self, t: int) -> _Call:
        if t not in self._calls:
            self._prepare((t,))
        return self._calls[t]

    def _prepare(self, timesteps: Sequence[int]) -> None:
        sigmas = [self.levels.sigmas[t] for t in timesteps]
        scales = [self.levels.coordinates.scale(sigma) for sigma in sigmas]
        scale_tensors = torch.tensor(scales).unbind()  # in host memory, which every device takes as a number
        on_device = torch.tensor(sigmas, dtype=self.noise.dtype).to(self.noise.device)
        rows = on_device[:, None].repeat(1, len(self.noise)).unbind()
        numbers = [None if number == 1.0 else scale for number, scale in zip(scales, scale_tensors, strict=True)]
        calls = map(_Call, sigmas, rows, numbers, map(self.levels.same, timesteps))
        self._calls.update(zip(timesteps, calls, strict=True))

    def _extra_args(self, t: int, call: _Call, keep: Callable[[Tensor], None] | None = None) -> dict[str, Any]:
        """Return what is passed to the model; with more post-CFG hooks as copies, because the run's own are shared.

        ``keep`` takes x_0 of the negative prompt, which is then evaluated at cfg 1 too.
        """
        if call.same and keep is None:
            return self.extra_args
        options = self.extra_args.get("model_options", {})
        hooks = list(options.get("sampler_post_cfg_function", []))
        if keep is not None:
            hooks.append(partial(_keep_unconditional, keep, None if call.same else self._reread(t)))
        if not call.same:
            hooks.append(self._reread(t))
        changed = {**options, "sampler_post_cfg_function": hooks}
        if keep is not None:
            changed["disable_cfg1_optimization"] = True
        return {**self.extra_args, "model_options": changed}

    def _reread(self, t: int) -> PostCFG:
        reread_as = self.levels.reread_as
        assert reread_as is not None, "RunLevels.of refuses such a MODEL at any level but its own"
        return partial(_x0_at_level, self.levels, t, reread_as)

    def _kept_noise(self, t: int, sigma: float) -> Tensor:
        """Return noise with which ComfyUI's ``latent + sigma * noise`` is the kept area at the schedule's level."""
        latent = self.inner.latent_image
        at_level = self.levels.schedule.noise.add_noise(latent, self.noise, t)
        return (at_level * self.levels.coordinates.scale(sigma) - latent) / sigma


def _keep_unconditional(keep: Callable[[Tensor], None], reread: PostCFG | None, args: dict[str, Any]) -> Tensor:
    """Pass on x_0 of the negative prompt, and leave the guided one as it is; a post-CFG hook."""
    unconditional = args["uncond_denoised"]
    keep(unconditional if reread is None else reread({**args, "denoised": unconditional}))
    denoised: Tensor = args["denoised"]
    return denoised


def _x0_at_level(levels: RunLevels, t: int, prediction_type: str, args: dict[str, Any]) -> Tensor:
    """Convert the network's raw output to x_0 at the schedule's level of t; a post-CFG hook."""
    outputs = OutputMap.at(args["model"].model_sampling, args["sigma"], args["input"])
    x_t = args["input"] / levels.coordinates.scale(levels.sigmas[t])
    return predict_x0(outputs.output(args["denoised"]), x_t, levels.alpha_bar(t), prediction_type)


def _after_sampler(sampling: ModelSampling, sigma: Tensor, like: Tensor) -> Tensor:
    """Return the factor by which KSAMPLER multiplies a result: 1 / (1 - sigma) for flow models, else 1."""
    factor: Tensor = sampling.inverse_noise_scaling(sigma, like.new_ones([1] * like.ndim))
    return factor


def _report(
    callback: StepCallback | None, sigmas: Sequence[Tensor], denoiser: _Denoiser, i: int, x_t: Tensor, x0: Tensor
) -> None:
    """Report step i to ComfyUI for previews and progress; raises if the user cancelled the run."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    if callback is not None:
        sigma = sigmas[min(i, len(sigmas) - 1)]
        callback({"x": denoiser.in_host(x_t, i), "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})


def _with_model_channels(model: Patcher, latent: Latent) -> Tensor:
    """Return the samples; of an empty latent with as many channels as the MODEL wants."""
    sizes = {key: latent[key] for key in _channel_arguments() if key in latent}
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], **sizes)


@cache
def _channel_arguments() -> frozenset[str]:
    """Return what this ComfyUI wants to know of a latent: newer versions resize empty ones too."""
    return frozenset(inspect.signature(comfy.sample.fix_empty_latent_channels).parameters)
