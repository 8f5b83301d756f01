"""The one door between the nodes and whatever runs them.

What the nodes need from a host, and nothing else:

    model_facts(model)                          what a MODEL says of itself: noise levels, sigmas, prediction type
    with_levels(model, noise, prediction_type)  a MODEL with other noise levels
    with_output_patch(model, patch)             a MODEL whose guided output goes through ``patch(guided, conditional)``
    model_from_network(network, config)         a MODEL made of a plain network (the demo's)
    make_sampler(settings)                      a SAMPLER
    run(model, ..., work)                       call ``work(Run)`` where the MODEL can be evaluated: conditions,
                                                guidance, patches, masks, progress, previews, Cancel are the host's
    folder(kind)                                directories: "input", "output", "temp", "models"
    save_path(prefix)                           where the next numbered output file goes
    add_route(method, path, handler)            an HTTP route of the pack
    pictures(model, latent)                     roughly what latents show, without a decoder
    check_cancelled()                           raise when the person has pressed Cancel

Two files answer them: ``bridge_comfyui`` inside ComfyUI, ``bridge_embedded`` elsewhere. Everything else in this file is
the same in both, so that both give the same pictures: the initial noise, the start of a run, sigmas, settings.

Coordinates: a LATENT of these nodes that still holds noise is in DDIM's own coordinates,
x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, scaled as the host scales latents.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..ddim import (
    DDIMError,
    DDIMScheduler,
    NoiseSchedule,
    Schedule,
    SchedulerConfig,
)
from .bridge_sigmas import schedule_from_sigmas, schedule_sigmas, sigmas_of_levels
from .sockets import FROM_SCHEDULE, SamplerSettings

__all__ = [
    "ModelFacts",
    "Run",
    "Sampled",
    "add_route",
    "check_cancelled",
    "folder",
    "initial_noise",
    "make_sampler",
    "model_facts",
    "model_from_network",
    "pictures",
    "run",
    "save_path",
    "schedule_from_sigmas",
    "schedule_sigmas",
    "sigmas_of_levels",
    "spoken_by",
    "step_noise",
    "with_levels",
    "with_output_patch",
    "with_settings",
]


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """What a MODEL says of itself.

    Attributes:
        alpha_bar: float64 CPU, shape ``(T,)``; exactly 0 at the end of a zero-SNR model.
        sigmas: its own sigma table, float32 CPU, shape ``(T,)``.
        prediction_type: ``"epsilon"``, ``"sample"``, ``"v_prediction"``, or None where it is neither of them.
    """

    alpha_bar: Tensor
    sigmas: Tensor
    prediction_type: str | None


@dataclass(frozen=True, eq=False)
class Run:
    """What ``work`` gets: a model that can be called, and where the run starts.

    Attributes:
        denoise: ``denoise(x_t, t) -> x_0``: everything that the host does around the network, guidance and masks
            included. x_t is ``(B, ...)`` in DDIM's coordinates; t a timestep of the schedule.
        latent: the clean (or, without add_noise, already noisy) latents, ``(B, ...)``, as the model scales them.
        noise: the initial noise, same shape.
        schedule: the run's schedule, with ``prediction_type="sample"``: what ``denoise`` answers with.
        report: ``report(i, x_t, x_0)`` after step i of the schedule: progress, preview, Cancel (raises).
        image_indices: which image of the run each row is.
        seed: the run's seed.
    """

    denoise: Callable[[Tensor, Any], Tensor]
    latent: Tensor
    noise: Tensor
    schedule: Schedule
    report: Callable[[int, Tensor, Tensor], None]
    image_indices: tuple[int, ...]
    seed: int

    def start(self, *, add_noise: bool = True) -> Tensor:
        """x_t of the first step: the latent as it is, or with the initial noise added.

        An empty latent (all zeros) at the beginning of a plan is pure noise, as in diffusers: the few per mille of a
        picture that the first level may still hold are not known.
        """
        if not add_noise:
            return self.latent
        if self.schedule.plan.first == 0 and not self.latent.any():
            return self.noise
        first = torch.tensor(self.schedule.plan.timesteps[0])
        return self.schedule.scheduler().add_noise(self.latent, self.noise, first)


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a run gives: LATENT dictionaries of the result and of the last predicted x_0."""

    latent: dict[str, Any]
    denoised: dict[str, Any]


def run(
    model: Any,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    schedule: Schedule,
    work: Callable[[Run], Tensor],
    *,
    cfg: float,
    seed: int,
) -> Sampled:
    """Evaluate ``work`` with the MODEL ready.

    Args:
        model: MODEL.
        positive: CONDITIONING.
        negative: CONDITIONING; not evaluated at cfg 1.
        latent: LATENT, ``samples`` of shape ``(B, C, ...)``; keys that are not known here are kept.
        schedule: DDIM_SCHEDULE; its levels are what the network is told, whatever the MODEL's own are.
        work: called once.
        cfg: guidance scale.
        seed: of the initial noise.

    Raises:
        DDIMError: before any evaluation, where MODEL, latent and schedule do not fit.
    """
    _check_latent(latent)
    samples, x0 = _host().run(model, positive, negative, latent, schedule, work, cfg, seed)
    return Sampled({**latent, "samples": samples}, {**latent, "samples": x0})


def model_facts(model: Any) -> ModelFacts:
    """What the MODEL says of itself. Raises DDIMError for a flow model."""
    return _host().model_facts(model)


def with_levels(model: Any, noise: NoiseSchedule, prediction_type: str) -> Any:
    """A copy of MODEL with other noise levels and prediction type, for every sampler that comes after."""
    return _host().with_levels(model, noise, prediction_type)


def with_output_patch(model: Any, patch: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """A copy of MODEL whose guided output is replaced by ``patch(guided, conditional)``.

    Both are in the model's own output space (epsilon, v, x_0 or flow), shape ``(B, ...)``. Patches stack.
    """
    return _host().with_output_patch(model, patch)


def model_from_network(network: torch.nn.Module, config: SchedulerConfig) -> Any:
    """A MODEL of a pixel-space network ``network(x, timestep, label_weights)``, with RGB latents in [-1, 1]."""
    return _host().model_from_network(network, config)


def make_sampler(settings: SamplerSettings) -> Any:
    """A SAMPLER that steps over whatever SIGMAS it is given."""
    return _host().make_sampler(settings)


def folder(kind: str) -> str:
    """The host's directory for ``"input"``, ``"output"``, ``"temp"`` or ``"models"``."""
    return _host().folder(kind)


def save_path(prefix: str) -> tuple[str, str, int, str]:
    """Folder, file name, next number and sub-folder for an output named ``prefix``; never outside the output folder."""
    return _host().save_path(prefix)


def add_route(method: str, path: str, handler: Callable[..., Any]) -> None:
    """Serve ``handler`` (aiohttp's) under ``method`` and ``path``; does nothing where no server runs."""
    _host().add_route(method, path, handler)


def pictures(model: Any, latent: Tensor) -> Tensor | None:
    """Roughly what latents show, without a decoder.

    Args:
        model: MODEL.
        latent: ``(B, C, ...)``, scaled as the model scales them.

    Returns:
        ``(B, 3, ...)`` float32 CPU, about [-1, 1]; None where the MODEL's latents have no known colours.
    """
    return _host().pictures(model, latent)


def check_cancelled() -> None:
    """Raise the host's interruption when the person has pressed Cancel."""
    _host().check_cancelled()


def _host() -> ModuleType:
    """The file that answers: ComfyUI's where this process is ComfyUI."""
    if "comfy.samplers" in sys.modules:
        from . import bridge_comfyui

        return bridge_comfyui
    from . import bridge_embedded

    return bridge_embedded


# -- the same in both hosts ----------------------------------------------------------------------------------


def initial_noise(shape: Sequence[int], seed: int, batch_index: Sequence[int] | None = None) -> Tensor:
    """The noise that KSampler starts from, float32 CPU, without touching the global generator.

    Args:
        shape: ``(B, ...)``.
        seed: any whole number that fits 64 bits.
        batch_index: which image of a larger batch each row is; rows with the same index get the same noise.
    """
    generator = torch.Generator().manual_seed(seed)
    if batch_index is None:
        return torch.randn(tuple(shape), generator=generator)
    drawn = [torch.randn((1, *shape[1:]), generator=generator) for _ in range(max(batch_index) + 1)]
    return torch.cat([drawn[index] for index in batch_index])


def image_indices(latent: dict[str, Any]) -> tuple[int, ...]:
    """Which image of the run each row of a LATENT is."""
    given = latent.get("batch_index")
    return tuple(range(len(latent["samples"]))) if given is None else tuple(int(index) for index in given)


def spoken_by(facts: ModelFacts, schedule: Schedule) -> str | None:
    """What the network's raw output is: the MODEL's word, unless the schedule says v_prediction or sample.

    Returns:
        A prediction type, or None for a MODEL that is neither of them: then only its own levels can be used.

    Raises:
        DDIMError: for an epsilon model on a schedule that visits zero SNR.
    """
    wanted = schedule.config.prediction_type
    spoken = facts.prediction_type if wanted == "epsilon" else wanted
    if spoken is not None:
        checked = replace(schedule, config=replace(schedule.config, prediction_type=spoken)).scheduler()
        for index in range(len(schedule.plan)):
            checked.coefficients(index)
    return spoken


def with_settings(schedule: Schedule, settings: SamplerSettings) -> DDIMScheduler:
    """A scheduler for a :class:`Run`: its plan, x_0 given directly, clipped as the settings say."""
    config = replace(schedule.config, prediction_type="sample")
    if settings.x0_processing != FROM_SCHEDULE:
        config = replace(
            config,
            clip_sample=settings.x0_processing == "clip",
            thresholding=settings.x0_processing == "threshold",
            clip_sample_range=settings.clip_sample_range,
            dynamic_thresholding_ratio=settings.dynamic_thresholding_ratio,
            sample_max_value=settings.sample_max_value,
        )
    return replace(schedule, config=config).scheduler()


def step_noise(settings: SamplerSettings, schedule: Schedule, seed: int, shape: Sequence[int]) -> dict[str, Any]:
    """The source of step noise, as the arguments of ``ddim.sample`` name it.

    Raises:
        DDIMError: if the settings bring noise that was made for another run.
    """
    if settings.variance_noise is not None:
        settings.variance_noise.check(schedule.alpha_bars, settings.eta, shape)
        noise = settings.variance_noise.noise
        return {} if noise is None else {"variance_noise": noise}
    if settings.noise_mode == "stream":
        return {"generator": torch.Generator().manual_seed((seed + 1) % 2**64)}
    return {"seed": seed}


def _check_latent(latent: dict[str, Any]) -> None:
    samples = latent.get("samples")
    if not isinstance(samples, Tensor) or getattr(samples, "is_nested", False):
        raise DDIMError(
            f"latent_image must hold one tensor of samples, got {type(samples).__name__}; latents of "
            "several streams (picture and sound) belong to flow models: use the stock KSampler"
        )
    given = latent.get("batch_index")
    if given is not None and len(given) != len(samples):
        raise DDIMError(f"latent_image has {len(samples)} images and names {len(given)} of a batch (batch_index)")
