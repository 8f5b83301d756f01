"""Whether Triton kernels can run on a device. Asking does not import Triton.

A process that imports Triton in its interpreting mode (``TRITON_INTERPRET=1``), and this package after it, runs the
kernels interpreted on the CPU: for tests, far too slow for work.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache

import torch
from torch import Tensor

__all__ = ["INTERPRETED", "kernels_accept", "kernels_run_on"]

# A Triton before 3.4 has no knobs to ask.
_KNOBS = getattr(sys.modules.get("triton"), "knobs", None)
INTERPRETED = _KNOBS is not None and bool(_KNOBS.runtime.interpret)
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
