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

SHAPES = ((1, 4, 64, 64), (1, 4, 128, 128), (16, 4, 128, 128), (1, 3, 1024, 1024), (4, 16, 21, 60, 104))
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
        targets: How many times faster than diffusers the step should be, for each of ``SHAPES``.
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
