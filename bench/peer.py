"""The same steps in this project and in diffusers, ready to be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor

import ddim

__all__ = ["CASES", "SHAPES", "Case", "both_schedulers", "step_runs", "tensors"]

SHAPES = ((1, 4, 64, 64), (4, 4, 64, 64), (8, 3, 64, 64), (1, 3, 1024, 1024))
STEPS, INDEX = 50, 20


@dataclass(frozen=True)
class Case:
    """One kind of step.

    Attributes:
        name: Its name in the tables.
        settings: Settings of both schedulers.
        options: Arguments of both ``step`` calls.
        noise: Source of the step noise: "none", "given" or "generator".
        dtype: Dtype of sample and model output.
        at_least: How many times faster than diffusers the step should be where both allocate, or None.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    noise: str = "none"
    dtype: torch.dtype = torch.float32
    at_least: float | None = None


PLAIN = {"clip_sample": False, "timestep_spacing": "trailing"}
ZERO_SNR = {**PLAIN, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
NOISY = {"eta": 1.0}
CAPPED = {**PLAIN, "thresholding": True}

CASES = (
    Case("epsilon, eta 0", PLAIN, at_least=2.5),
    Case("v-prediction, zero SNR", ZERO_SNR, at_least=2.5),
    Case("clip", {**PLAIN, "clip_sample": True}, at_least=1.8),
    Case("clip, epsilon derived again", {**PLAIN, "clip_sample": True}, {"use_clipped_model_output": True}),
    Case("eta 1, noise given", PLAIN, NOISY, "given"),
    Case("eta 1, generator", PLAIN, NOISY, "generator"),
    Case("float16, epsilon", PLAIN, dtype=torch.float16),
    Case("bfloat16, epsilon", PLAIN, dtype=torch.bfloat16),
    Case("thresholding, cap 2", {**CAPPED, "sample_max_value": 2.0}, at_least=8),
    Case("thresholding, cap 1", CAPPED),
)


def tensors(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return a sample, a model output, noise, and a buffer for the result."""
    generator = torch.Generator().manual_seed(0)
    return [*(torch.randn(shape, generator=generator).to(dtype) for _ in range(3)), torch.empty(shape, dtype=dtype)]


def both_schedulers(
    settings: dict[str, Any], steps: int = STEPS, device: str = "cpu"
) -> tuple[ddim.DDIMScheduler, Any]:
    """Return our scheduler and diffusers', with the same settings and number of steps."""
    ours = ddim.DDIMScheduler(**settings)
    theirs: Any = diffusers.DDIMScheduler(**settings)
    ours.set_timesteps(steps, device=device)
    theirs.set_timesteps(steps, device=device)
    return ours, theirs


def step_runs(
    case: Case, shape: tuple[int, ...], device: str = "cpu", *, buffer: bool = False
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return one step of a case as two functions, ours and diffusers'.

    Args:
        case: The kind of step.
        shape: Shape of the sample.
        device: Device of the tensors.
        buffer: Whether our step writes its result to a buffer (``out=``) instead of a new tensor. diffusers has no such
            option and always makes a new one.
    """
    ours, theirs = both_schedulers(case.settings, device=device)
    x, m, z, out = (tensor.to(device) for tensor in tensors(shape, case.dtype))
    t, their_t = ours.timesteps[INDEX], theirs.timesteps[INDEX]
    options = dict(case.options)
    if case.noise == "given":
        options["variance_noise"] = z
    elif case.noise == "generator":
        options["generator"] = torch.Generator(device).manual_seed(1)
    target = out if buffer else None
    return lambda: ours.step(m, t, x, **options, out=target), lambda: theirs.step(m, their_t, x, **options)
