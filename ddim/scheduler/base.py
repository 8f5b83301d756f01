"""What the forward and the inverse scheduler share beside the configuration: tables, plan, forward process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import DDIMError, check_integer, show
from ..parity import Parity, parity_of
from ..schedule.settings import SchedulerConfig, Settings, noise_schedule_of, plan_of
from ..schedule.timesteps import TimestepPlan, plan_from_timesteps
from ..step.coefficients import StepTable
from ..step.equations import Eta, StepCoefficients
from ..step.levels import VARIANCE_EXPLODING
from ..step.x0 import ProcessX0, x0_processor
from .config.readers import FileSettings
from .run import Run
from .tables import LevelTables

__all__ = ["PlannedScheduler"]


class PlannedScheduler(LevelTables):
    """A scheduler with noise levels and a plan of steps; see its two subclasses.

    Attributes:
        timesteps: of the current run, in the order in which the model is called; before ``set_timesteps``, all of them.
        num_inference_steps: the count that ``set_timesteps`` was called with; None before.
    """

    order = 1

    num_inference_steps: int | None
    timesteps: Tensor

    _steps_upwards = False

    def _set_up(self, config: Settings, extras: Mapping[str, Any] | None = None) -> None:
        super()._set_up(config, extras)
        self._parity: Parity = parity_of(config.parity)
        self._noise = noise_schedule_of(config)
        self._process_x0 = x0_processor(
            thresholding=config.thresholding,
            ratio=config.dynamic_thresholding_ratio,
            cap=config.sample_max_value,
            clip_sample=config.clip_sample,
            clip_range=config.clip_sample_range,
        )
        self._number_of_runs = 0
        self._forget_plan()

    def _adopt(self, config: FileSettings, extras: Mapping[str, Any]) -> None:
        assert isinstance(config, SchedulerConfig)
        steps, device = self.num_inference_steps, self.timesteps.device
        self._set_up(config, extras)
        if steps is not None:
            self.set_timesteps(steps, device)

    @property
    def init_noise_sigma(self) -> float:
        """What noise is multiplied by at the start of a run: its deviation for a variance exploding model, else 1."""
        if self._noise.kind != VARIANCE_EXPLODING:
            return 1.0
        return self._noise.level_at(self.plan.timesteps[0]).length

    def __len__(self) -> int:
        return len(self._noise)

    # -- planning -------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> TimestepPlan:
        """The pairs ``(t, t_next)`` of the current run, downwards; before ``set_timesteps``, through every timestep."""
        if self._run is None:
            return plan_from_timesteps(range(len(self._noise) - 1, -1, -1), len(self._noise))
        return self._run.plan

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
            timesteps: a custom list, strictly decreasing.

        Raises:
            DDIMError: for a count or list that is out of range, or a plan that the prediction type cannot follow.
        """
        if timesteps is None:
            if num_inference_steps is None:
                raise DDIMError("set_timesteps needs num_inference_steps or timesteps, got neither")
            plan = plan_of(self._settings, num_inference_steps)
        else:
            plan = plan_from_timesteps(timesteps, len(self._noise))
            asked = len(plan) if num_inference_steps is None else num_inference_steps
            if check_integer("num_inference_steps", asked, 1) != len(plan):
                raise DDIMError(
                    f"timesteps has {len(plan)} entries but num_inference_steps is {show(num_inference_steps)}; "
                    "leave num_inference_steps out"
                )
        self._check_plan(plan)
        self._start_run(plan, device, num_inference_steps)

    def set_plan(self, plan: TimestepPlan, device: torch.device | str | None = None) -> None:
        """Use a plan made elsewhere (a part of one, for example).

        Raises:
            DDIMError: if it reaches outside the noise schedule, or the prediction type cannot follow it.
        """
        self._check_plan(plan)
        self._start_run(plan, device)

    def _forget_plan(self) -> None:
        """Show all training timesteps, as diffusers does, until ``set_timesteps`` is called."""
        self._run: Run | None = None
        self.num_inference_steps = None
        self.timesteps = self._all_timesteps()

    def _start_run(self, plan: TimestepPlan, device: torch.device | str | None, steps: int | None = None) -> None:
        """Start a run.

        Args:
            plan: of the run.
            device: of ``timesteps``.
            steps: the count that was asked for; diffusers' lists may have one entry more.
        """
        self._number_of_runs += 1
        self.num_inference_steps = len(plan) if steps is None else int(steps)
        stride = len(self._noise) // self.num_inference_steps if self._parity.steps_by_stride else None
        table = StepTable(
            self._noise.table,
            dict(plan.pairs),
            self._settings.prediction_type,
            self._parity,
            stride=stride,
            upwards=self._steps_upwards,
        )
        self._run = Run(
            plan,
            self._visited(plan),
            table,
            number=self._number_of_runs,
            total=len(self._noise),
            stride=stride,
            device=device,
            times=self._noise.table.times,
        )
        self.timesteps = self._run.timesteps

    def _check_plan(self, plan: TimestepPlan) -> None:
        if not isinstance(plan, TimestepPlan) or not len(plan):
            raise DDIMError(f"plan must be a TimestepPlan of at least one step, got {show(plan)}; see ddim.make_plan")
        top = max(max(plan.timesteps), max(t_next for _, t_next in plan.pairs))
        if top >= len(self._noise):
            raise DDIMError(
                f"the plan visits timestep {top}, but the noise schedule has timesteps 0..{len(self._noise) - 1}"
            )

    def _visited(self, plan: TimestepPlan) -> tuple[int, ...]:
        """The timesteps in the order in which the model is called."""
        raise NotImplementedError

    def _all_timesteps(self) -> Tensor:
        """Every training timestep in the order of a run."""
        raise NotImplementedError

    def _checked_eta(self, eta: Eta) -> Eta:
        """Eta, if this scheduler can step with it."""
        raise NotImplementedError

    def _planned_run(self) -> Run:
        """The current run.

        Raises:
            DDIMError: before ``set_timesteps``.
        """
        if self._run is None:
            raise DDIMError("step needs a plan; call set_timesteps(num_inference_steps) first")
        return self._run

    def coefficients(self, index: int, eta: Eta = 0.0) -> StepCoefficients:
        """The coefficients of step ``index`` of the run, as floats.

        Raises:
            DDIMError: for a wrong eta, or a step that has no values.
        """
        run = self._planned_run()
        return self._coefficients_at(run, run.visited_at(index), eta)

    def _coefficients_at(self, run: Run, t: int, eta: Eta) -> StepCoefficients:
        return run.table.row(t, run.next_of(t), self._checked_eta(eta))

    def _position_of(self, timestep: float | Tensor) -> int:
        """Position of a timestep in the run.

        Raises:
            DDIMError: if the timestep is not in the plan.
        """
        run = self._planned_run()
        t = run.value_of(timestep)
        run.next_of(t)
        return run.position_of(t)

    @property
    def process_x0(self) -> ProcessX0 | None:
        """What is done to a predicted x_0: clipping, thresholding, or None for nothing."""
        return self._process_x0

    # -- forward process ------------------------------------------------------------------------------------------

    def scale_model_input(self, sample: Tensor, timestep: int | Tensor | None = None) -> Tensor:
        """The sample itself: DDIM needs no scaling."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma noise; see :meth:`NoiseSchedule.add_noise`.

        Args:
            original_samples: x_0, shape ``(B, ...)``.
            noise: same shape.
            timesteps: what the model is called with, one or one per image.
        """
        return self._noise.add_noise(original_samples, noise, self._noise.index_of_times(timesteps))

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = alpha noise - sigma x_0; see :meth:`NoiseSchedule.velocity` and :meth:`add_noise`."""
        return self._noise.velocity(sample, noise, self._noise.index_of_times(timesteps))

    # -- copies ---------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: settings and plan, no caches, no reference to a caller's tensor."""
        return {
            "settings": self._settings,
            "extras": self._extras,
            "given": self._given,
            "plan": None if self._run is None else self._run.plan,
            "steps": self.num_inference_steps,
            "runs": self._number_of_runs,
            "device": self.timesteps.device,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._given = state["given"]
        self._set_up(state["settings"], state["extras"])
        self._number_of_runs = state["runs"]
        if state["plan"] is not None:
            self._number_of_runs -= 1  # the copy goes on with the same run
            self._start_run(state["plan"], state["device"], state["steps"])
