"""``DDIMScheduler``: DDIM with diffusers' API. Its constructor takes betas; ``from_settings`` levels of any kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..schedule.settings import SchedulerConfig
from ..step.coefficients import coefficients_between
from .config.configured import record_given_settings
from .forward import ForwardScheduler

__all__ = ["DDIMScheduler"]


class DDIMScheduler(ForwardScheduler):
    """Denoising diffusion implicit models (Song, Meng & Ermon 2021, 2010.02502).

    The arguments, methods and defaults are those of diffusers' ``DDIMScheduler``; with ``parity="exact"`` (the default)
    each step goes to the next timestep of the list, and with ``parity="diffusers"`` to ``t - T // S``.

    Args:
        num_train_timesteps: T, number of noise levels the model was trained with.
        beta_start: first beta.
        beta_end: last beta.
        beta_schedule: one of ``BETA_SCHEDULES``.
        trained_betas: the betas themselves, shape ``(T,)``; overrides the four above.
        clip_sample: clip predicted x_0 to ``clip_sample_range``.
        set_alpha_to_one: end at clean data (alpha_bar 1), else at the level of timestep 0.
        steps_offset: added to ``leading`` timesteps.
        prediction_type: ``"epsilon"``, ``"sample"`` or ``"v_prediction"``.
        thresholding: dynamic thresholding of x_0; replaces clipping.
        dynamic_thresholding_ratio: its quantile, in [0, 1].
        clip_sample_range: limit of clipping, at least 0.
        sample_max_value: cap of dynamic thresholding, at least 1 (at 1 it is plain clipping).
        timestep_spacing: one of ``TIMESTEP_SPACINGS``.
        rescale_betas_zero_snr: make the last timestep pure noise.
        parity: ``"exact"`` or ``"diffusers"``.

    Raises:
        DDIMError: for any value that is wrong.
    """

    @record_given_settings
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | np.ndarray | Tensor | None = None,
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        rescale_betas_zero_snr: bool = False,
        *,
        parity: str = "exact",
    ) -> None:
        settings = {name: value for name, value in locals().items() if name != "self"}
        self._set_up(SchedulerConfig(**settings))

    @property
    def final_alpha_cumprod(self) -> Tensor:
        """``alpha_bar`` after the last step, 0-d float32."""
        return torch.tensor(self._noise.final_alpha_bar)

    def _get_variance(self, timestep: int, prev_timestep: int) -> Tensor:
        """sigma^2 at eta = 1 between two timesteps, 0-d float32, for code written for diffusers that calls it."""
        before, after = self._noise.level_at(timestep), self._noise.level_at(prev_timestep)
        one = coefficients_between(before, after, "v_prediction", 1.0)  # sigma is the same for every prediction type
        return torch.tensor(float(one.sigma) ** 2, dtype=torch.float32)

    def step_index(self, timestep: int | Tensor) -> int:
        """Position of a timestep in the run.

        Raises:
            DDIMError: if the timestep is not in the plan.
        """
        return self._position_of(timestep)
