"""Where the noise of a scheduler's step comes from, and the checks on what a caller hands in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import DDIMError
from .noise import generator_noise
from .tensor_ops import working_dtype

__all__ = ["check_pair", "check_sources", "drawn_noise"]

Generators = torch.Generator | Sequence[torch.Generator]


def check_pair(model_output: Tensor, sample: Tensor) -> None:
    """See that a model output belongs to a sample.

    Raises:
        DDIMError: for other shapes or devices, or numbers that are not floating point.
    """
    if model_output.shape != sample.shape or model_output.device != sample.device:
        raise DDIMError(
            f"model_output must have the sample's shape and device, {tuple(sample.shape)} on {sample.device}, got "
            f"{tuple(model_output.shape)} on {model_output.device}"
            + ("; drop the learned variance channels" if _has_variance_channels(model_output, sample) else "")
        )
    if not (sample.is_floating_point() and model_output.is_floating_point()):
        raise DDIMError(f"sample and model_output must be floating point, got {sample.dtype} and {model_output.dtype}")


def _has_variance_channels(model_output: Tensor, sample: Tensor) -> bool:
    return sample.ndim > 1 and model_output.ndim > 1 and model_output.shape[1] == 2 * sample.shape[1]


def check_sources(sample: Tensor, generator: Generators | None, variance_noise: Tensor | None) -> None:
    """See that at most one source of noise is given, and that given noise fits; whatever eta is.

    Raises:
        DDIMError: otherwise.
    """
    if variance_noise is None:
        return
    if generator is not None:
        raise DDIMError("give generator or variance_noise, not both: each would decide the step's noise")
    if not variance_noise.is_floating_point():
        raise DDIMError(f"variance_noise must be floating point, got {variance_noise.dtype}")
    if variance_noise.shape != sample.shape or variance_noise.device != sample.device:
        raise DDIMError(
            f"variance_noise must have the sample's shape and device, {tuple(sample.shape)} on "
            f"{sample.device}, got {tuple(variance_noise.shape)} on {variance_noise.device}"
        )


def drawn_noise(sample: Tensor, generator: Generators, dtype: torch.dtype | None = None) -> Tensor:
    """Noise from a caller's generators.

    Args:
        sample: shape ``(B, ...)``.
        generator: one, or one per image.
        dtype: to draw in; by default float32, so that the noise does not depend on the sample's dtype.
    """
    if not isinstance(generator, torch.Generator) and len(generator) == 1:
        generator = generator[0]
    if dtype is None or dtype == torch.float32:
        return generator_noise(sample.shape, generator, sample.device, working_dtype(sample.dtype))
    if isinstance(generator, torch.Generator):
        return torch.randn(sample.shape, generator=generator, device=generator.device, dtype=dtype).to(sample.device)
    rows = [drawn_noise(row[None], one, dtype) for row, one in zip(sample, generator, strict=True)]
    return torch.cat(rows)
