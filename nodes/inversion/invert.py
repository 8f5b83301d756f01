"""DDIM Invert: from an image to its noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...ddim import NOISE_PATHS, DDIMError, Inversion, Schedule, VarianceNoise, invert, model_calls, rescale_noise_cfg
from ..backend import Denoised, Run, SamplingRequest, current, guided_x0, with_output_of
from ..editor import inversion_report
from ..inputs import LATENT, VARIANCE_NOISE, Input, InputTypes, applies, inputs, number, planned_here
from ..schedules import plan_of_model
from ..values import (
    SHARE,
    Conditioning,
    Guidance,
    Latent,
    Model,
    RecordedNoise,
    mark_inverted,
    needs_recorded_noise,
)

__all__ = ["DDIMInvert"]

MAX_ERRORS_SHOWN = 16  # in the node's text; the report has all
AFTERWARDS = {  # what the report says, by whether the method needs what it recorded
    True: "Connect latent and the inversion (variance_noise) to DDIM KSampler. It takes schedule and eta from there "
    "and adds no noise.",
    False: "Connect latent to DDIM KSampler, which adds no noise to it. Use eta 0 and the same steps, or connect the "
    "inversion (variance_noise) too, which brings both.",
}


class DDIMInvert:
    """Inversion: finds the noise that an image comes from."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Finds the noise that DDIM KSampler turns into this image, and measures how well the image comes back. Connect "
        "latent and inversion (variance_noise) to DDIM KSampler: the same prompt reconstructs the image, another "
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
        "The noise. Connect it to latent_image of DDIM KSampler, which adds no noise to it.",
        "What the inversion recorded, with its schedule and eta: connect it to DDIM KSampler, or save it. Required for "
        "the methods variance_noise, edict and bdia.",
        "Round-trip error of the worst image: root mean square, in latent units.",
    )
    FUNCTION = "invert"
    HAS_INTERMEDIATE_OUTPUT = True  # its report is shown again if a later run takes the node from the cache

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        noise = {"eta": _eta(), "seed": _seed()}
        noise = applies({**noise, **inputs("noise_path", "noise_precision")}, method=["variance_noise"])
        return {
            "required": inputs("model", "positive", "negative", "latent_image"),
            "optional": {
                **planned_here("schedule"),
                **inputs("method"),
                **planned_here("steps", "timestep_spacing"),
                "seed": noise["seed"],
                "cfg": number(
                    1.0,
                    0.0,
                    100.0,
                    0.1,
                    "Guidance scale of the inversion. Use 1 for edits. To reconstruct the image, use the cfg of DDIM "
                    "KSampler.",
                ),
                **inputs("guidance_rescale"),
                "eta": noise["eta"],
                "noise_path": noise["noise_path"],
                **applies(inputs("refinements"), method=["fixed_point"]),
                "noise_precision": noise["noise_precision"],
                **inputs("guidance_mode", "guidance_start", "guidance_end", "guidance_unit"),
            },
        }

    def invert(
        self,
        model: Model,
        positive: Conditioning,
        negative: Conditioning,
        latent_image: Latent,
        schedule: Schedule | None = None,
        method: str = "variance_noise",
        steps: int = 20,
        timestep_spacing: str = "trailing",
        seed: int = 0,
        cfg: float = 1.0,
        guidance_rescale: float = 0.0,
        eta: float = 1.0,
        noise_path: str = NOISE_PATHS[0],
        refinements: int = 4,
        noise_precision: str = "half",
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
        facts = backend.model_facts(model)
        schedule = schedule or plan_of_model(facts, steps, timestep_spacing, denoise=1.0)
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
        # Whoever samples a saved inversion reads the output of the network as it was read here.
        inversion = _for_socket(found[0], latent["samples"], with_output_of(schedule, facts.prediction_type))
        marked, recorded = mark_inverted(latent, method), RecordedNoise.from_inversion(inversion)
        return {"ui": _shown(inversion), "result": (marked, recorded, float(inversion.residual.max().sqrt()))}


def _seed() -> Input:
    """Define a seed that stays as it is from run to run: each new one would invert again."""
    kind, options = inputs("seed")["seed"]
    tooltip = "Seed of the recorded noise; for the method variance_noise."
    return kind, {**options, "tooltip": tooltip, "control_after_generate": False}


def _eta() -> Input:
    return number(
        1.0,
        0.0,
        1.0,
        0.01,
        "For variance_noise: the eta that DDIM KSampler then samples with. Other methods use eta 0.",
    )


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


def _shown(inversion: Inversion) -> dict[str, list[Any]]:
    """Return what the editor shows under the node."""
    method, errors = inversion.method, inversion.residual.sqrt().tolist()
    notes = [AFTERWARDS[needs_recorded_noise(method)]]
    report = inversion_report(method, errors, inversion.residual.tolist(), notes)
    return {"ddim_inversion": [report], "text": [_summary(method, errors)]}


def _summary(method: str, errors: list[float]) -> str:
    more = ", ..." if len(errors) > MAX_ERRORS_SHOWN else ""
    return f"{method}: round-trip error {', '.join(f'{error:.3g}' for error in errors[:MAX_ERRORS_SHOWN])}{more}"
