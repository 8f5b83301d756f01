"""``DDIMScheduler``: a thin face with diffusers' habits. Everything it does is done by the modules beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .coefficients import Eta, StepCoefficients, check_eta
from .config import SchedulerConfig
from .errors import DDIMError
from .noise import generator_noise, keyed_noise
from .output import DDIMSchedulerOutput
from .schedule import make_schedule, noise_schedule_of
from .stepping import apply_step
from .tensor_ops import combine, working_dtype
from .timestep_plan import TimestepPlan
from .x0_processing import make_x0_processor

__all__ = ["DDIMScheduler"]


class DDIMScheduler:
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

    order = 1
    init_noise_sigma = 1.0

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

    @classmethod
    def from_settings(cls, config: SchedulerConfig) -> DDIMScheduler:
        """A scheduler with settings that are already checked."""
        scheduler = cls.__new__(cls)
        scheduler._set_up(config)
        return scheduler

    def _set_up(self, config: SchedulerConfig) -> None:
        self._config = config
        self._noise = noise_schedule_of(config)
        self._process_x0 = make_x0_processor(config)
        self._runs = 0
        self.set_plan(make_schedule(config.num_train_timesteps, config).plan)
        self.num_inference_steps: int | None = None

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def config(self) -> SchedulerConfig:
        """The settings, frozen."""
        return self._config

    @property
    def betas(self) -> Tensor:
        """Float32, shape ``(T,)``."""
        return self._noise.betas.float()

    @property
    def alphas_cumprod(self) -> Tensor:
        """``alpha_bar``, float32, shape ``(T,)``."""
        return self._noise.alpha_bar.float()

    @property
    def final_alpha_cumprod(self) -> Tensor:
        """``alpha_bar`` after the last step, 0-d float32."""
        return torch.tensor(self._noise.final_alpha_bar)

    @property
    def process_x0(self) -> Callable[[Tensor], Tensor] | None:
        """What is done to a predicted x_0: clipping, thresholding, or None for nothing."""
        return self._process_x0

    @property
    def plan(self) -> TimestepPlan:
        """The pairs ``(t, t_next)`` of the current run."""
        return self._plan

    def __len__(self) -> int:
        return self._config.num_train_timesteps

    # -- planning -----------------------------------------------------------------------------------------------

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        *,
        timesteps: Iterable[int] | None = None,
    ) -> None:
        """Plan the run.

        Args:
            num_inference_steps: S, in 1..T; may be left out when ``timesteps`` is given.
            device: where ``timesteps`` lives.
            timesteps: a list of one's own, strictly decreasing.

        Raises:
            DDIMError: for a count or list that is out of range.
        """
        if num_inference_steps is None and timesteps is None:
            raise DDIMError("set_timesteps needs num_inference_steps or timesteps, got neither")
        self.set_plan(make_schedule(num_inference_steps or 1, self._config, timesteps=timesteps).plan, device)

    def set_plan(self, plan: TimestepPlan, device: torch.device | str | None = None) -> None:
        """Use a plan made elsewhere (a part of one, say)."""
        self._plan = plan
        self._index = {t: i for i, t in enumerate(plan.timesteps)}
        self._coefficients: dict[tuple[int, Eta], StepCoefficients] = {}
        self._runs += 1
        self.num_inference_steps = len(plan)
        self.timesteps = torch.tensor(plan.timesteps, dtype=torch.int64).to(device=device)

    def coefficients(self, index: int, eta: Eta = 0.0) -> StepCoefficients:
        """The scalars of step ``index`` of the plan."""
        found = self._coefficients.get((index, eta))
        if found is None:
            t, t_next = self._plan.pairs[index]
            found = StepCoefficients.at(
                self._noise.levels[t], self._noise.alpha_bar_at(t_next), self._config.prediction_type, eta
            )
            self._coefficients[index, eta] = found
        return found

    def step_index(self, timestep: int | Tensor) -> int:
        """Position of a timestep in the plan; an element of ``timesteps`` is found without reading it.

        Raises:
            DDIMError: if the timestep is not in the plan.
        """
        if isinstance(timestep, Tensor):
            if timestep.dtype == torch.int64 and timestep.device == self.timesteps.device:
                offset, rest = divmod(timestep.data_ptr() - self.timesteps.data_ptr(), 8)
                if rest == 0 and 0 <= offset < len(self._plan):
                    return offset
            timestep = int(timestep.item())
        found = self._index.get(timestep)
        if found is None:
            raise DDIMError(
                f"timestep {timestep} is not in the plan of {len(self._plan)} steps "
                f"({self._plan.timesteps[0]} to {self._plan.timesteps[-1]}); take it from scheduler.timesteps"
            )
        return found

    # -- stepping -----------------------------------------------------------------------------------------------

    def scale_model_input(self, sample: Tensor, timestep: int | Tensor | None = None) -> Tensor:
        """The sample itself: DDIM needs no scaling."""
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: Eta = 0.0,
        use_clipped_model_output: bool = False,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """One step, DDIM equation (12).

        Args:
            model_output: shape ``(B, ...)``, any float dtype.
            timestep: an element of ``timesteps``, or its value.
            sample: x_t, same shape; not modified.
            eta: 0 (deterministic) to 1 (DDPM), or ``"sigma_hat"``.
            use_clipped_model_output: derive epsilon again from the clipped x_0.
            generator: one, or one per image, for the step's noise.
            variance_noise: the noise itself, same shape as the sample.
            return_dict: False gives the tuple ``(prev_sample, pred_original_sample)``.

        Raises:
            DDIMError: before ``set_timesteps``, for a timestep outside the plan, or wrong arguments.
        """
        if self.num_inference_steps is None:
            raise DDIMError("step needs a plan; call set_timesteps(num_inference_steps) first")
        index = self.step_index(timestep)
        coefficients = self.coefficients(index, check_eta(eta))
        noise = self._noise_of_step(index, coefficients, sample, generator, variance_noise)
        result, x0 = apply_step(
            coefficients,
            sample,
            model_output,
            process_x0=self._process_x0,
            use_clipped_model_output=use_clipped_model_output,
            noise=noise,
        )
        result = result.to(sample.dtype)

        def predicted() -> Tensor:
            value = combine(sample, model_output, coefficients.x0) if x0 is None else x0
            return value.to(sample.dtype)

        return DDIMSchedulerOutput(result, predicted) if return_dict else (result, predicted())

    def _noise_of_step(
        self,
        index: int,
        coefficients: StepCoefficients,
        sample: Tensor,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        variance_noise: Tensor | None,
    ) -> Tensor | None:
        if generator is not None and variance_noise is not None:
            raise DDIMError("give generator or variance_noise, not both: each would decide the step's noise")
        if variance_noise is not None:
            if variance_noise.shape != sample.shape or variance_noise.device != sample.device:
                raise DDIMError(
                    f"variance_noise must have the sample's shape and device, {tuple(sample.shape)} on "
                    f"{sample.device}, got {tuple(variance_noise.shape)} on {variance_noise.device}"
                )
            return variance_noise
        if coefficients.noise == 0.0:
            return None
        dtype = working_dtype(sample.dtype)
        if generator is not None:
            return generator_noise(sample.shape, generator, sample.device, dtype)
        return keyed_noise(sample.shape, self.unseeded_key(), index, device=sample.device, dtype=dtype)

    def unseeded_key(self) -> int:
        """Seed of the step noise where none is given.

        It follows ``torch.manual_seed`` and differs from run to run, without touching the global stream.
        """
        return torch.initial_seed() ^ (self._runs << 40)

    # -- forward process ----------------------------------------------------------------------------------------

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, DDIM equation (4).

        Args:
            original_samples: x_0, shape ``(B, ...)``.
            noise: same shape.
            timesteps: shape ``(B,)`` or ``()``, whole numbers in 0..T-1.
        """
        signal, spread = self._signal_and_spread(original_samples, timesteps)
        dtype = working_dtype(original_samples.dtype)
        return (signal * original_samples.to(dtype) + spread * noise.to(dtype)).to(original_samples.dtype)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0 (2202.00512, appendix D); arguments as ``add_noise``."""
        signal, spread = self._signal_and_spread(sample, timesteps)
        dtype = working_dtype(sample.dtype)
        return (signal * noise.to(dtype) - spread * sample.to(dtype)).to(sample.dtype)

    def _signal_and_spread(self, like: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self._noise.alpha_bar.to(like.device)[timesteps.to(like.device)]
        alpha_bar = alpha_bar.reshape(-1, *[1] * (like.ndim - 1))
        dtype = working_dtype(like.dtype)
        return alpha_bar.sqrt().to(dtype), (1 - alpha_bar).sqrt().to(dtype)

    def __repr__(self) -> str:
        changed = {k: v for k, v in self._config.items() if v != getattr(SchedulerConfig, k, None)}
        settings: list[Any] = [f"{name}={value!r:.60}" for name, value in changed.items()]
        return f"DDIMScheduler({', '.join(settings)})"
