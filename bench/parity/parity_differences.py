"""Where parity="exact" and parity="diffusers" differ, and which of them is closer to the exact solution.

    python bench/parity/parity_differences.py

Prints the table of docs/scheduler.md: a mixture of three Gaussians in one dimension with its perfect model, Stable
Diffusion's betas, eta 0. The exact solution of the probability-flow equation keeps every point's quantile, so it is
known to rounding. Distances are root mean squares over 199 points of data with standard deviation 1.1.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ddim import DDIMError, DDIMScheduler

MEANS, SPREAD = (-1.0, 0.2, 1.5), 0.35
SETTINGS: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
}
SPACINGS = ("leading", "trailing", "linspace")
COUNTS = (5, 7, 10, 20, 30, 50, 61, 100, 333, 600)


def cdf(x: Tensor, root: float, deviation: float) -> Tensor:
    """Cumulative distribution at a noise level, given by sqrt(alpha_bar) and the modes' standard deviation there."""
    return torch.stack([torch.special.ndtr((x - root * mean) / deviation) for mean in MEANS]).mean(0)


def quantiles(levels: Tensor, root: float, deviation: float) -> Tensor:
    """Invert `cdf` by bisection."""
    low, high = torch.full_like(levels, -12.0), torch.full_like(levels, 12.0)
    for _ in range(70):
        middle = (low + high) / 2
        below = cdf(middle, root, deviation) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def epsilon(x: Tensor, alpha_bar: float) -> Tensor:
    """Predict epsilon exactly."""
    root, variance = math.sqrt(alpha_bar), alpha_bar * SPREAD**2 + 1 - alpha_bar
    offsets = x[..., None] - root * torch.tensor(MEANS, dtype=x.dtype)
    weights = torch.softmax(-offsets.square() / (2 * variance), dim=-1)
    x0 = (weights * (torch.tensor(MEANS, dtype=x.dtype) + root * SPREAD**2 / variance * offsets)).sum(-1)
    return (x - root * x0) / math.sqrt(1 - alpha_bar)


def sampled(scheduler: DDIMScheduler, points: Tensor) -> Tensor:
    """Start from the points' quantiles at the first timestep's level, and sample."""
    levels = scheduler.noise_schedule.alpha_bar.tolist()
    a = levels[int(scheduler.timesteps[0])]
    x = quantiles(points, math.sqrt(a), math.sqrt(a * SPREAD**2 + 1 - a))
    for t in scheduler.timesteps:
        x = scheduler.step(epsilon(x, levels[int(t)]), t, x, return_dict=False)[0]
    return x


def rms(difference: Tensor) -> float:
    """Return the root mean square."""
    return float(difference.square().mean().sqrt())


def missed_targets(scheduler: DDIMScheduler) -> int:
    """Count steps that do not lead to where the next one begins; the last one should lead to the end."""
    pairs = zip(scheduler.plan.pairs, (*scheduler.plan.timesteps[1:], -1), strict=True)
    return sum(t_next != then and max(t_next, then) >= 0 for (_, t_next), then in pairs)


def row(spacing: str, steps: int, points: Tensor, truth: Tensor) -> str:
    """Format one line of the table."""
    results = {}
    missed = 0
    for parity in ("exact", "diffusers"):
        scheduler = DDIMScheduler(**SETTINGS, timestep_spacing=spacing, parity=parity)
        try:
            scheduler.set_timesteps(steps)
        except DDIMError:
            return f"| {spacing} | {steps} | diffusers raises | | | |"
        missed = missed_targets(scheduler)
        results[parity] = sampled(scheduler, points)
    apart = rms(results["exact"] - results["diffusers"])
    errors = [rms(results[parity] - truth) for parity in ("exact", "diffusers")]
    return f"| {spacing} | {steps} | {missed} | {apart:.2g} | {errors[0]:.3f} | {errors[1]:.3f} |"


def main() -> None:
    """Print the table."""
    points = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    truth = quantiles(points, 1.0, SPREAD)
    print("| spacing | steps | diffusers' steps with another target | apart | exact: error | diffusers: error |")
    print("|---|---|---|---|---|---|")
    for spacing in SPACINGS:
        for steps in COUNTS:
            print(row(spacing, steps, points, truth))


if __name__ == "__main__":
    main()
