"""One kernel per step on CUDA devices; everywhere else the answer is no, without importing Triton.

With ``TRITON_INTERPRET=1`` in the environment the kernels run on the CPU, interpreted: a way to test them, not to work.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from .guidance import Guided
from .noise import KeyedStep
from .recipe import Recipe

__all__ = ["INTERPRETED", "fusable", "fused_noise", "fused_step", "possible_on"]

_DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16))
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class Kernels(NamedTuple):
    """What the modules that import Triton offer."""

    step: Callable[..., None]
    noise: Callable[..., None]
    rescale: Callable[..., Tensor]


@cache
def _kernels() -> Kernels | None:
    if importlib.util.find_spec("triton") is None:  # CPU builds and builds for Windows come without it
        return None
    from . import triton_kernels, triton_rescale

    return Kernels(triton_kernels.step_kernel, triton_kernels.write_noise, triton_rescale.rescale_factors)


def possible_on(device: torch.device) -> bool:
    """Whether a step can be one kernel there."""
    return (INTERPRETED or device.type == "cuda") and _kernels() is not None


def fusable(*tensors: Tensor) -> bool:
    """Whether the kernels take these: contiguous, float32 or half precision, and of no interest to autograd."""
    grad = torch.is_grad_enabled()
    return possible_on(tensors[0].device) and all(
        tensor.dtype in _DTYPES and tensor.is_contiguous() and not (grad and tensor.requires_grad) for tensor in tensors
    )


def fused_step(
    sample: Tensor,
    output: Tensor | Guided,
    recipe: Recipe,
    *,
    noise: Tensor | KeyedStep | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """A recipe on sample and output, in float32, in one launch.

    Guidance with rescale needs two small launches before it, for the standard deviations.

    Args:
        sample: fusable, shape ``(B, ...)``.
        output: fusable, or guided and yet to be combined.
        recipe: of the step.
        noise: z, or the key to draw it with inside the kernel.
        out: float32, where to write; may be ``sample``.
    """
    kernels = _kernels()
    assert kernels is not None
    result = torch.empty_like(sample, dtype=torch.float32) if out is None else out
    guided = output if isinstance(output, Guided) else None
    first = guided.uncond.contiguous() if guided else output
    text = guided.text.contiguous() if guided else None
    factors = kernels.rescale(first, text, guided.scale, guided.rescale) if guided and guided.rescale else None
    keyed = noise if isinstance(noise, KeyedStep) else None
    kernels.step(
        sample,
        first,
        result,
        recipe.weights,
        rest=recipe.rest,
        bound=recipe.bound,
        text=text,
        scale=guided.scale if guided else 1.0,
        factors=factors,
        noise=None if keyed else noise,
        sigma=recipe.sigma,
        key=keyed.key.words if keyed else None,
        step=keyed.step if keyed else 0,
        images=keyed.key.images_on(sample.device) if keyed else None,
    )
    return result


def fused_noise(keyed: KeyedStep, out: Tensor) -> Tensor:
    """Fill a contiguous float32 tensor with keyed noise on its own device."""
    kernels = _kernels()
    assert kernels is not None
    kernels.noise(out, keyed.key.words, keyed.step, keyed.key.images_on(out.device))
    return out
