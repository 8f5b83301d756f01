"""DDIM Invert: from an image to its noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..ddim import DDIMError, Inversion, Schedule, VarianceNoise, invert, model_calls, rescale_noise_cfg
from .backend import Denoised, Run, SamplingRequest, current, guided_x0
from .editor import inversion_report
from .inputs import LATENT, VARIANCE_NOISE, InputTypes, inputs, number
from .values import SHARE, Conditioning, Guidance, Latent, Model, RecordedNoise

__all__ = ["DDIMInvert"]

MAX_ERRORS_SHOWN = 16  # in the node's text; the report has all


class DDIMInvert:
    """Inversion: finds the noise that an image comes from."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Finds the noise that DDIM KSampler turns into this image, and measures how well the image comes back. Sample "
        "from it with add_noise off and the same schedule and eta: the same prompt reconstructs the image, another "
        "prompt edits it."
    )
    SEARCH_ALIASES = [
        "ddim inversion",
        "invert",
        "unsampler",
        "variance noise",
        "cyclediffusion",
        "edit friendly",
        "ledits",
        "edict",
        "bdia",
        "renoise",
        "fixed point",
        "image to noise",
        "reconstruct",
    ]
    RETURN_TYPES = (LATENT, VARIANCE_NOISE, "FLOAT")
    RETURN_NAMES = ("latent", "variance_noise", "error")
    OUTPUT_TOOLTIPS = (
        "The noise: the latent_image of DDIM KSampler with add_noise off.",
        "The noise of every step and the run that it belongs to: connect it to DDIM KSampler, or save it. Required for "
        "the methods variance_noise, edict and bdia.",
        "Round-trip error of the worst image: root mean square, in latent units.",
    )
    FUNCTION = "invert"
    HAS_INTERMEDIATE_OUTPUT = True  # its report is shown again if a later run takes the node from the cache

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        cfg = number(
            1.0,
            0.0,
            100.0,
            0.1,
            "Guidance scale of the inversion. 1 is best for edits; to reconstruct the image, that of DDIM KSampler.",
        )
        eta = number(
            1.0, 0.0, 1.0, 0.01, "For variance_noise: the eta that DDIM KSampler will have. Other methods use eta 0."
        )
        return {
            "required": {
                **inputs("model", "positive", "negative", "latent_image", "schedule", "method", "seed"),
                "cfg": cfg,
                **inputs("guidance_rescale"),
                "eta": eta,
                **inputs("noise_path", "refinements", "noise_precision"),
            },
            "optional": inputs("guidance_mode", "guidance_start", "guidance_end", "guidance_unit"),
        }

    def invert(
        self,
        model: Model,
        positive: Conditioning,
        negative: Conditioning,
        latent_image: Latent,
        schedule: Schedule,
        method: str,
        seed: int,
        cfg: float,
        guidance_rescale: float,
        eta: float,
        noise_path: str,
        refinements: int,
        noise_precision: str,
        guidance_mode: str = "cfg",
        guidance_start: float = 0.0,
        guidance_end: float = 1.0,
        guidance_unit: str = SHARE,
    ) -> dict[str, Any]:
        guidance = Guidance.of(cfg, guidance_mode, guidance_start, guidance_end, guidance_unit)
        if latent_image.get("noise_mask") is not None:
            raise DDIMError(
                "DDIM Invert inverts whole images: a noise_mask would mix in noise that belongs to no image. Invert "
                "without it, and mask the sampling instead (Set Latent Noise Mask after DDIM Invert)"
            )
        backend = current()
        if guidance_rescale:
            model = backend.with_output_patch(model, partial(rescale_noise_cfg, guidance_rescale=guidance_rescale))
        settings = InversionSettings(
            method=method,
            eta=eta if method == "variance_noise" else 0.0,
            seed=seed,
            noise_path=noise_path,
            refinements=refinements,
            noise_dtype=torch.float16 if noise_precision == "half" else None,
        )
        found: list[Inversion] = []
        request = SamplingRequest(
            model, positive, negative, latent_image, schedule, cfg, seed, add_noise=False, guidance=guidance
        )
        latent, _ = backend.run(request, partial(_invert_run, settings=settings, keep=found.append))
        inversion = _for_socket(found[0], latent["samples"], schedule)
        errors, residual = inversion.residual.sqrt().tolist(), inversion.residual.tolist()
        report = inversion_report(method, errors, residual, _how_to_sample(settings))
        shown = {"ddim_inversion": [report], "text": [_summary(method, errors)]}
        return {"ui": shown, "result": (latent, RecordedNoise.from_inversion(inversion), max(errors))}


@dataclass(frozen=True)
class InversionSettings:
    """How an image is inverted; see :func:`ddim.invert`.

    Attributes:
        method: One of ``INVERSION_METHODS``.
        eta: The eta of sampling from the result.
        seed: Of the path of ``variance_noise``.
        noise_path: One of ``NOISE_PATHS``.
        refinements: The most refinements of a step of ``fixed_point``.
        noise_dtype: Make the recorded noise exact in this dtype.
    """

    method: str
    eta: float
    seed: int
    noise_path: str
    refinements: int
    noise_dtype: torch.dtype | None


def _invert_run(run: Run, settings: InversionSettings, keep: Callable[[Inversion], None]) -> Tensor:
    """Invert with the core over the run's schedule; pass the result to ``keep`` and return its latent, ``(B, ...)``."""
    steps = len(run.schedule.plan)
    model = _ReportingModel(run, steps, model_calls(settings.method, steps, settings.refinements))
    inversion = invert(
        model,
        run.start,
        run.schedule.scheduler(),
        method=settings.method,
        eta=settings.eta,
        seed=settings.seed,
        refinements=settings.refinements,
        noise_path=settings.noise_path,
        noise_dtype=settings.noise_dtype,
        image_indices=run.image_indices,
    )
    model.finish()
    keep(inversion)
    return inversion.latent


@dataclass(eq=False)
class _ReportingModel:
    """The run's model, with progress: a method calls it several times per step, and again to measure the error.

    Attributes:
        run: The run.
        steps: S, the total that the host shows.
        max_calls: The most calls that the method makes.
        calls: Calls so far.
        reported: Steps reported so far.
        last: x_t and x_0 of the last call.
    """

    run: Run
    steps: int
    max_calls: int
    calls: int = 0
    reported: int = 0
    last: tuple[Tensor, Tensor] | None = None

    def __call__(self, x_t: Tensor, t: Tensor) -> Denoised:
        """Return x_0, and report the share of the calls that are done as steps."""
        current().check_cancelled()
        denoised = self.run.denoise(x_t, t)
        x0 = guided_x0(denoised)
        self.calls, self.last = self.calls + 1, (x_t, x0)
        reached = min(self.calls * self.steps // self.max_calls, self.steps)
        if reached > self.reported:
            self.reported = reached
            self.run.report(reached - 1, x_t, x0)
        return denoised

    def finish(self) -> None:
        """Complete the progress bar if fewer calls were needed."""
        if self.reported < self.steps and self.last is not None:
            self.run.report(self.steps - 1, *self.last)


def _for_socket(inversion: Inversion, samples: Tensor, schedule: Schedule) -> Inversion:
    """Return the inversion on the CPU, with the latent that the LATENT holds and the schedule that the node got."""
    noise, second = inversion.variance_noise, inversion.second_latent
    return replace(
        inversion,
        latent=samples.cpu(),
        variance_noise=None if noise is None else noise.cpu().as_subclass(VarianceNoise),
        second_latent=None if second is None else second.cpu(),
        schedule=schedule,
    )


def _how_to_sample(settings: InversionSettings) -> list[str]:
    instructions = {
        "variance_noise": f"Sample with eta {settings.eta:g}, add_noise off, and variance_noise connected.",
        "edict": "Sample with eta 0, add_noise off, and variance_noise connected: it holds the second track.",
        "bdia": "Sample with eta 0, add_noise off, and variance_noise connected: it holds the second sample.",
    }
    return [instructions.get(settings.method, "Sample with eta 0 and add_noise off.")]


def _summary(method: str, errors: list[float]) -> str:
    more = ", ..." if len(errors) > MAX_ERRORS_SHOWN else ""
    return f"{method}: round-trip error {', '.join(f'{error:.3g}' for error in errors[:MAX_ERRORS_SHOWN])}{more}"
