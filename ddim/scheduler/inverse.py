"""``DDIMInverseScheduler``: the forward scheduler's plan, followed upwards from data to noise."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from ..errors import DDIMError, show
from ..schedule.settings import SchedulerConfig
from ..schedule.timesteps import TimestepPlan
from ..step.checks import check_tensors
from ..step.equations import Eta
from .base import PlannedScheduler
from .config.configured import record_given_settings
from .output import DDIMSchedulerOutput
from .run import advance, one_timestep_per_image

__all__ = ["DDIMInverseScheduler"]


class DDIMInverseScheduler(PlannedScheduler):
    """DDIM's ordinary differential equation backwards: from an image to the noise that gives it.

    ``timesteps`` are those of the forward scheduler in rising order. The step at ``t`` takes a sample from the level
    where the forward step from ``t`` ends up to the level of ``t``: its pairs are the forward pairs reversed. The model
    is called with the lower sample and ``t``, as diffusers' ``DDIMInverseScheduler`` does.

    Give it the forward scheduler's own plan with ``set_plan(forward.plan)``, or the same count with ``set_timesteps``.

    Args:
        num_train_timesteps: as all arguments, see :class:`~ddim.DDIMScheduler`. The order is diffusers'.
        beta_start: first beta.
        beta_end: last beta.
        beta_schedule: one of ``BETA_SCHEDULES``.
        trained_betas: the betas themselves, shape ``(T,)``.
        clip_sample: clip predicted x_0.
        set_alpha_to_one: start at clean data (alpha_bar 1), else at the level of timestep 0.
        steps_offset: added to ``leading`` timesteps.
        prediction_type: ``"epsilon"``, ``"sample"`` or ``"v_prediction"``.
        clip_sample_range: limit of clipping.
        timestep_spacing: one of ``TIMESTEP_SPACINGS``.
        rescale_betas_zero_snr: make the last timestep pure noise.
        thresholding: dynamic thresholding of x_0; replaces clipping.
        dynamic_thresholding_ratio: its quantile.
        sample_max_value: its cap.
        parity: ``"exact"`` or ``"diffusers"``.

    Raises:
        DDIMError: for any value that is wrong.
    """

    _steps_upwards = True

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
        clip_sample_range: float = 1.0,
        timestep_spacing: str = "leading",
        rescale_betas_zero_snr: bool = False,
        *,
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        parity: str = "exact",
    ) -> None:
        settings = {name: value for name, value in locals().items() if name != "self"}
        self._set_up(SchedulerConfig(**settings))

    @property
    def initial_alpha_cumprod(self) -> Tensor:
        """``alpha_bar`` before the first step, 0-d float32: the forward scheduler's final one."""
        return torch.tensor(self._noise.final_alpha_bar)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """``(t_from, t_to)`` of every step: the forward pairs reversed; the first comes from the end (-1)."""
        return tuple((t_next, t) for t, t_next in reversed(self.plan.pairs))

    def step_index(self, timestep: int | Tensor) -> int:
        """Position of a timestep in the run.

        Raises:
            DDIMError: if the timestep is not in the plan.
        """
        return self._position_of(timestep)

    def _visited(self, plan: TimestepPlan) -> tuple[int, ...]:
        return plan.timesteps[::-1]

    def _all_timesteps(self) -> Tensor:
        times = self._noise.table.times
        return torch.arange(len(self._noise)) if times is None else times.float()

    def _check_plan(self, plan: TimestepPlan) -> None:
        super()._check_plan(plan)
        if self._parity.is_diffusers and self._settings.timestep_spacing not in ("leading", "trailing"):
            raise DDIMError(
                f"diffusers' inverse scheduler has no timestep_spacing={self._settings.timestep_spacing!r}, so there "
                "is nothing to reproduce; use parity='exact'"
            )

    def _checked_eta(self, eta: Eta) -> Eta:
        if isinstance(eta, Real) and eta == 0.0:
            return 0.0
        raise DDIMError(f"inversion follows the deterministic process, so eta must be 0, got {show(eta)}")

    def step(
        self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """One step upwards: DDIM equation (13) from the level below ``timestep`` to its own.

        Args:
            model_output: of the model at ``(sample, timestep)``, shape ``(B, ...)``.
            timestep: an element of ``timesteps``, or its value; or one per image, shape ``(B,)``.
            sample: at the level below, same shape; not modified.
            return_dict: False gives the tuple ``(prev_sample, pred_original_sample)``.

        Returns:
            ``prev_sample`` is the noisier sample, as in diffusers.

        Raises:
            DDIMError: before ``set_timesteps``, for a timestep outside the plan, or wrong arguments.
        """
        run = self._planned_run()
        check_tensors(model_output, sample)
        if one_timestep_per_image(timestep):
            c, position = run.table.per_image(timestep, sample, 0.0), None
        else:
            t = run.value_of(timestep)
            c, position = self._coefficients_at(run, t, 0.0), run.position_of(t)
        x_next, x0 = advance(c, sample, model_output, self._process_x0, run.state, position)
        return DDIMSchedulerOutput(x_next, x0) if return_dict else (x_next, x0)
