"""The noise schedule: alpha_bar in float64, zero terminal SNR, the final alpha."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .beta_schedules import betas_from_alpha_bar, make_betas
from .errors import DDIMError, check_choice, check_integer, check_number
from .timestep_plan import PARITIES

__all__ = ["NoiseSchedule", "make_noise_schedule", "rescale_zero_terminal_snr"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How noisy each training timestep is.

    Attributes:
        betas: float64 CPU tensor, shape ``(T,)``.
        alpha_bar: float64 CPU tensor, shape ``(T,)``; x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise.
        final_alpha_bar: the level after the last step: 1, or ``alpha_bar[0]``.
    """

    betas: Tensor
    alpha_bar: Tensor
    final_alpha_bar: float
    levels: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Host floats once: a step must never read a tensor to know its coefficients.
        object.__setattr__(self, "levels", tuple(self.alpha_bar.tolist()))

    def __len__(self) -> int:
        """Number of training timesteps, T."""
        return len(self.levels)

    def alpha_bar_at(self, timestep: int) -> float:
        """``alpha_bar`` of a timestep in [0, T); any negative timestep is the end of sampling."""
        return self.levels[timestep] if timestep >= 0 else self.final_alpha_bar

    def log_snr_at(self, timestep: int) -> float:
        """ln(alpha_bar / (1 - alpha_bar)) of a timestep: -inf where there is only noise, inf where there is none."""
        alpha_bar = self.alpha_bar_at(timestep)
        if 0.0 < alpha_bar < 1.0:
            return math.log(alpha_bar) - math.log1p(-alpha_bar)
        return math.inf if alpha_bar >= 1.0 else -math.inf

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last timestep is pure noise."""
        return self.levels[-1] == 0.0


def rescale_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(alpha_bar) so that the last entry is exactly 0 and the first is kept.

    Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2305.08891), algorithm 1.

    Args:
        alpha_bar: shape ``(T,)``, T at least 2.

    Returns:
        Tensor of shape ``(T,)``: float32 for float32, else float64.

    Raises:
        DDIMError: if the first and the last entry are equal, so that there is nothing to scale.
    """
    root = (alpha_bar if alpha_bar.dtype == torch.float32 else alpha_bar.to(torch.float64)).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    if first < last:
        raise DDIMError(
            f"rescale_zero_terminal_snr takes alpha_bar, which falls with the timestep, got {float(first):g} to "
            f"{float(last):g} (square roots); for betas give torch.cumprod(1 - betas, 0)"
        )
    if len(root) < 2 or first == last:
        raise DDIMError(
            "rescale_betas_zero_snr needs at least two timesteps of different noise level, "
            f"got {len(root)} from {float(first):g} to {float(last):g}; leave it off"
        )
    return ((root - last) * (first / (first - last))) ** 2


def make_noise_schedule(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.0001,
    beta_end: float = 0.02,
    beta_schedule: str = "linear",
    trained_betas: Sequence[float] | Tensor | None = None,
    rescale_betas_zero_snr: bool = False,
    set_alpha_to_one: bool = True,
    *,
    parity: str = "exact",
) -> NoiseSchedule:
    """Build the noise schedule, in float64.

    Args:
        num_train_timesteps: T; ignored when ``trained_betas`` is given (then T is its length).
        beta_start: first beta, at least 0.
        beta_end: last beta, at least 0.
        beta_schedule: one of ``BETA_SCHEDULES``.
        trained_betas: shape ``(T,)``: list, numpy array or tensor; overrides the three above.
        rescale_betas_zero_snr: make the last timestep pure noise (2305.08891, algorithm 1).
        set_alpha_to_one: end at alpha_bar = 1 (clean data), else at ``alpha_bar[0]``.
        parity: ``"diffusers"`` computes in float32, in diffusers' order, and keeps its rounding errors (of 1e-6 in
            alpha_bar, 2e-4 in 1 - alpha_bar[0], more next to zero SNR).

    Raises:
        DDIMError: for betas that are negative or not finite, or unknown names.
    """
    rounded = check_choice("parity", parity, PARITIES) == "diffusers"
    dtype = torch.float32 if rounded else torch.float64
    betas = (
        make_betas(
            beta_schedule,
            check_integer("num_train_timesteps", num_train_timesteps, 1),
            check_number("beta_start", beta_start, 0.0),
            check_number("beta_end", beta_end, 0.0),
            dtype,
        )
        if trained_betas is None
        else _as_betas(trained_betas, dtype)
    )
    _check_betas(betas)
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    if rescale_betas_zero_snr:
        alpha_bar = rescale_zero_terminal_snr(alpha_bar)
        betas = betas_from_alpha_bar(alpha_bar)
        alpha_bar = torch.cumprod(1 - betas, dim=0) if rounded else alpha_bar
    final = 1.0 if set_alpha_to_one else float(alpha_bar[0])
    return NoiseSchedule(betas.to(torch.float64), alpha_bar.to(torch.float64), final)


def _as_betas(values: Sequence[float] | Tensor, dtype: torch.dtype) -> Tensor:
    try:
        betas = torch.as_tensor(values, dtype=dtype, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DDIMError(f"trained_betas must be a list, array or tensor of numbers, got {values!r:.80}") from error
    if betas.ndim != 1 or len(betas) == 0:
        raise DDIMError(f"trained_betas must be one number per training timestep, got shape {tuple(betas.shape)}")
    return betas


def _check_betas(betas: Tensor) -> None:
    bad = ~torch.isfinite(betas) | (betas < 0)
    if bad.any():
        at = int(bad.nonzero()[0])
        raise DDIMError(f"betas must be finite and not negative, got {float(betas[at])!r} at timestep {at}")
    above = betas > 1
    if above.any():
        at = int(above.nonzero()[0])
        _log.warning("beta %g at timestep %d is above 1: no sample can be taken there", float(betas[at]), at)
