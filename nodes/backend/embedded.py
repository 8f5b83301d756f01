"""What the embedded host answers to the list at the top of ``bridge``. Only this file names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from host import context, engine

from ..ddim import DDIMError, NoiseSchedule, Schedule, SchedulerConfig, guide, make_schedule, predict_x0
from .bridge import ModelFacts, Run, image_indices, initial_noise, sigmas_of_levels, spoken_by
from .sockets import SamplerSettings

__all__ = [
    "add_route",
    "check_cancelled",
    "folder",
    "make_sampler",
    "model_facts",
    "model_from_network",
    "pictures",
    "run",
    "save_path",
    "with_levels",
    "with_output_patch",
]


def model_facts(model: engine.Model) -> ModelFacts:
    """Read the engine's model."""
    if not isinstance(model, engine.Model):
        raise DDIMError(f"model must come from a node that loads one, got {type(model).__name__}")
    return ModelFacts(model.alpha_bar, sigmas_of_levels(model.alpha_bar), model.prediction_type)


def with_levels(model: engine.Model, noise: NoiseSchedule, prediction_type: str) -> engine.Model:
    """A copy with other levels."""
    return replace(model, alpha_bar=noise.alpha_bar, prediction_type=prediction_type)


def with_output_patch(model: engine.Model, patch: Callable[[Tensor, Tensor], Tensor]) -> engine.Model:
    """A copy with one more patch."""
    return replace(model, output_patches=(*model.output_patches, patch))


def model_from_network(network: torch.nn.Module, config: SchedulerConfig) -> engine.Model:
    """The engine's model."""
    return engine.Model(network, make_schedule(1, config).noise.alpha_bar, config.prediction_type)


def make_sampler(settings: SamplerSettings) -> SamplerSettings:
    """The settings themselves: the nodes that take a SAMPLER are ComfyUI's."""
    return settings


def run(
    model: engine.Model,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    schedule: Schedule,
    work: Callable[[Run], Tensor],
    cfg: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Call ``work`` with the network, guided, patched and masked as ComfyUI does it."""
    facts = model_facts(model)
    spoken = spoken_by(facts, schedule)
    clean = latent["samples"].float()
    noise = initial_noise(clean.shape, seed, latent.get("batch_index"))
    schedule = replace(schedule, config=replace(schedule.config, prediction_type="sample"))
    mask = engine.latent_mask(latent.get("noise_mask"), clean)
    conditional = engine.label_rows(positive, len(clean))
    unconditional = None if cfg == 1.0 else engine.label_rows(negative, len(clean))
    last: list[Tensor] = []

    def denoise(x_t: Tensor, t: Any) -> Tensor:
        context.check_cancelled()
        level = schedule.noise.alpha_bar_at(int(t))
        if mask is not None:
            kept = schedule.scheduler().add_noise(clean, noise, torch.tensor(int(t)))
            x_t = x_t * mask + kept * (1 - mask)
        output = _guided(model, x_t, int(t), conditional, unconditional, cfg)
        x0 = predict_x0(output, x_t, level, spoken)
        return x0 if mask is None else x0 * mask + clean * (1 - mask)

    def report(i: int, x_t: Tensor, x0: Tensor) -> None:
        last[:] = [x0]
        context.progress(i + 1, len(schedule.plan), engine.preview(x0))

    result = work(Run(denoise, clean, noise, schedule, report, image_indices(latent), seed))
    return result, last[0] if last else result


def _guided(
    model: engine.Model, x_t: Tensor, t: int, conditional: Tensor, unconditional: Tensor | None, cfg: float
) -> Tensor:
    """The model's output after guidance and patches, (B, ...)."""
    if unconditional is None:
        guided = wanted = engine.evaluate(model, x_t, t, conditional)
    else:
        both = engine.evaluate(model, torch.cat([x_t, x_t]), t, torch.cat([conditional, unconditional]))
        wanted, other = both.chunk(2)
        guided = guide(other, wanted, cfg)
    for patch in model.output_patches:
        guided = patch(guided, wanted)
    return guided


def folder(kind: str) -> str:
    """The directory of that kind."""
    return str(getattr(context.folders(), kind))


def save_path(prefix: str) -> tuple[str, str, int, str]:
    """Where the next numbered output file goes."""
    place = context.folders().save_image_path(prefix)
    return str(place.folder), place.name, place.counter, place.subfolder


def add_route(method: str, path: str, handler: Callable[..., Any]) -> None:
    """Offer it to the server."""
    context.routes.register(method, path, handler)


def pictures(model: engine.Model, latent: Tensor) -> Tensor | None:
    """The latents of this host are pictures."""
    return latent.float().cpu() if latent.shape[1] == 3 else None


def check_cancelled() -> None:
    """Raise the host's interruption."""
    context.check_cancelled()
