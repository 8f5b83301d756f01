"""What the forward and the inverse scheduler share: settings, files, tables, the plan and the forward process."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from .coefficients import Eta, StepCoefficients
from .config import SETTINGS, SchedulerConfig
from .config_files import (
    CONFIG_NAME,
    ConfigDict,
    config_dict,
    kept_keys,
    read_config_file,
    warn_of_unknown_keys,
    write_config_file,
)
from .config_import import import_config
from .errors import DDIMError, show
from .forward_process import ForwardProcess
from .noise_schedule import NoiseSchedule
from .schedule import make_schedule, noise_schedule_of
from .timestep_plan import TimestepPlan
from .x0_processing import make_x0_processor

__all__ = ["PlannedScheduler", "remembering_what_was_given"]

Self = TypeVar("Self", bound="PlannedScheduler")
Init = TypeVar("Init", bound=Callable[..., None])


def remembering_what_was_given(init: Init) -> Init:
    """Let a constructor know which settings the caller gave, as opposed to defaults of the same value.

    diffusers' ``from_config`` takes over what was given and lets the other class choose its own defaults for the rest.
    """
    names = tuple(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def wrapper(self: PlannedScheduler, *args: Any, **kwargs: Any) -> None:
        self._given = frozenset((*names[: len(args)], *kwargs))
        init(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


class PlannedScheduler:
    """A scheduler with a configuration and a plan of steps; see the two that derive from it."""

    order = 1
    init_noise_sigma = 1.0
    config_name: ClassVar[str] = CONFIG_NAME
    has_compatibles: ClassVar[bool] = True
    _deprecated_kwargs: ClassVar[tuple[str, ...]] = ()

    _given: frozenset[str]
    num_inference_steps: int | None
    timesteps: Tensor

    def _set_up(self, config: SchedulerConfig, extras: Mapping[str, Any] | None = None) -> None:
        self._settings = config
        self._extras = dict(extras or {})
        self._config = config_dict(config, type(self).__name__, self._given, self._extras)
        self._noise = noise_schedule_of(config)
        self._forward = ForwardProcess(self._noise)
        self._process_x0 = make_x0_processor(config)
        self._runs = 0
        self._use_plan(make_schedule(config.num_train_timesteps, config).plan, None)
        self.num_inference_steps = None

    # -- configuration --------------------------------------------------------------------------------------------

    @property
    def settings(self) -> SchedulerConfig:
        """The settings as a frozen, hashable value: what a :class:`~ddim.Schedule` holds."""
        return self._settings

    @property
    def config(self) -> ConfigDict:
        """The settings as a frozen dict with attributes, as diffusers' schedulers and pipelines hand them about."""
        return self._config

    @property
    def _internal_dict(self) -> ConfigDict:
        return self._config

    @_internal_dict.setter
    def _internal_dict(self, config: Mapping[str, Any]) -> None:
        # Pipelines of diffusers replace outdated settings (clip_sample, steps_offset) by assigning this.
        report = import_config(config)
        steps = self.num_inference_steps
        self._given = frozenset(name for name in SETTINGS if name not in report.defaulted)
        self._set_up(report.config, {**self._extras, **kept_keys(report, config)})
        if steps is not None:
            self.set_timesteps(steps, self.timesteps.device)

    def register_to_config(self, **settings: Any) -> None:
        """Change settings, as diffusers' own schedulers let their pipelines do."""
        self._internal_dict = {**self._config, **settings}

    def __getattr__(self, name: str) -> Any:
        config = self.__dict__.get("_config", {})
        if name.startswith("__") or name not in config:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warnings.warn(f"read scheduler.config.{name} instead of scheduler.{name}", FutureWarning, stacklevel=2)
        return config[name]

    @classmethod
    def from_settings(cls: type[Self], config: SchedulerConfig, extras: Mapping[str, Any] | None = None) -> Self:
        """A scheduler with settings that are already checked."""
        scheduler = cls.__new__(cls)
        scheduler._given = frozenset(SETTINGS)
        scheduler._set_up(config, extras)
        return scheduler

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any], **overrides: Any) -> Self:
        """A scheduler with the settings of another one, ours or diffusers', of this class or another.

        What becomes of each key is told by :func:`ddim.import_config`; keys that no scheduler is known to have are
        named in one warning.

        Args:
            config: a mapping of settings, such as ``pipe.scheduler.config``.
            **overrides: settings that replace what the configuration says.

        Raises:
            DDIMError: for a wrong value or an override that is not a setting.
        """
        report = import_config(config, overrides)
        warn_of_unknown_keys(report, cls.__name__)
        scheduler = cls.__new__(cls)
        scheduler._given = frozenset(name for name in SETTINGS if name not in report.defaulted)
        scheduler._set_up(report.config, kept_keys(report, config))
        return scheduler

    @classmethod
    def load_config(cls, folder: str | os.PathLike[str], subfolder: str | None = None) -> dict[str, Any]:
        """The content of a ``scheduler_config.json``; see :meth:`from_pretrained`."""
        return read_config_file(folder, subfolder)

    @classmethod
    def from_pretrained(
        cls: type[Self], folder: str | os.PathLike[str], subfolder: str | None = None, **overrides: Any
    ) -> Self:
        """A scheduler with the settings of a ``scheduler_config.json``.

        Args:
            folder: a local folder with the file, or a pipeline's folder, or the file itself.
            subfolder: where in the folder it is.
            **overrides: settings that replace what the file says.

        Raises:
            DDIMError: if there is no such file, or as :meth:`from_config` does.
        """
        return cls.from_config(read_config_file(folder, subfolder), **overrides)

    def save_config(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``scheduler_config.json``, byte for byte as diffusers does; whole or not at all.

        Args:
            save_directory: a folder; made if it is not there.
        """
        write_config_file(self._config, save_directory)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """The same as :meth:`save_config`."""
        self.save_config(save_directory)

    @property
    def compatibles(self) -> list[type]:
        """Classes that can be made from this scheduler's config: this one, and diffusers' own where it is loaded."""
        diffusers: Any = sys.modules.get("diffusers")
        if diffusers is None:
            return [type(self)]
        names = [member.name for member in diffusers.schedulers.scheduling_utils.KarrasDiffusionSchedulers]
        found = [getattr(diffusers, name) for name in names if hasattr(diffusers, name)]
        return [type(self), *(one for one in found if one is not type(self))]

    # -- tables ---------------------------------------------------------------------------------------------------

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The noise levels in float64."""
        return self._noise

    @property
    def betas(self) -> Tensor:
        """Float32, shape ``(T,)``."""
        return self._noise.betas.float()

    @property
    def alphas(self) -> Tensor:
        """1 - beta, float32, shape ``(T,)``."""
        return (1 - self._noise.betas).float()

    @property
    def alphas_cumprod(self) -> Tensor:
        """``alpha_bar``, float32, shape ``(T,)``."""
        return self._noise.alpha_bar.float()

    def __len__(self) -> int:
        return self._settings.num_train_timesteps

    # -- planning -------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> TimestepPlan:
        """The pairs ``(t, t_next)`` of the current run, downwards."""
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
        self.set_plan(plan, device)

    def set_plan(self, plan: TimestepPlan, device: torch.device | str | None = None) -> None:
        """Use a plan made elsewhere (a part of one, say).

        Raises:
            DDIMError: if it reaches outside the noise schedule, or the prediction type cannot follow it.
        """
        self._check_plan(plan)
        self._use_plan(plan, device)

    def _use_plan(self, plan: TimestepPlan, device: torch.device | str | None) -> None:
        self._plan = plan
        visited = self._visited(plan)
        self._index = {t: i for i, t in enumerate(visited)}
        self._next = dict(plan.pairs)
        self._coefficients: dict[tuple[int, Eta], StepCoefficients] = {}
        self._runs += 1
        self.num_inference_steps = len(plan)
        self.timesteps = torch.tensor(visited, dtype=torch.int64).to(device=device)
        self._planned_timesteps = self.timesteps

    def _check_plan(self, plan: TimestepPlan) -> None:
        top = max(max(pair) for pair in plan.pairs)
        if top >= len(self._noise):
            raise DDIMError(f"the plan visits timestep {top}, but the noise schedule has timesteps 0..{len(self) - 1}")

    def _visited(self, plan: TimestepPlan) -> tuple[int, ...]:
        """The timesteps in the order in which the model is called."""
        raise NotImplementedError

    def _step_coefficients(self, t: int, t_next: int, eta: Eta) -> StepCoefficients:
        """The scalars of the step between two timesteps of the plan."""
        raise NotImplementedError

    def coefficients(self, index: int, eta: Eta = 0.0) -> StepCoefficients:
        """The scalars of step ``index`` of the run."""
        visited = self._visited(self._plan)
        return self._coefficients_at(visited[index], eta)

    def _coefficients_at(self, t: int, eta: Eta) -> StepCoefficients:
        found = self._coefficients.get((t, eta))
        if found is None:
            found = self._step_coefficients(t, self._next_of(t), eta)
            self._coefficients[t, eta] = found
        return found

    def _next_of(self, t: int) -> int:
        """Where the plan goes from ``t``; with parity="diffusers" any timestep goes to ``t - T // S``."""
        found = self._next.get(t)
        if found is not None:
            return found
        if self._settings.parity == "diffusers" and t in range(len(self)) and self.num_inference_steps is not None:
            return t - len(self) // self.num_inference_steps
        raise DDIMError(
            f"timestep {show(t)} is not in the plan of {len(self._plan)} steps "
            f"({self._plan.timesteps[0]} to {self._plan.timesteps[-1]}); take it from scheduler.timesteps"
        )

    def _timestep_value(self, timestep: int | Tensor) -> int:
        """A timestep as a number; an element of ``timesteps`` on a device is found by its place, without reading it."""
        if not isinstance(timestep, Tensor):
            return timestep
        planned = self._planned_timesteps
        if timestep.device.type != "cpu" and timestep.dtype == torch.int64 and timestep.device == planned.device:
            offset, rest = divmod(timestep.data_ptr() - planned.data_ptr(), 8)
            if rest == 0 and 0 <= offset < len(planned):
                return self._visited(self._plan)[offset]
        if timestep.numel() != 1:
            raise DDIMError(f"timestep must be one number, or one per image, got shape {tuple(timestep.shape)}")
        value = timestep.item()
        return int(value) if value == value // 1 else value  # type: ignore[return-value]

    def step_index(self, timestep: int | Tensor) -> int:
        """Position of a timestep in the run.

        Raises:
            DDIMError: if the timestep is not in the plan.
        """
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
        self._use_plan(state["plan"], state["device"])
        self.num_inference_steps = state["steps"]
        self._runs = state["runs"]

    def __repr__(self) -> str:
        default = SchedulerConfig()
        changed = [name for name in SETTINGS if self._settings[name] != default[name]]
        return f"{type(self).__name__}({', '.join(f'{name}={show(self._settings[name])}' for name in changed)})"
