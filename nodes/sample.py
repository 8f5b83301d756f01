"""DDIM KSampler, the all-in-one node, and DDIM Sampler for ComfyUI's custom sampling nodes: one loop for both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ..ddim import DDIMError, Schedule, proximal_guide, rescale_noise_cfg
from .backend import SamplingRequest, current
from .editor import Replay, levels_note, partial_kept
from .inputs import DDIM_STEPS, LATENT, SAMPLER, InputTypes, inputs, planned_here, unless_linked
from .running import run_ddim
from .schedules import plan_of_model
from .values import (
    FROM_SCHEDULE,
    NOISE_MODES,
    PROXIMAL_OFF,
    SHARE,
    Conditioning,
    Guidance,
    Latent,
    Model,
    RecordedNoise,
    SamplerSettings,
    check_source,
    is_noisy,
)

__all__ = ["DDIMSample", "DDIMSampler"]

INVERSION = "variance_noise"
BRING_SCHEDULE = ("schedule", INVERSION)


class DDIMSample:
    """A whole DDIM run in one node, like KSampler."""

    CATEGORY = "DDIM/sampling"
    DESCRIPTION = (
        "Samples with DDIM: like KSampler, with the steps of a DDIM Schedule, exact zero SNR, guidance rescale, eta, "
        "and step noise that is the same for an image alone and in a batch. Works with epsilon, v-prediction, x0, flow "
        "(Flux, SD3, Qwen-Image, Z-Image, Wan) and EDM (SVD, Cosmos) models."
    )
    SEARCH_ALIASES = ["ddim", "ksampler", "sampler", "eta", "zero snr", "ztsnr", "v-pred", "cfg rescale", "trailing"]
    SEARCH_ALIASES += ["variance noise", "img2img", "inpaint", "flow", "flux", "sd3", "wan"]
    SEARCH_ALIASES += ["cfg++", "cfg pp", "guidance interval", "negative-prompt inversion", "npi", "proxnpi"]
    RETURN_TYPES = (LATENT, LATENT, DDIM_STEPS)
    RETURN_NAMES = ("latent", "denoised", "steps")
    OUTPUT_TOOLTIPS = (
        "The result.",
        "The clean image that the last step predicted: the same as the result at the end of a schedule, a preview of "
        "it if the schedule stops early.",
        "What each step predicted, for DDIM Step Strip.",
    )
    FUNCTION = "sample"
    HAS_INTERMEDIATE_OUTPUT = True  # its replay is shown again if a later run takes the node from the cache

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {
            "required": inputs("model", "positive", "negative", "latent_image"),
            "optional": {
                **inputs("seed"),
                **planned_here("steps", unless=BRING_SCHEDULE),
                **inputs("cfg"),
                **planned_here("timestep_spacing", "denoise", unless=BRING_SCHEDULE),
                **unless_linked(inputs("eta"), INVERSION),
                **inputs("guidance_rescale"),
                **planned_here("schedule"),
                **inputs("variance_noise", "source"),
                **inputs("guidance_mode", "guidance_start", "guidance_end", "guidance_unit"),
                **unless_linked(inputs("add_noise"), INVERSION),
                **inputs("x0_processing", "clip_sample_range", "dynamic_thresholding_ratio"),
                **inputs("sample_max_value", "use_clipped_model_output", "noise_mode"),
                **inputs("proximal", "proximal_quantile"),
            },
        }

    def sample(
        self,
        model: Model,
        positive: Conditioning,
        negative: Conditioning,
        latent_image: Latent,
        seed: int = 0,
        steps: int = 20,
        cfg: float = 7.5,
        timestep_spacing: str = "trailing",
        denoise: float = 1.0,
        eta: float = 0.0,
        guidance_rescale: float = 0.0,
        schedule: Schedule | None = None,
        variance_noise: RecordedNoise | None = None,
        source: Conditioning | None = None,
        guidance_mode: str = "cfg",
        guidance_start: float = 0.0,
        guidance_end: float = 1.0,
        guidance_unit: str = SHARE,
        add_noise: bool = True,
        x0_processing: str = FROM_SCHEDULE,
        clip_sample_range: float = 1.0,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        use_clipped_model_output: bool = False,
        noise_mode: str = NOISE_MODES[0],
        proximal: str = PROXIMAL_OFF,
        proximal_quantile: float = 0.7,
    ) -> dict[str, Any]:
        if variance_noise is not None:
            schedule, eta = schedule or variance_noise.schedule, variance_noise.eta
        schedule = schedule or plan_of_model(current().model_facts(model), steps, timestep_spacing, denoise)
        add_noise = not is_noisy(latent_image, variance_noise, eta) and add_noise
        guidance = Guidance.of(
            cfg, guidance_mode, guidance_start, guidance_end, guidance_unit, rederive=use_clipped_model_output
        )
        settings = SamplerSettings(eta, x0_processing, use_clipped_model_output=use_clipped_model_output)
        settings = replace(settings, noise_mode=noise_mode, variance_noise=variance_noise)
        settings = replace(settings, clip_sample_range=clip_sample_range, sample_max_value=sample_max_value)
        settings = replace(settings, dynamic_thresholding_ratio=dynamic_thresholding_ratio)
        check_source(source, proximal, settings, guidance)
        model = _guided(model, guidance_rescale, proximal, proximal_quantile)
        negative = source or negative
        return _run(
            SamplingRequest(
                model, positive, negative, latent_image, schedule, cfg, seed, add_noise=add_noise, guidance=guidance
            ),
            settings,
        )


def _guided(model: Model, guidance_rescale: float, proximal: str, proximal_quantile: float) -> Model:
    """Return the MODEL with the guidance that a node asks for."""
    backend = current()
    if proximal != PROXIMAL_OFF:
        combine = partial(proximal_guide, quantile_kept=proximal_quantile, operator=proximal)
        model = backend.with_guidance(model, combine)
    if guidance_rescale:
        model = backend.with_output_patch(model, partial(rescale_noise_cfg, guidance_rescale=guidance_rescale))
    return model


def _run(request: SamplingRequest, settings: SamplerSettings) -> dict[str, Any]:
    """Sample, and keep the steps for their replay in the editor, with notes for the user."""
    backend = current()
    replay = Replay(request.schedule, partial(backend.latent_to_rgb, request.model))
    with partial_kept(replay):
        latent, denoised = backend.run(request, partial(run_ddim, settings=settings, on_step=replay.add))
    notes = levels_note(request.schedule, backend.model_facts(request.model))
    shown = {"ddim_replay": replay.sheets(backend.folder("temp")), "ddim_notes": notes}
    return {"ui": shown, "result": (latent, denoised, replay.frames())}


class DDIMSampler:
    """DDIM with all its options as a SAMPLER, for SamplerCustom and SamplerCustomAdvanced."""

    CATEGORY = "DDIM/sampling"
    DESCRIPTION = (
        "DDIM for SamplerCustom and SamplerCustomAdvanced: steps over whatever SIGMAS it is given, from DDIM Schedule "
        "or from any stock scheduler, with eta, clipping, and noise that is the same for an image alone and in a batch."
    )
    SEARCH_ALIASES = ["ddim", "eta", "sampler", "variance noise", "dynamic thresholding", "clip sample", "ddpm"]
    RETURN_TYPES = (SAMPLER,)
    RETURN_NAMES = ("sampler",)
    OUTPUT_TOOLTIPS = ("For SamplerCustom, SamplerCustomAdvanced and other nodes that take a SAMPLER.",)
    FUNCTION = "build"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        names, options = inputs("x0_processing")["x0_processing"]
        return {
            "required": {},
            "optional": {
                **unless_linked(inputs("eta"), INVERSION),
                # SIGMAS bring no config, so there is nothing "from schedule".
                "x0_processing": ([name for name in names if name != FROM_SCHEDULE], {**options, "default": "none"}),
                **inputs(
                    "clip_sample_range",
                    "dynamic_thresholding_ratio",
                    "sample_max_value",
                    "use_clipped_model_output",
                    "noise_mode",
                    "variance_noise",
                ),
            },
        }

    def build(
        self,
        eta: float = 0.0,
        x0_processing: str = "none",
        clip_sample_range: float = 1.0,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        use_clipped_model_output: bool = False,
        noise_mode: str = NOISE_MODES[0],
        variance_noise: RecordedNoise | None = None,
    ) -> tuple[object]:
        if variance_noise is not None and variance_noise.noise is None:
            raise DDIMError(
                "this inversion recorded no noise, so a SAMPLER cannot use it: sample its latent at eta 0 without "
                "variance_noise, or, for methods edict and bdia, with DDIM KSampler"
            )
        settings = SamplerSettings(
            eta=eta if variance_noise is None else variance_noise.eta,
            x0_processing=x0_processing,
            clip_sample_range=clip_sample_range,
            dynamic_thresholding_ratio=dynamic_thresholding_ratio,
            sample_max_value=sample_max_value,
            use_clipped_model_output=use_clipped_model_output,
            noise_mode=noise_mode,
            variance_noise=variance_noise,
        )
        return (current().make_sampler(partial(run_ddim, settings=settings), add_noise=settings.inversion is None),)
