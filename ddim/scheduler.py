"""``DDIMScheduler``: a thin face with diffusers' habits. Everything it does is done by the modules beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .coefficients import Eta, StepCoefficients, check_eta, prediction, variance
from .config import SchedulerConfig
from .configured import remembering_what_was_given
from .fast_step import fast_step
from .late_x0 import LateX0
from .level_step import LevelTable, step_by_levels
from .output import DDIMSchedulerOutput
from .parity_coefficients import parity_coefficients
from .pieces import can_be_cut
from .scheduler_base import PlannedScheduler
from .state_carry import StateCarry
from .step_noise import Generators, RunNoise, check_tensors
from .tensor_ops import HALF
from .timestep_plan import TimestepPlan
from .variance_noise import VarianceNoise, add_residual

__all__ = ["DDIMScheduler"]


class DDIMScheduler(PlannedScheduler):
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

    @remembering_what_was_given
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
        """sigma^2 at eta = 1 between two timesteps, 0-d float32: other code of diffusers' users calls it."""
        levels = self._noise.levels[timestep], self._noise.alpha_bar_at(prev_timestep)
        return torch.tensor(variance(*levels), dtype=torch.float32)

    # -- planning -------------------------------------------------------------------------------------------------

    def _visited(self, plan: TimestepPlan) -> tuple[int, ...]:
        return plan.timesteps

    def _all_timesteps(self) -> Tensor:
        return torch.arange(len(self) - 1, -1, -1)

    def _check_plan(self, plan: TimestepPlan) -> None:
        super()._check_plan(plan)
        # Epsilon at zero terminal SNR is refused here, before a model is called. Betas of 1 and more, which make other
        # levels 0 too, are refused at the step that needs them.
        last = len(self) - 1
        if last in plan.timesteps and self._noise.levels[last] == 0.0 < self._noise.levels[last - 1]:
            prediction(self._settings.prediction_type, 0.0)

    def _use_plan(self, plan: TimestepPlan | None, device: torch.device | str | None, steps: int | None = None) -> None:
        super()._use_plan(plan, device, steps)
        self._carry = StateCarry()
        self._run_noise = RunNoise(self._index, plan.first if plan else 0, self._runs, self._settings)
        self._levels = LevelTable(self._noise, self._next, self._stride())

    def _step_coefficients(self, t: int, t_next: int, eta: Eta) -> StepCoefficients:
        a, b = self._noise.levels[t], self._noise.alpha_bar_at(t_next)
        if self._settings.parity == "diffusers":
            return parity_coefficients(a, b, self._settings.prediction_type, check_eta(eta, above_one=True))
        return StepCoefficients.at(a, b, self._settings.prediction_type, check_eta(eta))

    # -- stepping -------------------------------------------------------------------------------------------------

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
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
            sample: x_t, same shape; not modified.
            eta: 0 (deterministic) to 1 (DDPM), or ``"sigma_hat"``.
            use_clipped_model_output: derive epsilon again from the clipped x_0.
            generator: one, or one per image, for the step's noise.
            variance_noise: the noise itself, same shape as the sample.
            return_dict: False gives the tuple ``(prev_sample, pred_original_sample)``.
            out: where to write the next sample, of the sample's shape, dtype and device; may be ``sample`` itself, must
                not overlap ``model_output`` or ``variance_noise``. With ``sample`` as ``out``, x_0 cannot be read
                later: take the tuple.

        Raises:
            DDIMError: before ``set_timesteps``, for a timestep outside the plan, or wrong arguments.
        """
        if self.num_inference_steps is None:
            self._require_plan()
        check_tensors(model_output, sample, out)
        if torch.compiler.is_compiling() or (isinstance(timestep, Tensor) and timestep.numel() > 1):
            return self._step_by_levels(
                model_output,
                timestep,
                sample,
                eta,
                use_clipped_model_output,
                generator,
                variance_noise,
                return_dict,
                out,
            )
        t = self._timestep_value(timestep)
        coefficients = self._coefficients_at(t, eta)
        noise = None
        if coefficients.noise or variance_noise is not None:
            noise = self._run_noise.of_batch(t, coefficients.noise, sample, model_output, generator, variance_noise)
        # before out, which may be the sample, is written
        later = LateX0(sample, model_output, coefficients, self._process_x0)
        x0 = None if return_dict or out is None else later()
        rederive = use_clipped_model_output
        if sample.dtype in HALF:
            following, made = self._half_step(coefficients, sample, model_output, rederive, noise, variance_noise, out)
        else:
            following, made = fast_step(coefficients, sample, model_output, self._process_x0, rederive, noise, out)
            if isinstance(variance_noise, VarianceNoise):
                following = add_residual(following, coefficients, variance_noise)
                following = following if out is None or following is out else out.copy_(following)
        if made is not None:
            x0 = made.to(sample.dtype)
        if return_dict:
            return DDIMSchedulerOutput(following, later if x0 is None else x0)
        return following, later() if x0 is None else x0

    def _half_step(
        self,
        coefficients: StepCoefficients,
        sample: Tensor,
        model_output: Tensor,
        rederive: bool,
        noise: Tensor | None,
        given: Tensor | None,
        out: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The next sample, and the processed x_0 where one was made; a float32 state goes beside the samples."""
        state = self._carry.state_of(sample, coefficients)
        at_once = not isinstance(given, VarianceNoise) and can_be_cut(state, model_output, noise, out)
        place = self._carry.place_for(sample) if at_once else None
        following = torch.empty_like(sample) if out is None else out
        rounded = following if at_once else None
        result, made = fast_step(coefficients, state, model_output, self._process_x0, rederive, noise, place, rounded)
        if not at_once:
            result = add_residual(result, coefficients, given)
            following = result.to(sample.dtype) if out is None else out.copy_(result)
        self._carry.remember(following, result)
        return following, made

    def _step_by_levels(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: Eta,
        use_clipped_model_output: bool,
        generator: Generators | None,
        variance_noise: Tensor | None,
        return_dict: bool,
        out: Tensor | None,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """The step with the noise levels as tensors: for a timestep per image, and inside ``torch.compile``."""
        levels = self._levels.of(timestep, sample)
        eta = check_eta(eta, above_one=self._settings.parity == "diffusers")
        following, x0, sigma = step_by_levels(
            levels,
            sample,
            model_output,
            self._settings.prediction_type,
            eta,
            self._process_x0,
            use_clipped_model_output,
        )
        noise = self._run_noise.of_images(timestep, eta, sample, model_output, generator, variance_noise)
        if noise is not None:
            following = torch.addcmul(following, sigma, noise.to(following.dtype))
        following, x0 = following.to(sample.dtype) if out is None else out.copy_(following), x0.to(sample.dtype)
        return DDIMSchedulerOutput(following, x0) if return_dict else (following, x0)

    def batch_step_no_noise(
        self,
        model_output: Tensor,
        timesteps: Tensor,
        sample: Tensor,
        eta: Eta = 0.0,
        use_clipped_model_output: bool = False,
    ) -> Tensor:
        """One step for images at different timesteps, without the noise: the caller adds ``sigma z`` himself.

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
        self._require_plan()
        check_tensors(model_output, sample)
        # diffusers ends at alpha_bar 1 here whatever set_alpha_to_one says.
        ends_at_one = self._settings.parity == "diffusers"
        levels = self._levels.of(timesteps, sample, final=1.0 if ends_at_one else None)
        eta = check_eta(eta, above_one=ends_at_one)
        following, _, _ = step_by_levels(
            levels,
            sample,
            model_output,
            self._settings.prediction_type,
            eta,
            self._process_x0,
            use_clipped_model_output,
        )
        return following.to(sample.dtype)

    def unseeded_key(self) -> int:
        """Seed of the step noise where none is given.

        It follows ``torch.manual_seed`` and differs from run to run, without touching the global stream.
        """
        return self._run_noise.key()
