"""The all-in-one sampler."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ..ddim import DDIMError, Schedule, reconstruct, rescale_noise_cfg, sample
from .bridge import Run, folder, pictures, run, step_noise, with_output_patch, with_settings
from .replay import Replay
from .sockets import LATENT, SamplerSettings, VarianceNoise, inputs

__all__ = ["DDIMSample"]


class DDIMSample:
    """A whole DDIM run, for people who come from KSampler."""

    CATEGORY = "DDIM/sampling"
    DESCRIPTION = (
        "Samples with DDIM: like KSampler, with the steps of a DDIM Schedule, exact zero SNR, guidance rescale, eta "
        "and step noise that belongs to the image. Takes epsilon, v-prediction and x0 models; for flow models (Flux, "
        "SD3) use KSampler with euler."
    )
    SEARCH_ALIASES = [
        "ddim",
        "ksampler",
        "sampler",
        "eta",
        "zero snr",
        "ztsnr",
        "v-pred",
        "cfg rescale",
        "trailing",
        "variance noise",
        "img2img",
        "inpaint",
    ]
    RETURN_TYPES = (LATENT, LATENT)
    RETURN_NAMES = ("latent", "denoised")
    OUTPUT_TOOLTIPS = (
        "The result.",
        "The clean picture that the last step predicted: the same as the result at the end of a schedule, a preview of "
        "it when the schedule stops early.",
    )
    FUNCTION = "sample"
    HAS_INTERMEDIATE_OUTPUT = True  # what it shows is shown again when a run finds it in the cache

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": inputs(
                "model",
                "positive",
                "negative",
                "latent_image",
                "schedule",
                "seed",
                "cfg",
                "guidance_rescale",
                "eta",
                "add_noise",
                "x0_processing",
                "clip_sample_range",
                "dynamic_thresholding_ratio",
                "sample_max_value",
                "use_clipped_model_output",
                "noise_mode",
            ),
            "optional": inputs("variance_noise"),
        }

    def sample(
        self,
        model: Any,
        positive: list,
        negative: list,
        latent_image: dict[str, Any],
        schedule: Schedule,
        seed: int,
        cfg: float,
        guidance_rescale: float,
        eta: float,
        add_noise: bool,
        x0_processing: str,
        clip_sample_range: float,
        dynamic_thresholding_ratio: float,
        sample_max_value: float,
        use_clipped_model_output: bool,
        noise_mode: str,
        variance_noise: VarianceNoise | None = None,
    ) -> dict[str, Any]:
        settings = SamplerSettings(
            eta,
            x0_processing,
            clip_sample_range,
            dynamic_thresholding_ratio,
            sample_max_value,
            use_clipped_model_output,
            noise_mode,
            variance_noise,
        )
        replay = Replay(schedule, partial(pictures, model))
        if guidance_rescale:
            model = with_output_patch(model, partial(rescale_noise_cfg, guidance_rescale=guidance_rescale))
        work = partial(_sample, settings=settings, add_noise=add_noise, replay=replay)
        done = run(model, positive, negative, latent_image, schedule, work, cfg=cfg, seed=seed)
        return {"ui": {"ddim_replay": replay.sheets(folder("temp"))}, "result": (done.latent, done.denoised)}


def _sample(at: Run, *, settings: SamplerSettings, add_noise: bool, replay: Replay) -> Tensor:
    """The core's loop over the run's schedule, (B, ...)."""

    def after_step(i: int, t: Any, x_t: Tensor, x0: Tensor) -> None:
        at.report(i, x_t, x0)
        replay.add(i, x0)

    scheduler, noise = with_settings(at.schedule, settings), step_noise(settings, at.schedule, at.seed, at.latent.shape)
    inversion = None if settings.variance_noise is None else settings.variance_noise.inversion
    if inversion is not None and add_noise:
        raise DDIMError("variance_noise belongs to an inverted latent, which is noisy already: turn add_noise off")
    clipped = settings.use_clipped_model_output
    if inversion is not None and inversion.second_latent is not None:
        tracks = replace(
            inversion, latent=at.latent, second_latent=inversion.second_latent.to(at.latent), schedule=at.schedule
        )
        return reconstruct(at.denoise, tracks, scheduler, callback=after_step, use_clipped_model_output=clipped)
    return sample(
        at.denoise,
        at.start(add_noise=add_noise),
        scheduler,
        eta=settings.eta,
        use_clipped_model_output=clipped,
        image_indices=at.image_indices,
        callback=after_step,
        **noise,
    )
