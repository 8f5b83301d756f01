"""How ComfyUI's sigmas and samples relate to DDIM's levels, for every kind of MODEL.

At one of its sigmas ComfyUI's samplers hold the sample ``x_host = scale x_t``. Both depend on the MODEL:

| prediction class | sigma of ComfyUI | x_host | DDIM's level |
|---|---|---|---|
| EPS, V_PREDICTION, X0 | sqrt((1 - alpha_bar) / alpha_bar) | x_t / sqrt(alpha_bar) | variance preserving |
| CONST (Flux, SD3, Wan, ...) | sigma | x_t | flow |
| CONST with a noise_scale s | t | ((1 - t) + s t) x_t | flow, sigma = s t / ((1 - t) + s t) |
| COSMOS_RFLOW | sigma / (1 - sigma) | x_t / (1 - sigma) | flow |
| EDM | sigma | x_t | variance exploding |

A network behind EPS or V_PREDICTION gets a variance preserving x_t whatever its schedule is (SVD, Stable Audio).
DDIM's steps are the same in all coordinates that differ by a factor; they decide only how a noisy LATENT looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import comfy.model_sampling
import torch
from torch import Tensor

from ...ddim import FLOW, VARIANCE_EXPLODING, VARIANCE_PRESERVING, DDIMError, Schedule, SigmaConfig
from .contract import ModelFacts
from .prediction_types import output_type, predicting_x0
from .run_rules import check_kind
from .sigmas import check_finite, schedule_from_sigmas

__all__ = [
    "Coordinates",
    "ModelSampling",
    "OutputMap",
    "RunLevels",
    "coordinates_of",
    "run_levels_of_sigmas",
    "sigma_config",
]

ModelSampling: TypeAlias = Any  # a class of comfy.model_sampling

SAME_SIGMA = 1e-5  # relative: how far a float32 table is from the level that it stores


@dataclass(frozen=True)
class Coordinates:
    """How ComfyUI's samplers hold the samples of a MODEL.

    Attributes:
        kind: Of the MODEL's levels.
        level_sigma: The core's sigma at one of ComfyUI's; for flow and variance exploding MODELs.
        host_sigma: ComfyUI's sigma at one of the core's, the inverse of it.
        scale: x_host / x_t at one of ComfyUI's sigmas.
        has_timesteps: Whether the MODEL's table of sigmas is that of its training timesteps, and not one that was made
            up for schedulers (SVD, Stable Audio).
    """

    kind: str
    level_sigma: Callable[[Tensor], Tensor]
    host_sigma: Callable[[Tensor], Tensor]
    scale: Callable[[float], float]
    has_timesteps: bool = True

    def schedule(self, sigmas: Tensor) -> Schedule:
        """Build a schedule with one timestep for each of ComfyUI's sigmas."""
        return schedule_from_sigmas(self.level_sigma(sigmas.detach().to("cpu", torch.float64)), self.kind)


def _same(sigma: Tensor) -> Tensor:
    return sigma


def _within_one(sigma: Tensor) -> Tensor:
    """Return flow sigmas without the rounding that lifts the last one above 1 for some shifts."""
    return torch.where((sigma > 1) & (sigma < 1 + SAME_SIGMA), 1.0, sigma)


@cache
def _flow(noise_scale: float) -> Coordinates:
    """Return the coordinates of a flow MODEL whose noise has that standard deviation."""
    s = noise_scale
    if s == 1.0:
        return Coordinates(FLOW, _within_one, _same, lambda sigma: 1.0)
    return Coordinates(
        FLOW,
        level_sigma=lambda t: s * _within_one(t) / ((1 - _within_one(t)) + s * _within_one(t)),
        host_sigma=lambda sigma: sigma / (s * (1 - sigma) + sigma),
        scale=lambda t: (1 - t) + s * t,
    )


_VARIANCE_PRESERVING = Coordinates(VARIANCE_PRESERVING, _same, _same, lambda sigma: math.sqrt(1 + sigma * sigma))
_VARIANCE_EXPLODING = Coordinates(VARIANCE_EXPLODING, _same, _same, lambda sigma: 1.0)
_COSMOS_FLOW = Coordinates(
    FLOW,
    level_sigma=lambda sigma: sigma / (1 + sigma),
    host_sigma=lambda sigma: sigma / (1 - sigma),
    scale=lambda sigma: 1 + sigma,
)

# By prediction class; the first that a MODEL's is an instance of counts.
_COORDINATES: dict[str, Callable[[ModelSampling], Coordinates]] = {
    "CONST": lambda sampling: _flow(float(getattr(sampling, "noise_scale", 1.0))),
    "COSMOS_RFLOW": lambda sampling: _COSMOS_FLOW,
    "EDM": lambda sampling: _VARIANCE_EXPLODING,
}


def coordinates_of(sampling: ModelSampling) -> Coordinates:
    """Return how ComfyUI's samplers hold the samples of a MODEL.

    Raises:
        DDIMError: For a MODEL that turns one picture into another: there is no noise to remove.
    """
    if _is_a(sampling, "IMG_TO_IMG_FLOW"):
        raise DDIMError(
            "the MODEL turns one picture into another without any noise, so there is nothing for DDIM to sample; use "
            "the stock KSampler with sampler_name 'euler'"
        )
    kinds = (make for name, make in _COORDINATES.items() if _is_a(sampling, name))
    return next(kinds, _variance_preserving)(sampling)


def _variance_preserving(sampling: ModelSampling) -> Coordinates:
    return replace(_VARIANCE_PRESERVING, has_timesteps=not _is_a(sampling, "ModelSamplingContinuousEDM"))


def _is_a(sampling: ModelSampling, name: str) -> bool:
    kind = getattr(comfy.model_sampling, name, None)  # not every version has every class
    return kind is not None and isinstance(sampling, kind)


def sigma_config(sampling: ModelSampling, sigmas: Tensor) -> SigmaConfig | None:
    """Return the settings of a flow or variance exploding MODEL; None for a variance preserving one.

    Args:
        sampling: The MODEL's.
        sigmas: Its table, float32 CPU.
    """
    coordinates = coordinates_of(sampling)
    if coordinates.kind == VARIANCE_PRESERVING:
        return None
    times = sampling.timestep(sigmas) if coordinates.kind == FLOW else sigmas
    return _config_of_table(coordinates, *(column.double().numpy().tobytes() for column in (sigmas, times)))


@lru_cache(maxsize=4)
def _config_of_table(coordinates: Coordinates, sigmas: bytes, times: bytes) -> SigmaConfig:
    """Validate a table once; some have 10,000 entries, and every run asks for it."""
    table, called_with = (torch.frombuffer(bytearray(column), dtype=torch.float64) for column in (sigmas, times))
    levels = coordinates.level_sigma(table)
    if coordinates.kind == VARIANCE_EXPLODING:
        return SigmaConfig(coordinates.kind, tuple(levels.tolist()), time_scale=1.0)
    scale = float(f"{float(called_with[-1] / levels[-1]):.6g}")
    if torch.allclose(called_with, levels * scale, rtol=SAME_SIGMA):
        return SigmaConfig(coordinates.kind, tuple(levels.tolist()), time_scale=scale)
    return SigmaConfig(coordinates.kind, tuple(levels.tolist()), times=tuple(called_with.tolist()))


@dataclass(frozen=True, eq=False)
class RunLevels:
    """At which sigma the MODEL is called for a timestep, and which level the schedule has there.

    Attributes:
        table: ComfyUI's sigma at each timestep of the schedule, float32 CPU, shape ``(T,)``.
        schedule: The run's, with ``prediction_type="sample"``: ComfyUI's model call returns x_0.
        coordinates: How ComfyUI holds the samples.
        reread_as: What the raw output is, for levels at which it has to be converted again. None if every level is the
            MODEL's own.
        retyped: The schedule gives the MODEL another prediction type than its own.
    """

    table: Tensor
    schedule: Schedule
    coordinates: Coordinates
    reread_as: str | None = None
    retyped: bool = False

    @classmethod
    def of(cls, facts: ModelFacts, schedule: Schedule, coordinates: Coordinates) -> RunLevels:
        """Match a MODEL with a schedule.

        Raises:
            DDIMError: If they are of different kinds; for a variance preserving MODEL also if their lengths differ, or
                their levels do and the MODEL's output cannot be converted.
        """
        check_kind(facts.kind, schedule)
        if facts.kind != VARIANCE_PRESERVING:  # such a MODEL can be called at any level
            return cls._at_any_level(schedule, coordinates)
        if len(facts.sigmas) != len(schedule.noise):
            raise DDIMError(
                f"the schedule has {len(schedule.noise)} noise levels (num_train_timesteps) and the MODEL "
                f"{len(facts.sigmas)}; connect the MODEL to DDIM Schedule, which then uses the MODEL's"
            )
        raw = output_type(facts.prediction_type, schedule)
        retyped = raw != facts.prediction_type
        levels = cls(facts.sigmas, predicting_x0(schedule), coordinates, raw, retyped)
        if not coordinates.has_timesteps and not all(levels.is_own(t) for t in schedule.plan.timesteps):
            raise DDIMError(
                "the MODEL's noise levels are not those of the schedule, which has numbered timesteps that the MODEL "
                "does not know (SVD, Stable Audio); connect the MODEL to DDIM Schedule, which then uses the MODEL's"
            )
        if facts.prediction_type is None and not all(levels.same(t) for t in schedule.plan.timesteps):
            raise DDIMError(
                "the MODEL predicts neither epsilon, v nor x_0, so it can only be sampled at its own noise levels; "
                "connect the MODEL to DDIM Schedule, with prediction_type 'from model' and rescale_betas_zero_snr off"
            )
        return levels

    @classmethod
    def _at_any_level(cls, schedule: Schedule, coordinates: Coordinates) -> RunLevels:
        """Match a flow or variance exploding MODEL with a schedule of its kind."""
        table = coordinates.host_sigma(schedule.noise.sigma).float()
        check_finite(table[torch.tensor(schedule.plan.timesteps)])
        return cls(table, predicting_x0(schedule), coordinates)

    @cached_property
    def sigmas(self) -> list[float]:
        """``table`` as floats of the host, so that no step reads a tensor."""
        values: list[float] = self.table.tolist()
        return values

    def alpha_bar(self, t: int) -> float:
        """Return the schedule's level."""
        return self.schedule.noise.levels[t]

    def same(self, t: int) -> bool:
        """Return whether the MODEL's own conversion to x_0 is right for the schedule too."""
        if self.coordinates.kind != VARIANCE_PRESERVING:
            return True
        return not self.retyped and self.alpha_bar(t) != 0 and self.is_own(t)

    def is_own(self, t: int) -> bool:
        """Return whether a level of the schedule is the MODEL's own; pure noise is, which the MODEL rounds."""
        a = self.alpha_bar(t)
        return a == 0 or math.isclose(math.sqrt((1 - a) / a), self.sigmas[t], rel_tol=SAME_SIGMA)


@lru_cache(maxsize=8)
def run_levels_of_sigmas(sigmas: tuple[float, ...], coordinates: Coordinates) -> RunLevels:
    """Make a run over ComfyUI's SIGMAS, one timestep for each; kept for runs that differ in the seed alone."""
    table = torch.tensor([sigma for sigma in reversed(sigmas) if sigma > 0])
    return RunLevels(table, coordinates.schedule(torch.tensor(sigmas)), coordinates)


class OutputMap(NamedTuple):
    """How a MODEL's x_0 follows from its network's output: denoised = offset + slope * output.

    Attributes:
        offset: ``(B, ...)``.
        slope: One number per image, ``(B, 1, ...)``.
    """

    offset: Tensor
    slope: Tensor

    @classmethod
    def at(cls, sampling: ModelSampling, sigma: Tensor, x: Tensor) -> OutputMap:
        """Measure the map with the MODEL's own conversion, which is of this form for every kind of MODEL.

        Args:
            sampling: The MODEL's.
            sigma: ``(B,)``.
            x: What the network saw, ``(B, ...)``, in ComfyUI's coordinates.
        """
        zero = x.new_zeros((len(x), *[1] * (x.ndim - 1)))
        return cls(sampling.calculate_denoised(sigma, zero, x), sampling.calculate_denoised(sigma, zero + 1, zero))

    def output(self, denoised: Tensor) -> Tensor:
        """Recover the network's output from ComfyUI's ``denoised``, ``(B, ...)``."""
        return (denoised - self.offset) / self.slope

    def denoised(self, output: Tensor) -> Tensor:
        """Convert an output to x_0, ``(B, ...)``."""
        return torch.addcmul(self.offset, self.slope, output)
