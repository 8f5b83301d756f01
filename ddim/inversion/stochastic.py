"""Exact inversion by recording the noise of every step, at one model call per step.

A path of noisy versions of x_0 is chosen; the noise of a step is what the model's mean misses of the next version.
Sampling with that noise walks the same path.
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
from .run import Run

__all__ = ["NOISE_PATHS", "encode_variance_noise"]

# (run, index, sample before the step, x_0, noise) -> the sample after the step
Path = Callable[[Run, int, Tensor, Tensor, Tensor], Tensor]


def _posterior(run: Run, index: int, x: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """q(x_next | x_t, x_0), DDIM equation (7): a step of a model that knows x_0 (CycleDiffusion, 2210.05559)."""
    a, b = _relative_levels(run, index)
    eta = 1.0 if run.etas[index] == SIGMA_HAT else run.etas[index]
    c = coefficients_between(a, b, "sample", eta)
    x_next, _ = apply_step(c, x, x0, noise=noise if c.sigma else None)
    return x_next


def _independent(run: Run, index: int, x: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """q(x_next | x_0) with fresh noise at every level (edit-friendly DDPM, 2304.06140, equation 6)."""
    return _noised(x0, _relative_levels(run, index)[1], noise)


_PATHS: dict[str, Path] = {"cycle": _posterior, "edit_friendly": _independent}

NOISE_PATHS: tuple[str, ...] = tuple(_PATHS)


def encode_variance_noise(
    run: Run,
    x0: Tensor,
    noise_path: str,
    seed: int,
    noise_dtype: torch.dtype | None,
    image_indices: Sequence[int] | None,
) -> tuple[Tensor, VarianceNoise, Tensor]:
    """Walk from the noisiest version of x_0 down to x_0, and record the noise of each step.

    The walk is the sampling run itself, with the same operations in the same order, so what it ends in is what sampling
    with the recorded noise gives; and rounding the noise of one step is made good by the next.

    Args:
        run: with eta above 0 at one step at least.
        x0: shape ``(B, ...)``.
        noise_path: one of :data:`NOISE_PATHS`.
        seed: of the path.
        noise_dtype: the recorded noise of all steps but the last is rounded to this dtype, or None.
        image_indices: which image of the run each row is; by default 0..B-1.

    Returns:
        The latent ``(B, ...)`` in the dtype of ``x0``, the noise ``(S, B, ...)`` in the working dtype, and the picture
        that they give back, ``(B, ...)``.
    """
    target, path = x0.to(working_dtype(x0.dtype)), _PATHS[noise_path]

    def fresh(step: int) -> Tensor:
        return keyed_noise(x0.shape, seed, step, image_indices, device=x0.device, dtype=target.dtype)

    # No plan has as many steps as there are timesteps plus one, so this key is never that of a step.
    start = _noised(target, _relative_levels(run, 0)[0], fresh(run.scheduler.settings.num_train_timesteps))
    latent = start.to(x0.dtype)
    x, recorded = latent.to(target.dtype), []
    for index in range(len(run)):
        last = index == len(run) - 1
        output = run.output(index, x)
        run.report(index, index, x, output)
        goal = target if last else path(run, index, x, target, fresh(index))
        mean, sigma = run.mean(index, x, output), float(run.coefficients(index).sigma)
        noise = _recover(goal, mean, sigma, keep=last)
        noise = noise if last else _rounded(noise, noise_dtype)
        x = mean.add(noise, alpha=sigma) if sigma else mean + noise
        recorded.append(noise)
    return latent, torch.stack(recorded).as_subclass(VarianceNoise), x.to(x0.dtype)


def _recover(goal: Tensor, mean: Tensor, sigma: float, *, keep: bool) -> Tensor:
    """z with ``mean + sigma z = goal``. Without noise, the residual itself (``keep``), or nothing: the path follows."""
    if sigma:
        return (goal - mean) / sigma
    return goal - mean if keep else torch.zeros_like(mean)


def _rounded(noise: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Noise as ``dtype`` can hold it; left as it is where the range is too small."""
    if dtype is None or float(noise.abs().max()) > torch.finfo(dtype).max:
        return noise
    return noise.to(dtype).to(noise.dtype)


def _noised(x0: Tensor, alpha_bar: float, noise: Tensor) -> Tensor:
    """sqrt(a) x_0 + sqrt(1 - a) noise, DDIM equation (4)."""
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * noise


def _relative_levels(run: Run, index: int) -> tuple[float, float]:
    """Levels of a step relative to the plan's end, where the picture is: it need not be clean (a part of a plan)."""
    end = run.levels(len(run) - 1)[1]
    a, b = run.levels(index)
    return min(a / end, 1.0), min(b / end, 1.0)
