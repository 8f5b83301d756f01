"""What the nodes need from a host, and nothing else.

:class:`Backend` is implemented twice, in ``comfyui`` and in ``embedded``, and mypy checks both against it. Both use the
functions below it, so that both give the same images: initial noise, start of a run, meaning of the network's output.

A LATENT of these nodes that still holds noise is in DDIM's own coordinates,
x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, scaled as the host scales latents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from ...ddim import DDIMError, NoiseSchedule, Schedule, SchedulerConfig
from ..values import Conditioning, Latent, Model

if TYPE_CHECKING:
    from aiohttp import web

__all__ = [
    "Backend",
    "FolderName",
    "ModelFacts",
    "OutputPath",
    "OutputPatch",
    "RouteHandler",
    "Run",
    "Sampled",
    "SamplingRequest",
    "Work",
    "initial_noise",
    "output_type",
    "predicting_x0",
    "start_of_run",
    "with_prediction_type",
]

FolderName: TypeAlias = Literal["input", "output", "temp", "models"]
OutputPatch: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Declared = TypeVar("Declared", bound="str | None")
RouteHandler: TypeAlias = "Callable[[web.Request], Awaitable[web.StreamResponse]]"


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """What a MODEL says about itself.

    Attributes:
        alpha_bar: Float64 CPU, shape ``(T,)``; exactly 0 at the end of a zero-SNR model.
        sigmas: The model's own sigma table, float32 CPU, shape ``(T,)``.
        prediction_type: ``"epsilon"``, ``"sample"`` or ``"v_prediction"``; None if it is none of them.
    """

    alpha_bar: Tensor
    sigmas: Tensor
    prediction_type: str | None


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
        negative: CONDITIONING; not evaluated at cfg 1.
        latent: LATENT, ``samples`` of shape ``(B, C, ...)``.
        schedule: Its noise levels are the run's, whatever the MODEL's own levels are.
        cfg: Guidance scale.
        seed: Seed of the run.
        add_noise: Start from the latent with the initial noise added; False if it is noisy already.

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

    def __post_init__(self) -> None:
        samples, indices = self.latent.get("samples"), self.batch_index
        if not isinstance(samples, Tensor) or getattr(samples, "is_nested", False):
            raise DDIMError(
                f"latent_image must hold one tensor of samples, got {type(samples).__name__}; latents with several "
                "streams (video with sound) belong to flow models: use the stock KSampler"
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
        """Return the last sample and the last predicted x_0 as LATENTs that keep the request's other keys."""
        return Sampled({**self.latent, "samples": samples}, {**self.latent, "samples": x0})


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to start: a model that can be called, and the first sample.

    Attributes:
        denoise: ``denoise(x_t, t) -> x_0`` with everything that the host does around the network: conditioning,
            guidance, patches, masks. x_t is ``(B, ...)`` in DDIM's coordinates, t an element of the
            timesteps of a scheduler.
        start: x_t of the first step, ``(B, ...)``.
        schedule: The run's schedule, with ``prediction_type="sample"`` because ``denoise`` returns x_0.
        report: ``report(i, x_t, x_0)`` after step i: progress and preview. Raises if the user cancelled the run.
        image_indices: Which image of the run each row is.
        seed: The seed of the run.
    """

    denoise: Callable[[Tensor, Tensor], Tensor]
    start: Tensor
    schedule: Schedule
    report: Callable[[int, Tensor, Tensor], None]
    image_indices: tuple[int, ...]
    seed: int


Work: TypeAlias = Callable[[Run], Tensor]


class OutputPath(NamedTuple):
    """Where an output file goes: its folder (which exists), its name without number, and the folder's relative name."""

    folder: Path
    name: str
    subfolder: str


class Backend(Protocol):
    """What the nodes need from a host."""

    def model_facts(self, model: Model) -> ModelFacts:
        """Return what the MODEL says about itself. Raises DDIMError for a flow model."""

    def with_levels(self, model: Model, noise: NoiseSchedule, prediction_type: str) -> Model:
        """Return a copy of the MODEL with other noise levels and prediction type, for every sampler that uses it."""

    def with_output_patch(self, model: Model, patch: OutputPatch) -> Model:
        """Return a copy of the MODEL whose guided output is replaced by ``patch(guided, conditional)``.

        Both are in the model's own output space (epsilon, v, x_0 or flow), shape ``(B, ...)``. Patches stack.
        """

    def model_from_network(self, network: torch.nn.Module, config: SchedulerConfig) -> Model:
        """Wrap a pixel-space network ``network(x, timestep, label_weights)`` as a MODEL with RGB latents in [-1, 1]."""

    def latent_to_rgb(self, model: Model, latent: Tensor) -> Tensor | None:
        """Approximate the image in a latent without a decoder.

        Args:
            model: MODEL.
            latent: Shape ``(B, C, ...)``, scaled as the model scales latents.

        Returns:
            Shape ``(B, 3, ...)``, float32 CPU, about [-1, 1]; None if no colours are known for the MODEL's latents.
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
            add_noise: False if the latent will be a noisy one in DDIM's coordinates; noise added to it is then refused.
        """

    def folder(self, name: FolderName) -> Path:
        """Return one of the host's directories."""

    def output_path(self, prefix: str) -> OutputPath:
        """Return where an output file with this prefix goes. Raises if that is outside the output folder."""

    def add_route(self, method: str, path: str, handler: RouteHandler) -> None:
        """Serve ``handler`` under ``method`` and ``path``; does nothing if the host runs no server."""

    def check_cancelled(self) -> None:
        """Raise the host's own exception if the user cancelled the run."""


def initial_noise(shape: Sequence[int], seed: int, batch_index: Sequence[int] | None = None) -> Tensor:
    """Draw the noise that KSampler starts from, without touching the global generator.

    Args:
        shape: ``(B, ...)``.
        seed: Any integer that fits in 64 bits.
        batch_index: Which image of a larger batch each row is; rows with the same index get the same noise.

    Returns:
        Float32 CPU tensor of that shape.
    """
    generator = torch.Generator().manual_seed(seed)
    if batch_index is None:
        return torch.randn(tuple(shape), generator=generator)
    drawn = [torch.randn((1, *shape[1:]), generator=generator) for _ in range(max(batch_index) + 1)]
    return torch.cat([drawn[index] for index in batch_index])


def start_of_run(latent: Tensor, noise: Tensor, schedule: Schedule, *, add_noise: bool) -> Tensor:
    """Return x_t of the first step: the latent as it is, or with the initial noise added.

    An empty latent (all zeros) at the beginning of a plan is replaced by pure noise, as in diffusers: nothing is known
    about the small part of an image that the first level may still hold.
    """
    if not add_noise:
        return latent
    if schedule.plan.first == 0 and not latent.any():
        return noise
    return schedule.noise.add_noise(latent, noise, schedule.plan.timesteps[0])


def output_type(declared: Declared, schedule: Schedule) -> Declared | str:
    """Decide what a network's raw output is: as its MODEL declares, unless the schedule says v_prediction or sample.

    Args:
        declared: The MODEL's prediction type, or None if it has another one than the core knows.
        schedule: The schedule of the run.

    Returns:
        A prediction type, or None for such a MODEL: it can only be used at its own noise levels.

    Raises:
        DDIMError: For an epsilon model and a schedule that visits zero SNR.
    """
    requested = schedule.config.prediction_type
    prediction_type = declared if requested == "epsilon" else requested
    if prediction_type is not None:
        with_prediction_type(schedule, prediction_type).check()
    return prediction_type


def predicting_x0(schedule: Schedule) -> Schedule:
    """Return the schedule for a model that returns x_0, as :attr:`Run.denoise` does."""
    return with_prediction_type(schedule, "sample")


def with_prediction_type(schedule: Schedule, prediction_type: str) -> Schedule:
    """Return the schedule with another prediction type; the same object where nothing changes.

    A config with a list of betas takes milliseconds to validate, so it is not copied for nothing.
    """
    if schedule.config.prediction_type == prediction_type:
        return schedule
    return replace(schedule, config=replace(schedule.config, prediction_type=prediction_type))
