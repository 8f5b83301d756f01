"""The settings of a flow scheduler: diffusers' fourteen and ``eta``, validated and immutable."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import DDIMError, check_choice, check_integer, check_number
from ..step.checks import check_eta
from ..step.equations import Eta
from .common_settings import MAX_TRAIN_TIMESTEPS, FrozenSettings, check_switches, keep_number_type

__all__ = ["FLOW_SETTINGS", "MAX_SHIFT", "MIN_SHIFT", "TIME_SHIFT_TYPES", "FlowConfig"]

TIME_SHIFT_TYPES: tuple[str, ...] = ("exponential", "linear")

# Beyond these, neighbouring sigmas near 1 or near 0 become equal in float32.
MIN_SHIFT, MAX_SHIFT = 1e-6, 1e6

_MAX_TERMINAL = 0.999


@dataclass(frozen=True)
class FlowConfig(FrozenSettings):
    """Settings of a :class:`~ddim.DDIMFlowScheduler`; also readable as a mapping.

    All but ``eta`` are those of diffusers' ``FlowMatchEulerDiscreteScheduler``, with its names, order and defaults.

    Attributes:
        num_train_timesteps: T, the factor between sigma and the model's timestep.
        shift: s in sigma' = s sigma / (1 + (s - 1) sigma), from 1e-6 to 1e6.
        use_dynamic_shifting: shift by ``mu``, an argument of ``set_timesteps``, instead of ``shift``.
        base_shift: pipelines compute ``mu`` from this and the next three; the scheduler does not use them.
        max_shift: ``mu`` of an image of ``max_image_seq_len``.
        base_image_seq_len: number of tokens of an image whose ``mu`` is ``base_shift``.
        max_image_seq_len: number of tokens of an image whose ``mu`` is ``max_shift``.
        invert_sigmas: the model's timestep and output have the opposite direction (Mochi).
        shift_terminal: stretch the sigmas so that the last one has this value; None or 0 leaves them alone.
        use_karras_sigmas: space the sigmas between the first and the last as 2206.00364 does.
        use_exponential_sigmas: space them geometrically.
        use_beta_sigmas: space them by quantiles of a beta distribution (2407.12173); needs scipy.
        time_shift_type: how ``mu`` shifts, one of ``TIME_SHIFT_TYPES``.
        stochastic_sampling: False; drawing all noise again in each step is not DDIM.
        eta: of every step whose call gives none; 0 (deterministic) to 1 (DDPM), or ``"sigma_hat"``.

    Raises:
        DDIMError: at construction, for a value of the wrong type or outside its range.
    """

    num_train_timesteps: int = 1000
    shift: float = 1.0
    use_dynamic_shifting: bool = False
    base_shift: float | None = 0.5
    max_shift: float | None = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    invert_sigmas: bool = False
    shift_terminal: float | None = None
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_beta_sigmas: bool = False
    time_shift_type: str = "exponential"
    stochastic_sampling: bool = False
    eta: Eta = 0.0

    def __post_init__(self) -> None:
        self._check_switches()
        for name in ("num_train_timesteps", "base_image_seq_len", "max_image_seq_len"):
            self._set(name, check_integer(name, getattr(self, name), 1, MAX_TRAIN_TIMESTEPS))
        for name, (low, high, may_be_none) in _NUMBERS.items():
            given = getattr(self, name)
            if given is not None or not may_be_none:
                self._set(name, keep_number_type(check_number(name, given, low, high), given))
        check_choice("time_shift_type", self.time_shift_type, TIME_SHIFT_TYPES)
        self._set("eta", check_eta(self.eta))

    def _check_switches(self) -> None:
        for name, value in check_switches({name: getattr(self, name) for name in _SWITCHES}).items():
            self._set(name, value)
        spacings = [name for name in _SPACINGS if getattr(self, name)]
        if len(spacings) > 1:
            raise DDIMError(f"only one of {', '.join(_SPACINGS)} can be True, got {' and '.join(spacings)}")
        if self.stochastic_sampling:
            raise DDIMError(
                "stochastic_sampling=True draws all noise again in each step, which is not DDIM; set it to False, and "
                "eta above 0 (eta=1 for DDPM's share of fresh noise) for a stochastic step"
            )


FLOW_SETTINGS: tuple[str, ...] = FlowConfig.names()

_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
_SWITCHES = ("use_dynamic_shifting", "invert_sigmas", *_SPACINGS, "stochastic_sampling")

# The numeric settings: minimum, maximum, and whether None is allowed.
_NUMBERS: dict[str, tuple[float, float, bool]] = {
    "shift": (MIN_SHIFT, MAX_SHIFT, False),
    "base_shift": (-math.inf, math.inf, True),
    "max_shift": (-math.inf, math.inf, True),
    "shift_terminal": (0.0, _MAX_TERMINAL, True),
}
