"""From a picture to its noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..ddim import DDIMError, Inversion, Schedule, invert, model_calls, rescale_noise_cfg
from .bridge import Run, check_cancelled, run, with_output_patch, with_settings
from .sockets import LATENT, VARIANCE_NOISE, SamplerSettings, VarianceNoise, inputs, number
from .ui_payloads import inversion_report

__all__ = ["DDIMInvert"]


class DDIMInvert:
    """Inversion: the noise that a picture came from."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Finds the noise that DDIM Sample turns into this picture, and says how well it comes back. Sample from it "
        "with add_noise off, the same schedule and the same eta: with the same prompt the picture comes back, with "
        "another one it is edited."
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
        "renoise",
        "fixed point",
        "image to noise",
        "reconstruct",
    ]
    RETURN_TYPES = (LATENT, VARIANCE_NOISE, "FLOAT")
    RETURN_NAMES = ("latent", "variance_noise", "error")
    OUTPUT_TOOLTIPS = (
        "The noise: the latent_image of DDIM Sample with add_noise off.",
        "The noise of every step and what it belongs to: connect it to DDIM Sample, or save it. Needed for "
        "variance_noise and edict.",
        "Round-trip error of the worst picture: root mean square, in latent units.",
    )
    FUNCTION = "invert"
    HAS_INTERMEDIATE_OUTPUT = True  # what it shows is shown again when a run finds it in the cache

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        cfg = number(
            1.0, 0.0, 100.0, 0.1, "Guidance scale while inverting. 1 is best for edits; for the way back to the same "
            "picture it must be that of DDIM Sample."
        )  # fmt: skip
        eta = number(
            1.0, 0.0, 1.0, 0.01, "For variance_noise: the eta that DDIM Sample will have. Others are at eta 0."
        )
        return {
            "required": {
                **inputs("model", "positive", "negative", "latent_image", "schedule", "method", "seed"),
                "cfg": cfg,
                **inputs("guidance_rescale"),
                "eta": eta,
                **inputs("noise_path", "refinements", "noise_precision"),
            }
        }

    def invert(
        self,
        model: Any,
        positive: list,
        negative: list,
        latent_image: dict[str, Any],
        schedule: Schedule,
        method: str,
        seed: int,
        cfg: float,
        guidance_rescale: float,
        eta: float,
        noise_path: str,
        refinements: int,
        noise_precision: str,
    ) -> dict[str, Any]:
        if latent_image.get("noise_mask") is not None:
            raise DDIMError(
                "DDIM Invert inverts whole pictures: a noise_mask would mix in noise that belongs to no picture. "
                "Invert without it, and mask the sampling instead (Set Latent Noise Mask after DDIM Invert)"
            )
        if guidance_rescale:
            model = with_output_patch(model, partial(rescale_noise_cfg, guidance_rescale=guidance_rescale))
        options = {
            "method": method,
            "eta": eta if method == "variance_noise" else 0.0,
            "seed": seed,
            "noise_path": noise_path,
            "refinements": refinements,
            "noise_dtype": torch.float16 if noise_precision == "half" else None,
        }
        found: list[Inversion] = []
        work = partial(_invert, options=options, keep=found.append)
        done = run(model, positive, negative, latent_image, schedule, work, cfg=cfg, seed=seed)
        inversion = _at_rest(found[0], done.latent["samples"], schedule)
        errors = inversion.residual.sqrt().tolist()
        report = inversion_report(method, errors, inversion.residual.tolist(), _notes(method, eta))
        result = (done.latent, VarianceNoise.of(inversion), max(errors))
        return {"ui": {"ddim_inversion": [report], "text": [_told(method, errors)]}, "result": result}


def _invert(at: Run, *, options: dict[str, Any], keep: Callable[[Inversion], None]) -> Tensor:
    """The core's inversion over the run's schedule; the latent, (B, ...)."""
    steps = len(at.schedule.plan)
    model = _Reporting(at, steps, model_calls(options["method"], steps, options["refinements"]))
    scheduler = with_settings(at.schedule, SamplerSettings())
    found = invert(model, at.latent, scheduler, image_indices=at.image_indices, **options)
    model.finish()
    keep(found)
    return found.latent


@dataclass(eq=False)
class _Reporting:
    """The run's model, with progress: a method calls it several times per step, and once more to measure the error.

    Attributes:
        at: the run.
        steps: S, what the host shows as the whole.
        calls: how many calls the method makes at most.
        done: calls so far.
        shown: steps reported so far.
        last: what was seen last: x_t and x_0.
    """

    at: Run
    steps: int
    calls: int
    done: int = 0
    shown: int = 0
    last: tuple[Tensor, Tensor] | None = None

    def __call__(self, x_t: Tensor, t: Any) -> Tensor:
        check_cancelled()
        x0 = self.at.denoise(x_t, t)
        self.done, self.last = self.done + 1, (x_t, x0)
        reached = min(self.done * self.steps // self.calls, self.steps)
        if reached > self.shown:
            self.shown = reached
            self.at.report(reached - 1, x_t, x0)
        return x0

    def finish(self) -> None:
        """Fill the bar where fewer calls were needed."""
        if self.shown < self.steps and self.last is not None:
            self.at.report(self.steps - 1, *self.last)


def _at_rest(found: Inversion, samples: Tensor, schedule: Schedule) -> Inversion:
    """The inversion as it waits on a socket: on the CPU, its latent as LATENT has it, the schedule as it was given."""
    noise, second = found.variance_noise, found.second_latent
    return replace(
        found,
        latent=samples.cpu(),
        variance_noise=None if noise is None else noise.cpu(),
        second_latent=None if second is None else second.cpu(),
        schedule=schedule,
    )


def _notes(method: str, eta: float) -> list[str]:
    return {
        "variance_noise": [f"Sample with eta {eta:g}, add_noise off, and variance_noise connected."],
        "edict": ["Sample with eta 0, add_noise off, and variance_noise connected: it holds the second track."],
    }.get(method, ["Sample with eta 0 and add_noise off."])


def _told(method: str, errors: list[float]) -> str:
    listed = ", ".join(f"{error:.3g}" for error in errors[:16]) + (", ..." if len(errors) > 16 else "")
    return f"{method}: round-trip error {listed}"
