"""``DDIMFlowScheduler``: DDIM of a flow model, with the API of diffusers' ``FlowMatchEulerDiscreteScheduler``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..arguments import as_real_tensor, check_batch
from ..errors import DDIMError, check_integer, check_number, show
from ..noise.keyed import seed_from
from ..noise.source import Generators
from ..schedule.flow_settings import MAX_SHIFT, MIN_SHIFT, FlowConfig
from ..schedule.flow_sigmas import Numbers, as_sigma_config, flow_sigmas, trained_run
from ..schedule.settings import Settings, noise_schedule_of
from ..schedule.timesteps import TimestepPlan, plan_from_timesteps
from ..step.equations import Eta
from .config.configured import record_given_settings
from .config.readers import FileSettings
from .forward import ForwardScheduler
from .output import DDIMSchedulerOutput
from .run import one_timestep_per_image

__all__ = ["DDIMFlowScheduler"]

Self = TypeVar("Self", bound="DDIMFlowScheduler")


class DDIMFlowScheduler(ForwardScheduler):
    """DDIM for flow models (Stable Diffusion 3, Flux, Qwen-Image, Wan): x_t = (1 - sigma) x_0 + sigma epsilon.

    At eta 0 a step is that of diffusers' ``FlowMatchEulerDiscreteScheduler``, whose arguments, methods and defaults
    this class has. Pipelines of flow models pass no eta, so it is a setting here.

    Args:
        num_train_timesteps: T, the factor between sigma and the model's timestep.
        shift: s in sigma' = s sigma / (1 + (s - 1) sigma).
        use_dynamic_shifting: shift by the ``mu`` of ``set_timesteps`` instead.
        base_shift: pipelines compute ``mu`` from this and the next three; see :class:`FlowConfig`.
        max_shift: see there.
        base_image_seq_len: see there.
        max_image_seq_len: see there.
        invert_sigmas: the model's timestep is (1 - sigma) T, and its output x_0 - epsilon (Mochi).
        shift_terminal: stretch the sigmas so that the last one has this value.
        use_karras_sigmas: space the sigmas as 2206.00364 does.
        use_exponential_sigmas: space them geometrically.
        use_beta_sigmas: space them by a beta distribution (2407.12173); needs scipy.
        time_shift_type: ``"exponential"`` or ``"linear"``: how ``mu`` shifts.
        stochastic_sampling: must be False; use ``eta``.
        eta: of a step that is given none: 0 (deterministic) to 1 (DDPM), or ``"sigma_hat"``.

    Attributes:
        sigma_min: the lowest level of the training timesteps.
        sigma_max: the highest one.
        settings: of the current run, as ``noise_schedule``; before ``set_timesteps``, of all training timesteps.

    Raises:
        DDIMError: for any value that is wrong.
    """

    _reader = "DDIMFlowScheduler"
    _class_in_diffusers = "FlowMatchEulerDiscreteScheduler"

    _flow: FlowConfig
    _run_shift: float | None
    _begin_index: int | None
    _step_index: int | None

    @record_given_settings
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        shift: float = 1.0,
        use_dynamic_shifting: bool = False,
        base_shift: float | None = 0.5,
        max_shift: float | None = 1.15,
        base_image_seq_len: int = 256,
        max_image_seq_len: int = 4096,
        invert_sigmas: bool = False,
        shift_terminal: float | None = None,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        use_beta_sigmas: bool = False,
        time_shift_type: str = "exponential",
        stochastic_sampling: bool = False,
        *,
        eta: Eta = 0.0,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name != "self"}
        self._set_up_flow(FlowConfig(**settings))

    def _set_up_flow(self, config: FlowConfig, extras: Mapping[str, Any] | None = None) -> None:
        self._flow = config
        self._run_shift = None
        trained = trained_run(config)
        self.sigma_max, self.sigma_min = float(trained.sigmas[0]), float(trained.sigmas[-1])
        self._set_up(as_sigma_config(config, trained), extras)

    # -- configuration --------------------------------------------------------------------------------------------

    @property
    def flow_settings(self) -> FlowConfig:
        """The settings of the constructor as a frozen, hashable value."""
        return self._flow

    @property
    def _described_settings(self) -> FlowConfig:
        return self._flow

    def _adopt(self, config: FileSettings, extras: Mapping[str, Any]) -> None:
        assert isinstance(config, FlowConfig)
        self._set_up_flow(config, extras)

    @classmethod
    def from_settings(cls: type[Self], config: Settings | FlowConfig, extras: Mapping[str, Any] | None = None) -> Self:
        """Make a scheduler from a :class:`FlowConfig`; other settings raise a :class:`DDIMError`."""
        if not isinstance(config, FlowConfig):
            raise DDIMError(f"{cls._class_name()} needs a FlowConfig, got a {type(config).__name__}")
        scheduler = cls(**config)
        scheduler._keep_extras({} if extras is None else extras)
        return scheduler

    @staticmethod
    def _compatible_names(diffusers: Any) -> list[str]:
        return ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]

    # -- planning -------------------------------------------------------------------------------------------------

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        sigmas: Numbers | None = None,
        mu: float | None = None,
        timesteps: Numbers | None = None,
    ) -> None:
        """Plan the run.

        Args:
            num_inference_steps: S; may be left out where ``sigmas`` or ``timesteps`` are given.
            device: where ``timesteps`` and ``sigmas`` live.
            sigmas: the levels before any shift, strictly falling, in (0, 1], without the end.
            mu: of ``use_dynamic_shifting``; has no effect without it.
            timesteps: what the model is called with, strictly falling; without ``sigmas`` the levels are these divided
                by T, and then shifted.

        Raises:
            DDIMError: for arguments that do not fit together, or levels that are not strictly falling.
        """
        run = flow_sigmas(self._flow, num_inference_steps, sigmas, mu, timesteps, shift=self._run_shift)
        self._settings = as_sigma_config(self._flow, run)
        self._noise = noise_schedule_of(self._settings)
        steps = len(run.sigmas)
        self._start_run(plan_from_timesteps(range(steps - 1, -1, -1), steps), device)

    def _start_run(self, plan: TimestepPlan, device: torch.device | str | None, steps: int | None = None) -> None:
        super()._start_run(plan, device, steps)
        self._begin_index = self._step_index = None

    def _forget_plan(self) -> None:
        super()._forget_plan()
        self._begin_index = self._step_index = None

    @property
    def sigmas(self) -> Tensor:
        """The levels of the run and its end, float32, shape ``(S + 1,)``; with ``invert_sigmas``, 1 - sigma.

        Before ``set_timesteps``, those of the T training timesteps.
        """
        levels = self._noise.table.levels.sigma
        if self._run is None:
            visited = levels[:-1].flip(0)
        else:
            visited = levels[[*self._run.visited, self._run.plan.pairs[-1][1]]]
        return (1 - visited if self._flow.invert_sigmas else visited).float().to(self.timesteps.device)

    @property
    def shift(self) -> float:
        """The fixed shift of the next run."""
        return float(self._flow.shift) if self._run_shift is None else self._run_shift

    def set_shift(self, shift: float) -> None:
        """Replace the fixed shift for the runs to come, but not in the ends of their default spacing."""
        self._run_shift = check_number("shift", shift, MIN_SHIFT, MAX_SHIFT)

    def __len__(self) -> int:
        """T, as in diffusers."""
        return self._flow.num_train_timesteps

    # -- position in the run, for pipelines -----------------------------------------------------------------------

    @property
    def step_index(self) -> int | None:
        """Position after the last step, or None. A step does not need it: it knows its timestep."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """What ``set_begin_index`` was called with since the run began, or None."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Note at which step of the run a pipeline begins. Nothing depends on it."""
        self._begin_index = check_integer("begin_index", begin_index, 0, len(self.timesteps) - 1)

    # -- stepping -------------------------------------------------------------------------------------------------

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        eta: Eta | None = None,
        use_clipped_model_output: bool = False,
        generator: Generators | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        *,
        out: Tensor | None = None,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """One step, DDIM equation (12); at eta 0, x + (sigma' - sigma) times the model output.

        Args:
            model_output: shape ``(B, ...)``, any float dtype.
            timestep: an element of ``timesteps``, or its value; or one per image, shape ``(B,)``.
            sample: x_t, same shape; not modified, unless it is ``out``.
            eta: 0 (deterministic) to 1 (DDPM), or ``"sigma_hat"``; None for that of the settings.
            use_clipped_model_output: has no effect, since x_0 is not clipped.
            generator: one, or one per image, for the step's noise. Without it and ``variance_noise`` the noise follows
                from the first sample of the run: the same start gives the same result.
            variance_noise: the noise itself, same shape as the sample.
            return_dict: False gives the tuple ``(prev_sample, pred_original_sample)``.
            out: where to write the next sample.

        Raises:
            DDIMError: before ``set_timesteps``, for a timestep outside the run or a whole number, or wrong arguments.
        """
        whole = not timestep.is_floating_point() if isinstance(timestep, Tensor) else isinstance(timestep, Integral)
        if whole:
            raise DDIMError(
                f"timestep must be an element of scheduler.timesteps, a floating-point number, got {show(timestep)}; "
                "positions, as of enumerate(timesteps), are not timesteps"
            )
        eta = self._checked_eta(self._flow.eta if eta is None else eta)
        if eta != 0.0 and generator is None and variance_noise is None and not torch.compiler.is_compiling():
            self._seed_run_by(sample)
        result = super().step(
            model_output,
            timestep,
            sample,
            eta,
            use_clipped_model_output,
            generator,
            variance_noise,
            return_dict,
            out=out,
        )
        if not one_timestep_per_image(timestep):
            self._step_index = self._position_of(timestep) + 1
        return result

    def _seed_run_by(self, sample: Tensor) -> None:
        """Key the run's noise by its first sample: pipelines of flow models pass the scheduler no generator."""
        run = self._planned_run()
        if run.seed is None:
            with suppress(RuntimeError):  # inside torch.func.vmap samples have no values: the run keeps its usual key
                run.seed = seed_from(check_batch("sample", sample))

    def scale_noise(self, sample: Tensor, timestep: float | Tensor, noise: Tensor | None = None) -> Tensor:
        """(1 - sigma) x_0 + sigma noise at the levels of the given timesteps, also with ``invert_sigmas``.

        Args:
            sample: x_0, shape ``(B, ...)``.
            timestep: elements of ``timesteps``, one or one per image.
            noise: same shape as the sample.

        Raises:
            DDIMError: if there is no noise, shapes differ, or a timestep is not in the run.
        """
        if noise is None:
            raise DDIMError("scale_noise needs noise of the sample's shape, got None")
        return self.add_noise(sample, noise, as_real_tensor("timestep", timestep, torch.float32))

    def __getstate__(self) -> dict[str, Any]:
        position = {"begin_index": self._begin_index, "step_index": self._step_index}
        seed = None if self._run is None else self._run.seed
        return {**super().__getstate__(), "flow": self._flow, "run_shift": self._run_shift, "seed": seed, **position}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._given = state["given"]
        self._set_up_flow(state["flow"])
        self._run_shift = state["run_shift"]
        super().__setstate__(state)
        self._begin_index, self._step_index = state["begin_index"], state["step_index"]
        if self._run is not None:
            self._run.seed = state["seed"]
