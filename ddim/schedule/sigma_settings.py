"""The settings of a model whose noise levels are a table of sigmas: flow and variance exploding (EDM) models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch

from ..errors import DDIMError, check_choice, check_integer, check_number
from ..step.levels import FLOW, VARIANCE_EXPLODING
from .ays import AYS_TIMESTEPS
from .common_settings import FrozenSettings, check_numbers, check_x0_settings
from .noise_levels import NoiseSchedule
from .timesteps import TIMESTEP_SPACINGS

__all__ = ["SIGMA_PREDICTION_TYPES", "SigmaConfig"]

# What the output of a model of each kind may mean; the first is the default.
SIGMA_PREDICTION_TYPES: dict[str, tuple[str, ...]] = {
    FLOW: ("flow_prediction", "inverted_flow_prediction", "sample", "epsilon"),
    VARIANCE_EXPLODING: ("sample", "epsilon"),
}
_LARGEST_SIGMA = {FLOW: 1.0, VARIANCE_EXPLODING: 1e6}


@dataclass(frozen=True)
class SigmaConfig(FrozenSettings):
    """Settings of a model whose levels are given as sigmas; also readable as a mapping.

    Args:
        kind: ``"flow"``, x_t = (1 - sigma) x_0 + sigma z (Flux, SD3, Qwen-Image, Wan), or ``"variance_exploding"``,
            x_t = x_0 + sigma z (EDM, SVD).
        sigmas: one for each training timestep, strictly rising; of a flow model in (0, 1].
        final_sigma: the level after the last step, below the first of ``sigmas``.
        time_scale: the model is called with ``sigma * time_scale``: 1000 for most flow models.
        times: what the model is called with at each level, all different, where that is not a multiple of sigma (EDM's
            ln(sigma) / 4); else None.
        prediction_type: what its output means, one of ``SIGMA_PREDICTION_TYPES[kind]``; None for the first of them.
        timestep_spacing: one of ``TIMESTEP_SPACINGS``, over the indices of ``sigmas``; not Align Your Steps.
        steps_offset: added to ``leading`` indices.
        clip_sample: clip predicted x_0 to ``clip_sample_range``.
        clip_sample_range: limit of clipping, at least 0.
        thresholding: dynamic thresholding of x_0; replaces clipping.
        dynamic_thresholding_ratio: its quantile, in [0, 1].
        sample_max_value: its cap, at least 1.

    Raises:
        DDIMError: at construction, for a value of the wrong type or outside its range.
    """

    kind: str
    sigmas: tuple[float, ...]
    final_sigma: float = 0.0
    time_scale: float = 1000.0
    times: tuple[float, ...] | None = None
    prediction_type: str = ""
    timestep_spacing: str = "trailing"
    steps_offset: int = 0
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, tuple(SIGMA_PREDICTION_TYPES))
        allowed = SIGMA_PREDICTION_TYPES[self.kind]
        asked = (
            allowed[0] if isinstance(self.prediction_type, str) and not self.prediction_type else self.prediction_type
        )
        self._set("prediction_type", check_choice("prediction_type", asked, allowed))
        self._set("sigmas", check_numbers("sigmas", self.sigmas, _LARGEST_SIGMA[self.kind]))
        self._set("final_sigma", check_number("final_sigma", self.final_sigma, 0.0))
        for lower, higher in pairwise((self.final_sigma, *self.sigmas)):
            if higher <= lower:
                raise DDIMError(
                    f"final_sigma and sigmas must rise strictly, got {lower:g} followed by {higher:g}; a run goes "
                    "through them backwards"
                )
        self._set("time_scale", check_number("time_scale", self.time_scale, 1e-6, 1e9))
        if self.times is not None:
            self._set("times", check_numbers("times", self.times, smallest=-math.inf))
            if len(self.times) != len(self.sigmas):
                raise DDIMError(f"times must be as many as sigmas, {len(self.sigmas)}, got {len(self.times)}")
            if len(set(torch.tensor(self.times, dtype=torch.float32).tolist())) < len(self.times):
                raise DDIMError("times must differ in float32, by which steps are told apart, got two that are equal")
        check_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        if self.timestep_spacing in AYS_TIMESTEPS:
            raise DDIMError(
                f"timestep_spacing must not be {self.timestep_spacing!r} for a {self.kind} model: its table holds "
                "timesteps of Stable Diffusion; use 'trailing', or fit_timesteps for timesteps of this model"
            )
        self._set("steps_offset", check_integer("steps_offset", self.steps_offset, 0, len(self.sigmas) - 1))
        for name, value in check_x0_settings(self, lowest_cap=1.0).items():
            self._set(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: the settings, no tensors."""
        return dict(self)

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of levels."""
        return len(self.sigmas)

    @property
    def parity(self) -> str:
        """Always ``"exact"``: diffusers has no DDIM for these models."""
        return "exact"

    @cached_property
    def noise_schedule(self) -> NoiseSchedule:
        """The levels as tensors."""
        sigmas = torch.tensor(self.sigmas, dtype=torch.float64)
        times = sigmas * self.time_scale if self.times is None else torch.tensor(self.times, dtype=torch.float64)
        return NoiseSchedule.of_sigmas(self.kind, sigmas, self.final_sigma, times)
