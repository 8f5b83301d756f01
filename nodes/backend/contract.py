"""What the nodes need from a host, and nothing else.

:class:`Backend` is implemented twice, in ``comfyui`` and in ``embedded``, and mypy checks both against it.

A LATENT of these nodes that still holds noise is in the model's own coordinates, x_t = alpha x_0 + sigma epsilon,
scaled as the host scales latents: alpha^2 + sigma^2 = 1 for a variance preserving model, alpha + sigma = 1 for a flow
model, alpha = 1 for a variance exploding one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias
from weakref import ReferenceType

import torch
from torch import Tensor

from ...ddim import (
    VARIANCE_PRESERVING,
    CFGPlusPlus,
    DDIMError,
    NoiseSchedule,
    Schedule,
    SchedulerConfig,
    SigmaConfig,
)
from ..values import Conditioning, Guidance, Latent, Model, without_mark

if TYPE_CHECKING:
    from aiohttp import web

__all__ = [
    "Advance",
    "Backend",
    "Combine",
    "Edit",
    "Denoised",
    "FolderName",
    "ModelFacts",
    "OutputPath",
    "OutputPatch",
    "RouteHandler",
    "Run",
    "Sampled",
    "SamplingRequest",
    "Work",
]

FolderName: TypeAlias = Literal["input", "output", "temp", "models"]
Combine: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]
Edit: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
OutputPatch: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Denoised: TypeAlias = Tensor | CFGPlusPlus
RouteHandler: TypeAlias = "Callable[[web.Request], Awaitable[web.StreamResponse]]"


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """What a MODEL says about itself.

    Attributes:
        alpha_bar: Float64 CPU, shape ``(T,)``; exactly 0 at the end of a zero-SNR model.
        sigmas: The model's own sigma table as the host's SIGMAS, float32 CPU, shape ``(T,)``.
        prediction_type: ``"epsilon"``, ``"sample"`` or ``"v_prediction"``; None if it is none of them.
        sigma_config: The levels of a flow or a variance exploding model; None for a variance preserving one.
        host_sigma: For such a model, the host's SIGMAS at sigmas of the core.
        network: Refers to the network weakly, so that what is measured of it can be remembered for it alone; see
            ``measured``. None where there is nothing to refer to.
    """

    alpha_bar: Tensor
    sigmas: Tensor
    prediction_type: str | None
    sigma_config: SigmaConfig | None = None
    host_sigma: Callable[[Tensor], Tensor] = lambda sigma: sigma
    network: ReferenceType[Any] | None = None

    def sigma_table(self, schedule: Schedule) -> Tensor | None:
        """Return the host's SIGMAS at each timestep of a schedule, ``(T,)``; None if the model has no such levels."""
        if self.sigma_config is not None:
            return self.host_sigma(schedule.noise.sigma).float()
        return self.sigmas if len(self.sigmas) == len(schedule.noise) else None

    @property
    def kind(self) -> str:
        """``"variance_preserving"``, ``"flow"`` or ``"variance_exploding"``."""
        return VARIANCE_PRESERVING if self.sigma_config is None else self.sigma_config.kind


class Sampled(NamedTuple):
    """The result of a run, as LATENTs: the last sample and the last predicted x_0."""

    latent: Latent
    denoised: Latent


@dataclass(frozen=True, eq=False)
class SamplingRequest:
    """What a node asks a backend to sample or invert.

    Attributes:
        model: MODEL.
        positive: CONDITIONING.
        negative: CONDITIONING; not evaluated where it has no weight.
        latent: LATENT, ``samples`` of shape ``(B, C, ...)``.
        schedule: Its noise levels are the run's, whatever the MODEL's own levels are.
        cfg: Guidance scale.
        seed: Seed of the run.
        add_noise: Start from the latent with the initial noise added; False if it is noisy already.
        guidance: How the two prompts are combined, and in which steps.

    Raises:
        DDIMError: If ``latent`` does not hold one tensor, or ``batch_index`` does not match it.
    """

    model: Model
    positive: Conditioning
    negative: Conditioning
    latent: Latent
    schedule: Schedule
    cfg: float
    seed: int
    add_noise: bool = True
    guidance: Guidance = field(default_factory=Guidance)

    def __post_init__(self) -> None:
        samples, indices = self.latent.get("samples"), self.batch_index
        if not isinstance(samples, Tensor) or getattr(samples, "is_nested", False):
            raise DDIMError(
                f"latent_image must hold one tensor of samples, got {type(samples).__name__}; latents with several "
                "streams (video with sound) are sampled by SamplerCustom with DDIM Sampler"
            )
        if indices is not None and len(indices) != len(samples):
            raise DDIMError(
                f"latent_image has {len(samples)} images but its batch_index has {len(indices)} entries; they must be "
                "equally many"
            )

    @property
    def batch_index(self) -> Sequence[int] | None:
        """Which image of a larger batch each row is; None if the latent is the whole batch."""
        return self.latent.get("batch_index")

    @property
    def image_indices(self) -> tuple[int, ...]:
        """Which image of the run each row is."""
        indices = self.batch_index
        return tuple(range(len(self.latent["samples"]))) if indices is None else tuple(int(index) for index in indices)

    def result(self, samples: Tensor, x0: Tensor) -> Sampled:
        """Return the last sample and the last predicted x_0 as LATENTs that keep the request's other keys.

        Of an inverted latent they no longer say that it was inverted: they are images.
        """
        kept = without_mark(self.latent)
        return Sampled({**kept, "samples": samples}, {**kept, "samples": x0})


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to start: a model that can be called, and the first sample.

    Attributes:
        denoise: ``denoise(x_t, t) -> x_0`` with everything that the host does around the network: conditioning,
            guidance, patches, masks; with CFG++ a pair of them. x_t is ``(B, ...)`` in the model's own coordinates, t
            an element of the timesteps of a scheduler.
        start: x_t of the first step, ``(B, ...)``.
        schedule: The run's schedule, with ``prediction_type="sample"`` because ``denoise`` returns x_0.
        report: ``report(i, x_t, x_0)`` after step i: progress and preview. Raises if the user cancelled the run.
        image_indices: Which image of the run each row is.
        seed: The seed of the run.
    """

    denoise: Callable[[Tensor, Tensor], Denoised]
    start: Tensor
    schedule: Schedule
    report: Callable[[int, Tensor, Tensor], None]
    image_indices: tuple[int, ...]
    seed: int


Work: TypeAlias = Callable[[Run], Tensor]
Advance: TypeAlias = Callable[[int, int, Tensor], None]


class OutputPath(NamedTuple):
    """Where an output file goes: its folder (which exists), its name without number, and the folder's relative name."""

    folder: Path
    name: str
    subfolder: str


class Backend(Protocol):
    """What the nodes need from a host."""

    def model_facts(self, model: Model) -> ModelFacts:
        """Return what the MODEL says about itself. Raises DDIMError for a MODEL that removes no noise."""

    def with_levels(self, model: Model, noise: NoiseSchedule, prediction_type: str) -> Model:
        """Return a copy of the MODEL with other noise levels and prediction type, for every sampler that uses it.

        Raises:
            DDIMError: If the MODEL or the levels are not variance preserving.
        """

    def with_output_patch(self, model: Model, patch: OutputPatch) -> Model:
        """Return a copy of the MODEL whose guided output is replaced by ``patch(guided, conditional)``.

        Both are in the model's own output space (epsilon, v, x_0 or flow), shape ``(B, ...)``. Patches stack.
        """

    def with_guidance(self, model: Model, combine: Combine) -> Model:
        """Return a copy of the MODEL that ``combine(negative, positive, cfg)`` guides instead of :func:`ddim.guide`.

        The negative prompt is then evaluated at cfg 1 too. ``combine`` must not depend on the output space: it gets
        predictions of shape ``(B, ...)`` in one that is linear in the model's own, with a number for each image.
        """

    def with_edit(self, model: Model, prompt: Conditioning, edit: Edit, begin: float) -> Model:
        """Return a copy of the MODEL whose guided output is replaced by ``edit(guided, reference, edited)``.

        Args:
            model: MODEL.
            prompt: Of the edit; ``edited`` is the prediction with it, one more evaluation in every step.
            edit: Gets predictions as :meth:`with_guidance`; ``reference`` is the negative prompt's, or at cfg 1, where
                that is not evaluated, the positive prompt's. Edits and patches apply in the order in which they came.
            begin: The share of the noise levels, from the noisiest in [0, 1], before which nothing is edited.
        """

    def model_from_network(self, network: torch.nn.Module, config: SchedulerConfig) -> Model:
        """Wrap a pixel-space network ``network(x, timestep, label_weights)`` as a MODEL with RGB latents in [-1, 1]."""

    def flow_model_from_network(self, network: torch.nn.Module) -> Model:
        """Wrap a flow network as a MODEL: output epsilon - x_0, called with 1000 sigma, levels from 1/1000 to 1."""

    def latent_to_rgb(self, model: Model, latent: Tensor) -> Tensor | None:
        """Approximate the image in a latent without a decoder.

        Args:
            model: MODEL.
            latent: Shape ``(B, C, ...)``, scaled as the model scales latents.

        Returns:
            Shape ``(B, 3, ...)``, float32, about [-1, 1], on the device of the latent, which the host does not wait
            for; None if no colours are known for the MODEL's latents.
        """

    def run(self, request: SamplingRequest, work: Work) -> Sampled:
        """Prepare a :class:`Run`, call ``work`` once with it, and return what it gives as LATENTs.

        Raises:
            DDIMError: Before the network is called, if the MODEL, the latent and the schedule do not fit together.
        """

    def make_sampler(self, work: Work, *, add_noise: bool) -> object:
        """Return a SAMPLER that calls ``work`` for whatever SIGMAS it is given.

        Args:
            work: Called once for each time that the SAMPLER is used.
            add_noise: False if the latent will be a noisy one in the model's coordinates; noise added to it is then
                refused.
        """

    def progress_bar(self, model: Model) -> Advance:
        """Return ``advance(done, total, x_0)``, for work whose model calls are not the steps of a schedule.

        It takes the place of :attr:`Run.report`, may be used in several runs of the MODEL, shows x_0 ``(B, C, ...)``,
        scaled as the model scales latents, as a preview, and raises if the user cancelled.
        """

    def folder(self, name: FolderName) -> Path:
        """Return one of the host's directories."""

    def output_path(self, prefix: str) -> OutputPath:
        """Return where an output file with this prefix goes. Raises if that is outside the output folder."""

    def add_route(self, method: str, path: str, handler: RouteHandler) -> None:
        """Serve ``handler`` under ``method`` and ``path``; does nothing if the host runs no server."""

    def check_cancelled(self) -> None:
        """Raise the host's own exception if the user cancelled the run."""

    def running_node(self) -> tuple[str, str] | None:
        """Return the ids of the prompt and of the node that is running in this thread; None outside of a run."""
