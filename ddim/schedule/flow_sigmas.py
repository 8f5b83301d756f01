"""The sigmas of a flow model's run, as diffusers' ``FlowMatchEulerDiscreteScheduler`` spaces them, in float64.

A flow model sees x_t = (1 - sigma) x_0 + sigma epsilon (2209.03003, 2210.02747). A run starts from evenly spaced
sigmas, or the caller's own; these are shifted, stretched, and spaced anew between their ends, each of it if the
settings say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arguments import as_real_tensor, check_list
from ..errors import DDIMError, check_integer, check_number, show
from ..step.levels import FLOW
from .common_settings import MAX_TRAIN_TIMESTEPS
from .flow_settings import MAX_SHIFT, MIN_SHIFT, FlowConfig
from .sigma_settings import SigmaConfig

__all__ = [
    "FLOW_SPACINGS",
    "FlowSigmas",
    "Numbers",
    "as_sigma_config",
    "dynamic_shift",
    "flow_sigmas",
    "shifted",
    "trained_run",
    "trained_sigmas",
]

Numbers = Iterable[float] | Tensor

_MAX_MU = math.log(MAX_SHIFT)


# The sigmas that diffusers' pipelines and solvers start from, before any shift: S of them, for T training timesteps;
# None for those of :func:`flow_sigmas` itself.
FLOW_SPACINGS: dict[str, Callable[[int, int], list[float] | None]] = {
    # As pipelines of Flux, Qwen-Image and LTX pass them: 1 to 1 / S.
    "trailing": lambda steps, total: [1 - i / steps for i in range(steps)],
    # As diffusers' flow scheduler spaces them itself: 1 to 1 / T.
    "linspace": lambda steps, total: None,
    # As diffusers' UniPC solver does it for flow models: S of S + 1 from 1 to 1 / T.
    "unipc": lambda steps, total: [1 - (1 - 1 / total) * i / steps for i in range(steps)],
    # As its other solvers do it (DPM, DEIS): S of S + 1 from 1 - 1 / T to 0.
    "dpm": lambda steps, total: [(1 - 1 / total) * (1 - i / steps) for i in range(steps)],
}


class FlowSigmas(NamedTuple):
    """The noise levels of a run.

    Attributes:
        sigmas: at each call of the model, without the end, strictly falling, in (0, 1], float64, shape ``(S,)``.
        times: what the model is called with, float64, shape ``(S,)``.
    """

    sigmas: Tensor
    times: Tensor


def as_sigma_config(config: FlowConfig, run: FlowSigmas) -> SigmaConfig:
    """The settings of a run: its sigmas are the whole table, rising."""
    return SigmaConfig(
        kind=FLOW,
        sigmas=tuple(run.sigmas.flip(0).tolist()),
        time_scale=float(config.num_train_timesteps),
        times=tuple(run.times.flip(0).tolist()),
        prediction_type="inverted_flow_prediction" if config.invert_sigmas else "flow_prediction",
    )


def shifted(sigmas: Tensor, shift: float) -> Tensor:
    """Move noise levels up (shift above 1) or down.

    Esser et al. 2024 (2403.03206), equation (23): sigma' = s sigma / (1 + (s - 1) sigma). The denominator is written
    such that it is exactly s at sigma = 1.
    """
    return shift * sigmas / ((1 - sigmas) + shift * sigmas)


def dynamic_shift(mu: float, time_shift_type: str) -> float:
    """The shift that ``mu`` stands for: e^mu (``exponential``) or mu itself (``linear``).

    e^mu / (e^mu + (1 / sigma - 1)) is equation (23) with s = e^mu, and likewise for mu.

    Raises:
        DDIMError: if ``mu`` is not a number in the range of a shift.
    """
    if time_shift_type == "exponential":
        return math.exp(check_number("mu", mu, -_MAX_MU, _MAX_MU))
    return check_number("mu", mu, MIN_SHIFT, MAX_SHIFT, why=" (with time_shift_type='linear')")


def trained_sigmas(config: FlowConfig) -> Tensor:
    """The level of each of the T training timesteps, falling, float64: i / T for i = T..1, with the fixed shift."""
    total = config.num_train_timesteps
    even = torch.arange(total, 0, -1, dtype=torch.float64) / total
    return even if config.use_dynamic_shifting else shifted(even, float(config.shift))


def trained_run(config: FlowConfig) -> FlowSigmas:
    """The levels and times of all training timesteps."""
    sigmas = trained_sigmas(config)
    return FlowSigmas(sigmas, _times(config, sigmas))


def _times(config: FlowConfig, sigmas: Tensor) -> Tensor:
    return (1 - sigmas if config.invert_sigmas else sigmas) * config.num_train_timesteps


def flow_sigmas(
    config: FlowConfig,
    num_inference_steps: int | None = None,
    sigmas: Numbers | None = None,
    mu: float | None = None,
    timesteps: Numbers | None = None,
    *,
    shift: float | None = None,
) -> FlowSigmas:
    """Compute the noise levels of a run, and the times that the model is called with.

    Args:
        config: the settings.
        num_inference_steps: S; may be left out where ``sigmas`` or ``timesteps`` are given.
        sigmas: the levels before any shift, strictly falling, in (0, 1]; by default evenly spaced from the first to
            the last of :func:`trained_sigmas`.
        mu: the dynamic shift; without ``use_dynamic_shifting`` it has no effect.
        timesteps: what the model is called with, strictly falling. Without ``sigmas`` these are the times divided by T,
            and are shifted, while the times are not. With ``invert_sigmas`` the times follow from the sigmas.
        shift: replaces the fixed shift of the settings, but not in the ends of the default spacing.

    Raises:
        DDIMError: for arguments that do not fit together, or sigmas that are not strictly falling.
    """
    given = None if timesteps is None else _falling("timesteps", timesteps, config.num_train_timesteps)
    levels = None if sigmas is None else _falling("sigmas", sigmas, 1)
    steps = _number_of_steps(num_inference_steps, levels, given)
    if levels is None:
        levels = _evenly_spaced(config, steps) if given is None else given / config.num_train_timesteps
    levels = shifted(levels, _shift_of_run(config, mu, shift))
    if config.shift_terminal:
        levels = _stretched(levels, float(config.shift_terminal))
    for name, spacing in SPACINGS.items():
        if config[name]:
            first, last = float(levels[0]), float(levels[-1])
            levels = spacing(first, last, _fractions(steps)).clamp(last, first)  # rounding must not pass the ends
    _check_distinct(levels)
    times = given if given is not None and not config.invert_sigmas else _times(config, levels)
    return FlowSigmas(levels, times)


def _number_of_steps(count: int | None, levels: Tensor | None, times: Tensor | None) -> int:
    lengths = {name: len(values) for name, values in (("sigmas", levels), ("timesteps", times)) if values is not None}
    if count is not None:
        lengths["num_inference_steps"] = check_integer("num_inference_steps", count, 1, MAX_TRAIN_TIMESTEPS)
    if not lengths:
        raise DDIMError("set_timesteps needs num_inference_steps, sigmas or timesteps, got none of them")
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise DDIMError(f"the arguments of set_timesteps must agree on the number of steps, got {listed}")
    return next(iter(lengths.values()))


def _falling(name: str, values: Numbers, high: float) -> Tensor:
    """Convert a list, array or tensor that must fall strictly, within (0, high]."""
    listed = values if isinstance(values, Tensor) else check_list(name, values, MAX_TRAIN_TIMESTEPS + 1)
    numbers = as_real_tensor(name, listed).detach().cpu().clone()
    if numbers.ndim != 1 or not 1 <= len(numbers) <= MAX_TRAIN_TIMESTEPS:
        raise DDIMError(f"{name} must be a flat list of 1 to {MAX_TRAIN_TIMESTEPS} numbers, got {show(values)}")
    outside = ~((numbers > 0) & (numbers <= high))
    if outside.any():
        wrong = float(numbers[outside][0])
        hint = "; leave the last 0 out, the run ends there anyway" if wrong == 0 else ""
        raise DDIMError(f"{name} must be above 0 and at most {high}, got {wrong:g}{hint}")
    if (numbers.diff() >= 0).any():
        at = int((numbers.diff() >= 0).nonzero()[0])
        raise DDIMError(
            f"{name} must fall strictly, got {float(numbers[at]):g} and then {float(numbers[at + 1]):g} at index {at}"
        )
    return numbers


def _fractions(steps: int) -> Tensor:
    """0 to 1, evenly; 0 for a single step."""
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def _evenly_spaced(config: FlowConfig, steps: int) -> Tensor:
    """From the highest to the lowest trained level, which have the fixed shift; the run is shifted once more."""
    trained = trained_sigmas(config)
    return torch.linspace(float(trained[0]), float(trained[-1]), steps, dtype=torch.float64)


def _shift_of_run(config: FlowConfig, mu: float | None, shift: float | None) -> float:
    if not config.use_dynamic_shifting:
        return float(config.shift if shift is None else shift)
    if mu is None:
        raise DDIMError(
            "use_dynamic_shifting=True needs mu: pass set_timesteps(..., mu=...), which pipelines compute from the "
            "size of the image, or set use_dynamic_shifting=False to use the fixed shift"
        )
    return dynamic_shift(mu, config.time_shift_type)


def _stretched(sigmas: Tensor, last: float) -> Tensor:
    """Scale 1 - sigma such that the last sigma becomes ``last`` (LTX-Video, 2501.00103)."""
    data = 1 - sigmas
    if data[-1] <= 0:
        raise DDIMError(
            f"shift_terminal={last:g} needs a last sigma below 1, got {float(sigmas[-1]):g}; use more steps, or set "
            "shift_terminal=None"
        )
    return 1 - data * ((1 - last) / data[-1])


def _karras(first: float, last: float, fractions: Tensor) -> Tensor:
    """Karras et al. 2022 (2206.00364), equation (5), rho = 7: even steps of sigma^(1/rho)."""
    rho = 7.0
    start, end = math.pow(first, 1 / rho), math.pow(last, 1 / rho)
    return (start + fractions * (end - start)).pow(rho)


def _exponential(first: float, last: float, fractions: Tensor) -> Tensor:
    """Even steps of log sigma."""
    return torch.exp(math.log(first) + fractions * (math.log(last) - math.log(first)))


def _beta(first: float, last: float, fractions: Tensor) -> Tensor:
    """Quantiles of a beta distribution with both parameters 0.6 (Lee et al. 2024, 2407.12173), from 1 down to 0."""
    try:
        from scipy.special import betaincinv
    except ImportError as error:
        raise DDIMError(
            "use_beta_sigmas=True needs scipy, which is not installed; run 'pip install scipy', or use another spacing"
        ) from error
    quantiles = torch.from_numpy(np.asarray(betaincinv(0.6, 0.6, (1 - fractions).numpy())))
    return last + quantiles * (first - last)


# Spacings between the first and the last sigma, by their setting.
SPACINGS: dict[str, Callable[[float, float, Tensor], Tensor]] = {
    "use_karras_sigmas": _karras,
    "use_exponential_sigmas": _exponential,
    "use_beta_sigmas": _beta,
}


def _check_distinct(sigmas: Tensor) -> None:
    """Check that the levels are in (0, 1] and differ in float32, in which the model and callers see them.

    Raises:
        DDIMError: otherwise.
    """
    rounded = sigmas.float()
    equal = (rounded.diff() >= 0).nonzero()
    if len(equal):
        at = int(equal[0])
        raise DDIMError(
            f"sigmas must fall strictly, but {at} and {at + 1} of {len(sigmas)} are both {float(rounded[at]):.8g} in "
            "float32; use fewer steps or a shift closer to 1"
        )
    if not 0 < float(rounded[-1]) <= float(rounded[0]) <= 1:
        raise DDIMError(f"sigmas must be above 0 and at most 1, got {float(sigmas[0]):g} to {float(sigmas[-1]):g}")
