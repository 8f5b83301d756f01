"""Align Your Steps (Sabour, Fidler & Kreis 2024, 2404.14507): timesteps tuned for Stable Diffusion, for any count.

The authors publish ten timesteps for each model, and interpolate ln(sigma) evenly between their levels for other
counts. Sigma is that of the levels that both models were trained with: sqrt((1 - alpha_bar) / alpha_bar).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from .betas import make_betas

__all__ = ["AYS_TIMESTEPS", "ays_timesteps"]

# The ten timesteps of each model, and the end of the interpolation: the level of timestep 0, the last one with noise.
AYS_TIMESTEPS: dict[str, tuple[int, ...]] = {
    "ays": (999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0),
    "ays_sdxl": (999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0),
}


@cache
def _log_sigmas() -> np.ndarray:
    """ln(sigma) of the 1000 training timesteps of Stable Diffusion, rising, float64."""
    alpha_bar = torch.cumprod(1 - make_betas("scaled_linear", 1000, 0.00085, 0.012), dim=0)
    log_sigmas: np.ndarray = (((1 - alpha_bar) / alpha_bar).log() / 2).numpy()
    return log_sigmas


def ays_timesteps(table: tuple[int, ...], steps: int, total: int) -> list[int]:
    """S timesteps, strictly decreasing from T - 1.

    Args:
        table: of :data:`AYS_TIMESTEPS`.
        steps: S, in 1..T.
        total: T; where it is not 1000, the timesteps are scaled by (T - 1) / 999.
    """
    log_sigmas = _log_sigmas()
    positions = np.linspace(0, len(table) - 1, steps + 1)[:-1]
    levels = np.interp(positions, np.arange(len(table)), log_sigmas[list(table)])
    nearest = np.rint(np.interp(levels, log_sigmas, np.arange(1000.0)) * ((total - 1) / 999)).astype(int).tolist()
    timesteps: list[int] = []
    for i, t in enumerate(nearest):  # near both ends the levels are denser than timesteps where there are many steps
        highest = timesteps[-1] - 1 if timesteps else total - 1
        timesteps.append(max(min(t, highest), steps - 1 - i))
    return timesteps
