"""The embedded host as a backend. Only this file names it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from host import context

from ...ddim import (
    FLOW,
    VARIANCE_PRESERVING,
    CFGPlusPlus,
    DDIMError,
    Level,
    NoiseSchedule,
    Schedule,
    SchedulerConfig,
    SigmaConfig,
    make_schedule,
    predict_x0,
)
from ..values import Conditioning, Model
from .contract import (
    Advance,
    Combine,
    Denoised,
    Edit,
    FolderName,
    ModelFacts,
    OutputPatch,
    OutputPath,
    RouteHandler,
    Run,
    Sampled,
    SamplingRequest,
    Work,
)
from .embedded_model import EmbeddedModel, Predictions, Prompts, guided_outputs, latent_mask, live_preview
from .measured import reference_to
from .prediction_types import output_type, predicting_x0
from .run_rules import check_kind, initial_noise, start_of_run, timestep_reader
from .sigmas import sigmas_of_levels

__all__ = ["EmbeddedBackend"]

FLOW_LEVELS = 1000
BETWEEN_PREVIEWS = 0.05  # seconds: making one takes longer than a step of a small model, and nobody sees more


class EmbeddedBackend:
    """What the nodes need from a host, for the embedded one; see :class:`~.contract.Backend`."""

    def model_facts(self, model: Model) -> ModelFacts:
        """Read the levels and the prediction type of an :class:`EmbeddedModel`."""
        embedded = _embedded(model)
        noise = embedded.noise
        is_vp = noise.kind == VARIANCE_PRESERVING
        sigmas = sigmas_of_levels(noise.alpha_bar) if is_vp else noise.sigma.float()
        network = reference_to(embedded.network)
        return ModelFacts(noise.alpha_bar, sigmas, embedded.prediction_type, embedded.sigma_config, network=network)

    def with_levels(self, model: Model, noise: NoiseSchedule, prediction_type: str) -> EmbeddedModel:
        """Copy the model with other levels."""
        embedded = _embedded(model)
        if {embedded.noise.kind, noise.kind} != {VARIANCE_PRESERVING}:
            raise DDIMError(
                "DDIM Model Sampling changes betas, zero SNR and prediction type, which flow models do not have; "
                "connect the flow model to DDIM Schedule as it is"
            )
        return replace(embedded, noise=noise, prediction_type=prediction_type)

    def with_output_patch(self, model: Model, patch: OutputPatch) -> EmbeddedModel:
        """Copy the model with one more patch."""
        embedded = _embedded(model)
        return embedded.with_patch(lambda step: patch(step.guided, step.conditional))

    def with_guidance(self, model: Model, combine: Combine) -> EmbeddedModel:
        """Copy the model with another guidance."""
        return replace(_embedded(model), combine=combine)

    def with_edit(self, model: Model, prompt: Conditioning, edit: Edit, begin: float) -> EmbeddedModel:
        """Copy the model with one more patch, which evaluates another prompt."""

        def patch(step: Predictions) -> Tensor:
            if step.done < begin:
                return step.guided
            reference = step.conditional if step.unconditional is None else step.unconditional
            return edit(step.guided, reference, step.evaluate(prompt))

        return _embedded(model).with_patch(patch)

    def model_from_network(self, network: torch.nn.Module, config: SchedulerConfig) -> EmbeddedModel:
        """Wrap the network."""
        return EmbeddedModel(network, make_schedule(1, config).noise, config.prediction_type)

    def flow_model_from_network(self, network: torch.nn.Module) -> EmbeddedModel:
        """Wrap the network with the levels that ComfyUI's ModelSamplingDiscreteFlow has."""
        sigmas = torch.arange(1, FLOW_LEVELS + 1) / FLOW_LEVELS
        config = SigmaConfig(FLOW, tuple(sigmas.tolist()), time_scale=float(FLOW_LEVELS))
        return EmbeddedModel(network, make_schedule(1, config).noise, config.prediction_type, config)

    def latent_to_rgb(self, model: Model, latent: Tensor) -> Tensor | None:
        """Return the latents themselves: in this host they are RGB images."""
        return latent.float() if latent.shape[1] == 3 else None

    def run(self, request: SamplingRequest, work: Work) -> Sampled:
        """Call ``work`` with the network, guided, patched and masked as ComfyUI does it."""
        model, schedule = _embedded(request.model), predicting_x0(request.schedule)
        denoiser = _Denoiser.of(model, request, schedule)
        steps, next_preview = len(schedule.plan), 0.0
        last_x0: list[Tensor] = []

        def report(i: int, x_t: Tensor, x0: Tensor) -> None:
            nonlocal next_preview
            last_x0[:] = [x0]
            now = time.monotonic()
            shown = i + 1 == steps or now >= next_preview
            next_preview = now + BETWEEN_PREVIEWS if shown else next_preview
            context.progress(i + 1, steps, live_preview(x0) if shown else None)

        start = start_of_run(denoiser.clean, denoiser.noise, schedule, add_noise=request.add_noise)
        result = work(Run(denoiser, start, schedule, report, request.image_indices, request.seed))
        return request.result(result, last_x0[0] if last_x0 else result)

    def make_sampler(self, work: Work, *, add_noise: bool) -> Work:
        """Return ``work`` itself: the nodes that use a SAMPLER are ComfyUI's."""
        return work

    def progress_bar(self, model: Model) -> Advance:
        """Report to the host's progress bar of the running node."""
        return lambda done, total, x0: context.progress(done, total, live_preview(x0))

    def folder(self, name: FolderName) -> Path:
        """Look up the directory."""
        folders = context.folders()
        return {"input": folders.input, "output": folders.output, "temp": folders.temp, "models": folders.models}[name]

    def output_path(self, prefix: str) -> OutputPath:
        """Ask the host, which refuses a prefix that leaves its output folder."""
        path = context.folders().save_image_path(prefix)
        return OutputPath(path.folder, path.name, path.subfolder)

    def add_route(self, method: str, path: str, handler: RouteHandler) -> None:
        """Register the route with the host's server."""
        context.routes.register(method, path, handler)

    def check_cancelled(self) -> None:
        """Raise the host's ``Interrupted``."""
        context.check_cancelled()

    def running_node(self) -> tuple[str, str] | None:
        """Ask the host's context."""
        call = context.current()
        return None if call is None else (call.prompt_id, call.node_id)


def _embedded(model: Model) -> EmbeddedModel:
    if not isinstance(model, EmbeddedModel):
        raise DDIMError(f"model must come from a node that loads one, got {type(model).__name__}")
    return model


@dataclass(frozen=True, eq=False)
class _Denoiser:
    """``denoise(x_t, t) -> x_0`` with guidance, patches and mask.

    Attributes:
        model: The model.
        schedule: The run's schedule.
        prediction_type: What the network's output is.
        prompts: The prompts.
        two: Whether x_0 of the negative prompt is returned as well (CFG++).
        unguided: The timesteps at which the positive prompt is used alone.
        clean: The latents of the request, ``(B, ...)``: what a mask keeps.
        noise: The initial noise, same shape.
        mask: ``(B, 1, ...)``, 1 where the image may change; or None.
        timestep_of: Tells which timestep a scheduler means; see :func:`timestep_reader`.
    """

    model: EmbeddedModel
    schedule: Schedule
    prediction_type: str
    prompts: Prompts
    two: bool
    unguided: frozenset[int]
    clean: Tensor
    noise: Tensor
    mask: Tensor | None
    timestep_of: Callable[[int | Tensor], int]

    @classmethod
    def of(cls, model: EmbeddedModel, request: SamplingRequest, schedule: Schedule) -> _Denoiser:
        """Prepare what a request asks for.

        Raises:
            DDIMError: If the model cannot run on the request's schedule, or the prompts are not the demo model's.
        """
        check_kind(model.noise.kind, request.schedule)
        clean, two = request.latent["samples"].float(), request.guidance.mode == "cfg++"
        return cls(
            model=model,
            schedule=schedule,
            prediction_type=output_type(model.prediction_type, request.schedule),
            prompts=Prompts.of(
                request.positive, request.negative, request.cfg, len(clean), both=two or model.combine is not None
            ),
            two=two,
            unguided=request.guidance.unguided(schedule),
            clean=clean,
            noise=initial_noise(clean.shape, request.seed, request.batch_index),
            mask=latent_mask(request.latent.get("noise_mask"), clean),
            timestep_of=timestep_reader(schedule),
        )

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Denoised:
        """Return the predicted x_0 of x_t ``(B, ...)`` at timestep t; with CFG++ a pair of them."""
        context.check_cancelled()
        noise, t = self.schedule.noise, self.timestep_of(t)
        if self.mask is not None:
            kept = noise.add_noise(self.clean, self.noise, t)
            x_t = x_t * self.mask + kept * (1 - self.mask)
        level = noise.level_at(t)
        prompts = self.prompts.positive_alone if t in self.unguided else self.prompts
        guided, unconditional = guided_outputs(self.model, x_t, self.model.time_at(t, level), prompts)
        x0 = self._x0(guided, x_t, level)
        if not self.two or unconditional is None:
            return x0
        return CFGPlusPlus(x0, self._x0(unconditional, x_t, level))

    def _x0(self, output: Tensor, x_t: Tensor, level: Level) -> Tensor:
        x0 = predict_x0(output, x_t, level, self.prediction_type)
        return x0 if self.mask is None else x0 * self.mask + self.clean * (1 - self.mask)
