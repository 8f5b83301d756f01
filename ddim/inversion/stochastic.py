"""Exact inversion by recording the noise of every step, with one model call per step.

A path of noisy versions of x_0 is chosen. The noise of a step is the difference between the next version and the mean
that the model predicts, divided by sigma. Sampling with that noise follows the same path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..noise.keyed import keyed_noise
from ..noise.recorded import VarianceNoise
from ..precision import working_dtype
from ..step.apply import apply_step
from ..step.coefficients import coefficients_between
from ..step.equations import SIGMA_HAT
from ..step.levels import Level
from .trajectory import Trajectory

__all__ = ["NOISE_PATHS", "encode_variance_noise"]

# (trajectory, index, sample before the step, x_0, noise) -> the sample after the step
NoisePath = Callable[[Trajectory, int, Tensor, Tensor, Tensor], Tensor]


def _posterior(trajectory: Trajectory, index: int, x: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """Draw from q(x_next | x_t, x_0), DDIM equation (7): a step whose model knows x_0 (CycleDiffusion, 2210.05559)."""
    at, to = _relative_levels(trajectory, index)
    eta = 1.0 if trajectory.etas[index] == SIGMA_HAT else trajectory.etas[index]
    c = coefficients_between(at, to, "sample", eta)
    x_next, _ = apply_step(c, x, x0, noise=noise if c.sigma else None)
    return x_next


def _independent(trajectory: Trajectory, index: int, x: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """Draw from q(x_next | x_0), with fresh noise at every level (edit-friendly DDPM, 2304.06140, equation 6)."""
    return _add_noise(x0, _relative_levels(trajectory, index)[1], noise)


_PATHS: dict[str, NoisePath] = {"cycle": _posterior, "edit_friendly": _independent}

NOISE_PATHS: tuple[str, ...] = tuple(_PATHS)


def encode_variance_noise(
    trajectory: Trajectory,
    x0: Tensor,
    noise_path: str,
    seed: int,
    noise_dtype: torch.dtype | None,
    image_indices: Sequence[int] | None,
) -> tuple[Tensor, VarianceNoise, Tensor]:
    """Follow a path from the noisiest version of x_0 down to x_0, and record the noise of each step.

    This performs the sampling run itself, with the same operations in the same order, so its last sample is exactly
    what sampling with the recorded noise gives, and the next step corrects the rounding of a step's noise.

    Args:
        trajectory: Model and plan, with eta above 0 in at least one step.
        x0: The image, shape ``(B, ...)``.
        noise_path: One of :data:`NOISE_PATHS`.
        seed: Seed of the path.
        noise_dtype: The recorded noise of all steps but the last is rounded to this dtype; None does not round.
        image_indices: Which image of the run each row is; by default 0..B-1.

    Returns:
        The latent ``(B, ...)`` in the dtype of ``x0``, the noise ``(S, B, ...)`` in the working dtype, and the image
        that sampling with them gives, ``(B, ...)``.
    """
    target, path = x0.to(working_dtype(x0.dtype)), _PATHS[noise_path]

    def fresh_noise(step: int) -> Tensor:
        return keyed_noise(x0.shape, seed, step, image_indices, device=x0.device, dtype=target.dtype)

    # A step's index is always below the number of training timesteps, so no step uses the key of the starting noise.
    start_key = len(trajectory.schedule.noise)
    latent = _add_noise(target, _relative_levels(trajectory, 0)[0], fresh_noise(start_key)).to(x0.dtype)
    x, recorded = latent.to(target.dtype), []
    for index in range(len(trajectory)):
        is_last = index == len(trajectory) - 1
        output = trajectory.output(index, x)
        trajectory.report(index, index, x, output)
        x_next = target if is_last else path(trajectory, index, x, target, fresh_noise(index))
        mean, sigma = trajectory.mean(index, x, output), float(trajectory.coefficients(index).sigma)
        noise = _noise_between(mean, x_next, sigma, keep_residual=is_last)
        noise = noise if is_last else _round_to(noise_dtype, noise)
        x = mean.add(noise, alpha=sigma) if sigma else mean + noise
        recorded.append(noise)
    return latent, torch.stack(recorded).as_subclass(VarianceNoise), x.to(x0.dtype)


def _noise_between(mean: Tensor, x_next: Tensor, sigma: float, *, keep_residual: bool) -> Tensor:
    """Return z with ``mean + sigma z = x_next``.

    If sigma is 0, return the residual ``x_next - mean`` when it is to be kept, and zeros otherwise: the path then
    continues from the mean.
    """
    if sigma:
        return (x_next - mean) / sigma
    return x_next - mean if keep_residual else torch.zeros_like(mean)


def _round_to(dtype: torch.dtype | None, noise: Tensor) -> Tensor:
    """Round noise to ``dtype``, unless it exceeds the range of that dtype."""
    if dtype is None or float(noise.abs().max()) > torch.finfo(dtype).max:
        return noise
    return noise.to(dtype).to(noise.dtype)


def _add_noise(x0: Tensor, level: Level, noise: Tensor) -> Tensor:
    """Return alpha x_0 + sigma noise, DDIM equation (4)."""
    return level.alpha * x0 + level.sigma * noise


def _relative_levels(trajectory: Trajectory, index: int) -> tuple[Level, Level]:
    """Return the levels of a step relative to the plan's end: if the plan is a part of one, x0 is noisy itself."""
    end = trajectory.levels(len(trajectory) - 1)[1]
    at, to = trajectory.levels(index)
    return _relative(at, end), _relative(to, end)


def _relative(level: Level, end: Level) -> Level:
    """Return the level that takes a sample at ``end`` to ``level``: x = alpha x_end + sigma z."""
    if end == (1.0, 0.0):
        return level
    alpha = level.alpha / end.alpha
    return Level(alpha, math.sqrt(max(level.sigma**2 - (alpha * end.sigma) ** 2, 0.0)))
