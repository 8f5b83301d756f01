"""``ForwardScheduler``: the step from noise to data, shared by all models. The mathematics is in ``ddim/step``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import check_list
from ..noise.keyed import KeyedStep
from ..noise.source import Generators, check_variance_noise
from ..schedule.timesteps import TimestepPlan
from ..step.apply import apply_step
from ..step.checks import check_eta, check_out, check_prediction, check_tensors
from ..step.equations import Eta
from .base import PlannedScheduler
from .output import DDIMSchedulerOutput
from .run import advance, one_timestep_per_image
from .step_noise import StepNoise

__all__ = ["ForwardScheduler"]


class ForwardScheduler(PlannedScheduler):
    """A scheduler that goes from noise to data; see its subclasses."""

    # -- planning -------------------------------------------------------------------------------------------------

    def _visited(self, plan: TimestepPlan) -> tuple[int, ...]:
        return plan.timesteps

    def _all_timesteps(self) -> Tensor:
        times = self._noise.table.times
        return torch.arange(len(self._noise) - 1, -1, -1) if times is None else times.flip(0).float()

    def _checked_eta(self, eta: Eta) -> Eta:
        return check_eta(eta, max_eta=self._parity.max_eta)

    def _check_plan(self, plan: TimestepPlan) -> None:
        super()._check_plan(plan)
        # Epsilon at zero terminal SNR is refused here, before a model is called. Betas of 1 and more, which make other
        # levels 0 too, are refused at the step that needs them.
        last = len(self._noise) - 1
        if last in plan.timesteps and self._noise.levels[last] == 0.0 < self._noise.levels[last - 1]:
            check_prediction(self._settings.prediction_type, 0.0)

    # -- stepping -------------------------------------------------------------------------------------------------

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        eta: Eta = 0.0,
        use_clipped_model_output: bool = False,
        generator: Generators | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        *,
        out: Tensor | None = None,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """One step, DDIM equation (12).

        Args:
            model_output: shape ``(B, ...)``, any float dtype.
            timestep: an element of ``timesteps``, or its value; or one per image, shape ``(B,)``.
            sample: x_t, same shape; not modified, unless it is ``out``.
            eta: 0 (deterministic) to 1 (DDPM), or ``"sigma_hat"``.
            use_clipped_model_output: derive epsilon again from the clipped x_0.
            generator: one, or one per image, for the step's noise.
            variance_noise: the noise itself, same shape as the sample.
            return_dict: False gives the tuple ``(prev_sample, pred_original_sample)``.
            out: where to write the next sample, of the sample's shape, dtype and device; may be ``sample`` itself, must
                not overlap ``model_output`` or ``variance_noise``.

        Raises:
            DDIMError: before ``set_timesteps``, for a timestep outside the plan, or wrong arguments.
        """
        run = self._planned_run()
        check_tensors(model_output, sample)
        check_variance_noise(sample, generator, variance_noise)
        if out is not None:
            check_out(out, sample, (model_output, variance_noise))
        noise = StepNoise(run, self._parity, sample, model_output.dtype, eta, generator, variance_noise)
        z: Tensor | KeyedStep | None
        if one_timestep_per_image(timestep):
            c, position = run.table.per_image(timestep, sample, self._checked_eta(eta)), None
            z = noise.of_each_image(timestep)
        else:
            t = run.value_of(timestep)
            c, position = self._coefficients_at(run, t, eta), run.position_of(t)
            z = noise.of_batch(position, float(c.sigma))
        x_next, x0 = advance(
            c, sample, model_output, self._process_x0, run.state, position, use_clipped_model_output, z, out
        )
        return DDIMSchedulerOutput(x_next, x0) if return_dict else (x_next, x0)

    def batch_step_no_noise(
        self,
        model_output: Tensor,
        timesteps: Tensor,
        sample: Tensor,
        eta: Eta = 0.0,
        use_clipped_model_output: bool = False,
    ) -> Tensor:
        """One step for images at different timesteps, without the noise: the caller adds ``sigma z``.

        What parallel sampling needs (ParaDiGMS, 2305.16317): noise drawn once, before the iteration.

        Args:
            model_output: shape ``(B, ...)``.
            timesteps: shape ``(B,)``, each in the plan.
            sample: shape ``(B, ...)``.
            eta: as in :meth:`step`; it shortens the direction, also without noise.
            use_clipped_model_output: derive epsilon again from the clipped x_0.

        Returns:
            The next samples, shape ``(B, ...)``.
        """
        run = self._planned_run()
        check_tensors(model_output, sample)
        c = run.table.per_image(timesteps, sample, self._checked_eta(eta), final=self._parity.batch_end)
        x_next, _ = apply_step(
            c, sample, model_output, process_x0=self._process_x0, use_clipped_model_output=use_clipped_model_output
        )
        return x_next.to(sample.dtype)

    def index_of(self, timestep: float | Tensor) -> int:
        """Position in the run of what the model is called with; an element of ``timesteps`` is not read for it.

        Raises:
            DDIMError: before ``set_timesteps``, or for a timestep outside the plan.
        """
        return self._position_of(timestep)

    def unused_draws(self, etas: Sequence[Eta]) -> frozenset[int]:
        """Steps at which diffusers draws noise although its sigma may be 0; none with ``parity="exact"``.

        Args:
            etas: of every step.
        """
        return frozenset(
            i for i, eta in enumerate(check_list("etas", etas)) if eta != 0.0 and self._parity.draws_unused_noise
        )

    def unseeded_key(self) -> int:
        """Seed of the step noise where none is given.

        It follows ``torch.manual_seed`` and differs from run to run, without touching the global stream.
        """
        return self._planned_run().key
