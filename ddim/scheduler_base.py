"""What the forward and the inverse scheduler share beside the configuration: tables, plan, forward process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .coefficients import Eta, StepCoefficients
from .config import SchedulerConfig
from .configured import ConfiguredScheduler
from .errors import DDIMError, show
from .forward_process import ForwardProcess
from .noise_schedule import NoiseSchedule
from .schedule import make_schedule, noise_schedule_of
from .timestep_plan import TimestepPlan, plan_from_timesteps
from .x0_processing import make_x0_processor

__all__ = ["PlannedScheduler"]


class PlannedScheduler(ConfiguredScheduler):
    """A scheduler with noise levels and a plan of steps; see the two that derive from it."""

    order = 1
    init_noise_sigma = 1.0

    num_inference_steps: int | None
    timesteps: Tensor

    def _set_up(self, config: SchedulerConfig, extras: Mapping[str, Any] | None = None) -> None:
        super()._set_up(config, extras)
        self._noise = noise_schedule_of(config)
        self._forward = ForwardProcess(self._noise)
        self._process_x0 = make_x0_processor(config)
        self._runs = 0
        self._use_plan(None, None)

    def _adopt(self, config: SchedulerConfig, extras: Mapping[str, Any]) -> None:
        steps, device = self.num_inference_steps, self.timesteps.device
        super()._adopt(config, extras)
        if steps is not None:
            self.set_timesteps(steps, device)

    # -- tables ---------------------------------------------------------------------------------------------------

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The noise levels in float64."""
        return self._noise

    @property
    def betas(self) -> Tensor:
        """Float32, shape ``(T,)``."""
        return self._noise.betas.float()

    @betas.setter
    def betas(self, value: Tensor) -> None:
        self._refuse_other_levels("betas", value, self.betas)

    @property
    def alphas(self) -> Tensor:
        """1 - beta, float32, shape ``(T,)``."""
        return (1 - self._noise.betas).float()

    @property
    def alphas_cumprod(self) -> Tensor:
        """``alpha_bar``, float32, shape ``(T,)``."""
        return self._noise.alpha_bar.float()

    @alphas_cumprod.setter
    def alphas_cumprod(self, value: Tensor) -> None:
        self._refuse_other_levels("alphas_cumprod", value, self.alphas_cumprod)

    @staticmethod
    def _refuse_other_levels(name: str, value: Tensor, own: Tensor) -> None:
        """Training scripts assign the table moved to a device, which changes nothing; other levels are refused."""
        if not isinstance(value, Tensor) or value.shape != own.shape or not torch.equal(value.cpu().float(), own):
            raise DDIMError(
                f"{name} cannot be changed: the steps are made of the levels of construction; make another scheduler "
                "with trained_betas=... (betas_from_alpha_bar gives the betas of any levels)"
            )

    def __len__(self) -> int:
        return self._settings.num_train_timesteps

    # -- planning -------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> TimestepPlan:
        """The pairs ``(t, t_next)`` of the current run, downwards; before ``set_timesteps``, through every timestep."""
        if self._plan is None:
            return plan_from_timesteps(range(len(self) - 1, -1, -1), len(self))
        return self._plan

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
            DDIMError: for a count or list that is out of range, or a plan that the prediction type cannot follow.
        """
        if timesteps is None:
            if num_inference_steps is None:
                raise DDIMError("set_timesteps needs num_inference_steps or timesteps, got neither")
            plan = make_schedule(num_inference_steps, self._settings).plan
        else:
            plan = make_schedule(1, self._settings, timesteps=timesteps).plan
            if num_inference_steps not in (None, len(plan)):
                raise DDIMError(
                    f"timesteps has {len(plan)} entries but num_inference_steps is {show(num_inference_steps)}; "
                    "leave num_inference_steps out"
                )
        self._check_plan(plan)
        self._use_plan(plan, device, num_inference_steps)

    def set_plan(self, plan: TimestepPlan, device: torch.device | str | None = None) -> None:
        """Use a plan made elsewhere (a part of one, say).

        Raises:
            DDIMError: if it reaches outside the noise schedule, or the prediction type cannot follow it.
        """
        self._check_plan(plan)
        self._use_plan(plan, device)

    def _use_plan(self, plan: TimestepPlan | None, device: torch.device | str | None, steps: int | None = None) -> None:
        """Start a run; without a plan, show all training timesteps until ``set_timesteps`` is called.

        Args:
            plan: of the run.
            device: of ``timesteps``.
            steps: the count that was asked for; diffusers' lists may have one entry more.
        """
        self._plan = plan
        self._runs += 1
        self._coefficients: dict[tuple[int, Eta], StepCoefficients] = {}
        self._next = dict(plan.pairs) if plan else {}
        self._walk = self._visited(plan) if plan else ()
        self._index = {t: i for i, t in enumerate(self._walk)}
        self.num_inference_steps = (int(steps) if steps else len(plan)) if plan else None
        with torch.inference_mode(False):  # inference tensors do not count changes in place
            self.timesteps = torch.tensor(self._walk, device=device) if plan else self._all_timesteps()
        self._planned_timesteps = self.timesteps
        self._places: dict[int, int] = {}

    def _check_plan(self, plan: TimestepPlan) -> None:
        top = max(max(plan.timesteps), max(t_next for _, t_next in plan.pairs))
        if top >= len(self._noise):
            raise DDIMError(f"the plan visits timestep {top}, but the noise schedule has timesteps 0..{len(self) - 1}")

    def _visited(self, plan: TimestepPlan) -> tuple[int, ...]:
        """The timesteps in the order in which the model is called."""
        raise NotImplementedError

    def _all_timesteps(self) -> Tensor:
        """Every training timestep in walking order."""
        raise NotImplementedError

    def _step_coefficients(self, t: int, t_next: int, eta: Eta) -> StepCoefficients:
        """The scalars of the step between two timesteps of the plan."""
        raise NotImplementedError

    def coefficients(self, index: int, eta: Eta = 0.0) -> StepCoefficients:
        """The scalars of step ``index`` of the run."""
        return self._coefficients_at(self._walk[index], eta)

    def _coefficients_at(self, t: int, eta: Eta) -> StepCoefficients:
        found = self._coefficients.get((t, eta))
        if found is None:
            t_next = self._next.get(t)
            found = self._step_coefficients(t, self._next_of(t) if t_next is None else t_next, eta)
            self._coefficients[t, eta] = found
        return found

    def _stride(self) -> int | None:
        """How far diffusers' rule steps from any timestep; None with parity="exact", where only the plan tells."""
        if self._settings.parity != "diffusers" or self.num_inference_steps is None:
            return None
        return len(self) // self.num_inference_steps

    def _next_of(self, t: int) -> int:
        """Where the plan goes from ``t``; with parity="diffusers" any timestep goes to ``t - T // S``."""
        found = self._next.get(t)
        if found is not None:
            return found
        stride = self._stride()
        if stride is not None and t in range(len(self)):
            return t - stride
        raise DDIMError(
            f"timestep {show(t)} is not in the plan of {len(self._walk)} steps ({self._walk[0]} to {self._walk[-1]}); "
            "take it from scheduler.timesteps"
        )

    def _timestep_value(self, timestep: int | Tensor) -> int:
        """A timestep as a number; an element of ``timesteps`` is found by its place, without reading it."""
        if not isinstance(timestep, Tensor):
            return timestep
        found = (self._places or self._found_places()).get(timestep.data_ptr())  # unique over all devices
        one = timestep.numel() == 1
        if found is not None and one and timestep.dtype == torch.int64 and self._planned_timesteps._version == 0:
            return found
        if not one:
            raise DDIMError(f"timestep must be one number, or one per image, got shape {tuple(timestep.shape)}")
        value = timestep.item()
        return int(value) if type(value) is float and value.is_integer() else value  # type: ignore[return-value]

    def _found_places(self) -> dict[int, int]:
        """The timestep by the address of its element."""
        first = self._planned_timesteps.data_ptr()
        self._places = {first + 8 * i: t for i, t in enumerate(self._walk)} if first else {}
        return self._places

    def step_index(self, timestep: int | Tensor) -> int:
        """Position of a timestep in the run.

        Raises:
            DDIMError: if the timestep is not in the plan.
        """
        self._require_plan()
        t = self._timestep_value(timestep)
        self._next_of(t)
        return self._index.get(t, len(self) + t)

    def _require_plan(self) -> None:
        if self.num_inference_steps is None:
            raise DDIMError("step needs a plan; call set_timesteps(num_inference_steps) first")

    @property
    def process_x0(self) -> Callable[[Tensor], Tensor] | None:
        """What is done to a predicted x_0: clipping, thresholding, or None for nothing."""
        return self._process_x0

    # -- forward process ------------------------------------------------------------------------------------------

    def scale_model_input(self, sample: Tensor, timestep: int | Tensor | None = None) -> Tensor:
        """The sample itself: DDIM needs no scaling."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise; see :meth:`ForwardProcess.add_noise`."""
        return self._forward.add_noise(original_samples, noise, timesteps)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0; see :meth:`ForwardProcess.velocity`."""
        return self._forward.velocity(sample, noise, timesteps)

    # -- copies ---------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: no caches, no closures, no reference to a caller's tensor."""
        return {
            "settings": self._settings,
            "extras": self._extras,
            "given": self._given,
            "plan": self._plan,
            "steps": self.num_inference_steps,
            "runs": self._runs,
            "device": self.timesteps.device,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._given = state["given"]
        self._set_up(state["settings"], state["extras"])
        self._use_plan(state["plan"], state["device"], state["steps"])
        self._runs = state["runs"]
