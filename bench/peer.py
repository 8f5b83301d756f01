"""The same steps by this project and by diffusers, ready to be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor

import ddim

__all__ = ["CASES", "SHAPES", "Case", "both_schedulers", "step_runs", "tensors"]

SHAPES = ((1, 4, 64, 64), (1, 4, 128, 128), (16, 4, 128, 128), (1, 3, 1024, 1024), (4, 16, 21, 60, 104))
STEPS, INDEX = 50, 20


@dataclass(frozen=True)
class Case:
    """One way to step.

    Attributes:
        name: what it is called in the tables.
        settings: of both schedulers.
        options: of both ``step`` calls.
        noise: "none", "given" or "generator".
        dtype: of sample and model output.
        targets: how many times faster than diffusers it is meant to be, for each of ``SHAPES``.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    noise: str = "none"
    dtype: torch.dtype = torch.float32
    targets: tuple[float, ...] = ()


PLAIN = {"clip_sample": False, "timestep_spacing": "trailing"}
ZERO_SNR = {**PLAIN, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
NOISY = {"eta": 1.0}
CAPPED = {**PLAIN, "thresholding": True}

CASES = (
    Case("epsilon, eta 0", PLAIN, targets=(8, 5, 6, 3, 4)),
    Case("v-prediction, zero SNR", ZERO_SNR, targets=(10, 7, 10, 5, 6)),
    Case("clip", {**PLAIN, "clip_sample": True}, targets=(4, 3.5, 4, 2.5, 2.5)),
    Case("clip, epsilon derived again", {**PLAIN, "clip_sample": True}, {"use_clipped_model_output": True}),
    Case("eta 1, noise given", PLAIN, NOISY, "given", targets=(6, 4, 4, 3, 3.5)),
    Case("eta 1, generator", PLAIN, NOISY, "generator", targets=(1.5,) * 5),
    Case("float16, epsilon", PLAIN, dtype=torch.float16, targets=(6, 4, 3, 3, 3)),
    Case("bfloat16, epsilon", PLAIN, dtype=torch.bfloat16, targets=(6, 4, 3, 3, 3)),
    Case("thresholding, cap 2", {**CAPPED, "sample_max_value": 2.0}, targets=(12, 25, 25, 25, 25)),
    Case("thresholding, cap 1", CAPPED, targets=(50,) * 5),
)


def tensors(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Sample, model output, noise, and a place for the result."""
    generator = torch.Generator().manual_seed(0)
    return [*(torch.randn(shape, generator=generator).to(dtype) for _ in range(3)), torch.empty(shape, dtype=dtype)]


def both_schedulers(
    settings: dict[str, Any], steps: int = STEPS, device: str = "cpu"
) -> tuple[ddim.DDIMScheduler, Any]:
    """Ours and diffusers', planned alike."""
    pair = ddim.DDIMScheduler(**settings), diffusers.DDIMScheduler(**settings)
    for scheduler in pair:
        scheduler.set_timesteps(steps, device=device)
    return pair


def step_runs(
    case: Case, shape: tuple[int, ...], device: str = "cpu"
) -> tuple[Callable[[], object], Callable[[], object]]:
    """One step of a case, ours (into a buffer, as a loop does it) and diffusers'."""
    ours, theirs = both_schedulers(case.settings, device=device)
    x, m, z, out = (tensor.to(device) for tensor in tensors(shape, case.dtype))
    t, their_t = ours.timesteps[INDEX], theirs.timesteps[INDEX]
    options = dict(case.options)
    if case.noise == "given":
        options["variance_noise"] = z
    elif case.noise == "generator":
        options["generator"] = torch.Generator(device).manual_seed(1)
    return lambda: ours.step(m, t, x, **options, out=out), lambda: theirs.step(m, their_t, x, **options)
