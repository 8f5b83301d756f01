"""Beta schedules: how much noise each training step adds.

A rule maps ``(num_train_timesteps, beta_start, beta_end, dtype)`` to ``T`` betas. The dtype is float64, except where
diffusers' float32 rounding is reproduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..arguments import check_tensor
from ..errors import DDIMError, check_choice

__all__ = [
    "BETA_SCHEDULES",
    "MAX_BETA",
    "betas_from_alpha_bar",
    "check_levels",
    "check_usable",
    "make_betas",
]

# Nichol & Dhariwal 2021 (2102.09672), section 3.2: betas are clipped to avoid a singularity at the last timestep.
MAX_BETA = 0.999

BetaRule = Callable[[int, float, float, torch.dtype], Tensor]


def _linear(steps: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Ho et al. 2020 (2006.11239), section 4: linear in beta."""
    return torch.linspace(start, end, steps, dtype=dtype)


def _scaled_linear(steps: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Latent diffusion (2112.10752): linear in the square root of beta; the DDIM code calls it ``quad``."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=dtype) ** 2


def _constant(steps: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """The DDIM code's ``const``: beta_end at every step."""
    return torch.full((steps,), end, dtype=dtype)


def _jsd(steps: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """The DDIM code's ``jsd`` (Sohl-Dickstein et al. 2015): 1/T, 1/(T-1), ..., 1."""
    return 1.0 / torch.linspace(steps, 1, steps, dtype=dtype)


def _sigmoid(steps: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """The DDIM code's ``sigmoid`` (GeoDiff): a sigmoid over [-6, 6] between beta_start and beta_end."""
    return torch.sigmoid(torch.linspace(-6, 6, steps, dtype=dtype)) * (end - start) + start


def _cosine_alpha_bar(time: float) -> float:
    """Nichol & Dhariwal 2021, equation (17)."""
    return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2


def _exponential_alpha_bar(time: float) -> float:
    return math.exp(-12.0 * time)


def _laplace_alpha_bar(time: float) -> float:
    """Improved noise schedule (2407.03297): log-SNR distributed as Laplace(0, 0.5)."""
    log_snr = -0.5 * math.copysign(1.0, 0.5 - time) * math.log(1 - 2 * abs(0.5 - time) + 1e-6)
    snr = math.exp(log_snr)
    return math.sqrt(snr / (1.0 + snr))


def _from_function(alpha_bar: Callable[[float], float]) -> BetaRule:
    """Make a rule from a continuous ``alpha_bar(time)``, time in [0, 1]; the products of 1 - beta follow it."""

    def betas(steps: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
        levels = [alpha_bar(i / steps) for i in range(steps + 1)]
        return torch.tensor([min(1 - after / before, MAX_BETA) for before, after in pairwise(levels)], dtype=dtype)

    return betas


_RULES: dict[str, BetaRule] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _from_function(_cosine_alpha_bar),
    "const": _constant,
    "jsd": _jsd,
    "sigmoid": _sigmoid,
    "quad": _scaled_linear,
    "laplace": _from_function(_laplace_alpha_bar),
    "exp": _from_function(_exponential_alpha_bar),
}

BETA_SCHEDULES: tuple[str, ...] = tuple(_RULES)


def make_betas(
    beta_schedule: str,
    num_train_timesteps: int,
    beta_start: float,
    beta_end: float,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Compute the betas of a named schedule.

    Args:
        beta_schedule: one of :data:`BETA_SCHEDULES`.
        num_train_timesteps: T, at least 1.
        beta_start: first beta (``linear``, ``scaled_linear``/``quad``, ``sigmoid``).
        beta_end: last beta (the same, and ``const``).
        dtype: the dtype to compute in.

    Returns:
        Tensor of shape ``(T,)`` on the CPU.

    Raises:
        DDIMError: if the name is unknown.
    """
    rule = _RULES[check_choice("beta_schedule", beta_schedule, BETA_SCHEDULES)]
    return rule(num_train_timesteps, beta_start, beta_end, dtype)


def check_levels(alpha_bar: Tensor) -> Tensor:
    """Return levels in float64 (float32 stays), if they can be those of a schedule.

    Raises:
        DDIMError: unless they are a tensor of shape ``(T,)``, in [0, 1], and not increasing.
    """
    if check_tensor("alpha_bar", alpha_bar).ndim != 1 or not len(alpha_bar):
        raise DDIMError(f"alpha_bar must have the shape (T,), T at least 1, got {tuple(alpha_bar.shape)}")
    alpha_bar = alpha_bar if alpha_bar.dtype == torch.float32 else alpha_bar.to(torch.float64)
    inside = (alpha_bar >= 0) & (alpha_bar <= 1)
    falling = alpha_bar[1:] <= alpha_bar[:-1]
    if not bool(inside.all() & falling.all()):
        wrong = (~(inside & torch.cat([inside[:1], falling]))).nonzero()[0]
        raise DDIMError(
            "alpha_bar must decrease with the timestep, within [0, 1], got "
            f"{float(alpha_bar[wrong]):g} at timestep {int(wrong)}; if these are betas, pass "
            "torch.cumprod(1 - betas, 0)"
        )
    return alpha_bar


def check_usable(levels: Sequence[float], timesteps: Tensor) -> None:
    """Check that the levels of some timesteps are in [0, 1].

    Raises:
        DDIMError: if one is not, because a beta is above 1.
    """
    for t in timesteps.flatten().tolist():
        if not 0.0 <= levels[t] <= 1.0:
            raise DDIMError(
                f"alpha_bar must be in [0, 1], got {levels[t]:g} at timestep {t}; a beta above 1 makes the timesteps "
                "after it unusable"
            )


def betas_from_alpha_bar(alpha_bar: Tensor) -> Tensor:
    """Compute the betas that give these levels: beta_t = 1 - alpha_bar_t / alpha_bar_(t-1).

    Args:
        alpha_bar: shape ``(T,)``, in [0, 1], not increasing; only the last entry may be 0.

    Returns:
        Tensor of shape ``(T,)``: float32 if ``alpha_bar`` is float32, otherwise float64.

    Raises:
        DDIMError: for anything else.
    """
    alpha_bar = check_levels(alpha_bar)
    if bool((alpha_bar[:-1] == 0).any()):
        raise DDIMError("alpha_bar may be 0 at the last timestep only, got 0 before it, where no beta follows from it")
    previous = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    return 1.0 - alpha_bar / previous
