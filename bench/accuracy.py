"""Distance of runs from the same run in float64, ours and diffusers': ``python -m bench.accuracy``.

The model is exact: the data are independent numbers, 0.7 or -0.7 with standard deviation 0.2, so epsilon is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ddim
from bench.peer import both_schedulers
from bench.timing import print_table

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
BASE = {"clip_sample": False, "timestep_spacing": "trailing"}
SETTINGS: dict[str, dict[str, Any]] = {
    "epsilon, scaled linear": {**BASE, **SCALED},
    "epsilon, linear": BASE,
    "epsilon, cosine": {**BASE, "beta_schedule": "squaredcos_cap_v2"},
    "v, scaled linear, zero SNR": {
        **BASE,
        **SCALED,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    },
    "v, cosine": {**BASE, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "sample, linear": {**BASE, "prediction_type": "sample"},
    "epsilon, linear, clipped": {**BASE, "clip_sample": True},
}
SHAPE = (4, 4, 32, 32)


def exact_model(scheduler: ddim.DDIMScheduler) -> Callable[[Tensor, int], Tensor]:
    """Return a model that computes the exact output in float64 and rounds it to the sample's dtype."""
    levels = ddim.make_schedule(1, scheduler.settings).noise.levels

    def model(x: Tensor, t: int) -> Tensor:
        a, wide = levels[t], x.double()
        variance = a * 0.04 + 1 - a
        mean = 0.7 * torch.tanh(wide * (0.7 * a**0.5 / variance))
        x0 = mean + a**0.5 * 0.04 / variance * (wide - a**0.5 * mean)
        if scheduler.settings.prediction_type == "sample":
            return x0.to(x.dtype)
        epsilon = (wide - a**0.5 * x0) / (1 - a) ** 0.5
        velocity = scheduler.settings.prediction_type == "v_prediction"
        return (a**0.5 * epsilon - (1 - a) ** 0.5 * x0 if velocity else epsilon).to(x.dtype)

    return model


def by_steps(scheduler: Any, model: Callable[[Tensor, int], Tensor], x: Tensor, *, clone: bool = False) -> Tensor:
    """Sample with the loop that users of schedulers write, with or without a copy of every sample."""
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, int(t)), t, x).prev_sample
        x = x.clone() if clone else x
    return x


def errors(settings: dict[str, Any], steps: int, dtype: torch.dtype) -> list[float]:
    """Return the largest error of ``sample()``, of our ``step``, with samples cloned, and of diffusers' ``step``."""
    ours, theirs = both_schedulers(settings, steps)
    model = exact_model(ours)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    truth = ddim.sample(lambda x, t: model(x, int(t)), start.double(), ours)
    runs = (
        ddim.sample(lambda x, t: model(x, int(t)), start, ours),
        by_steps(ours, model, start),
        by_steps(ours, model, start, clone=True),
        by_steps(theirs, model, start),
    )
    return [float((run.double() - truth).abs().max()) for run in runs]


def main(step_counts: tuple[int, ...] = (50, 1000)) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows = []
    for name, settings in SETTINGS.items():
        for steps in step_counts:
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                *ours, peer = errors(settings, steps, dtype)
                mark = "" if max(ours) <= peer else "WORSE"
                cells = (f"{value:.1e}" for value in (*ours, peer))
                rows.append((name, steps, str(dtype).removeprefix("torch."), *cells, mark))
    head = ("configuration", "steps", "dtype", "sample()", "step()", "step(), cloned", "diffusers", "")
    print_table("Largest error of the last sample against float64 (data of standard deviation 0.7)", head, rows)


if __name__ == "__main__":
    main()
