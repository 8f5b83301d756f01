"""Whether Triton kernels can run on a device. Asking does not import Triton.

With ``TRITON_INTERPRET=1`` in the environment the kernels run interpreted on the CPU: for tests, far too slow for work.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

__all__ = ["INTERPRETED", "kernels_accept", "kernels_run_on"]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16))


@cache
def _triton_is_installed() -> bool:
    """CPU builds of torch, and builds for Windows, come without Triton."""
    return importlib.util.find_spec("triton") is not None


def kernels_run_on(device: torch.device) -> bool:
    """Whether a kernel can run on this device."""
    return (INTERPRETED or device.type == "cuda") and _triton_is_installed()


def kernels_accept(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors: contiguous, float32 or half precision, not tracked by autograd."""
    grad = torch.is_grad_enabled()
    return kernels_run_on(tensors[0].device) and all(
        tensor.dtype in _DTYPES and tensor.is_contiguous() and not (grad and tensor.requires_grad) for tensor in tensors
    )
