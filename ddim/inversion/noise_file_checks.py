"""Checks of a noise file's size and tensors; both saving and loading run them.

A file is untrusted input: its size, and the names, types and shapes in its header, are checked before any tensor is
read. Saving checks what it is about to write in the same way, so that every file that was saved can be loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DDIMError
from .noise_file_description import Description

__all__ = [
    "DTYPES",
    "MAX_FILE_BYTES",
    "TensorHeader",
    "check_finite",
    "check_size",
    "check_tensor_headers",
    "header_size",
]

MAX_FILE_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 32 * 2**20  # the same as for scheduler_config.json: a million betas take 23 MB
MAX_DIMENSIONS = 8

# By their names in safetensors headers.
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


class TensorHeader(NamedTuple):
    """What the header of a file says about a tensor.

    Attributes:
        dtype: The name of its dtype, as in ``DTYPES``.
        shape: Its shape.
    """

    dtype: str
    shape: list[int]


def check_tensor_headers(description: Description, headers: Mapping[str, TensorHeader]) -> None:
    """Check names, dtypes and shapes of a file's tensors.

    Raises:
        DDIMError: If they do not match the description.
    """
    expected = _expected_names(description)
    if set(headers) != expected:
        raise DDIMError(
            f"a file of method {description.method} with {len(description.schedule.plan)} steps must hold the tensors "
            f"{_listed(expected)}, got {_listed(headers)}"
        )
    for name in sorted(expected):
        if headers[name].dtype not in DTYPES:
            raise DDIMError(f"the dtype of {name} must be one of {', '.join(DTYPES)}, got {headers[name].dtype}")
    latent = headers["latent"].shape
    if not 2 <= len(latent) <= MAX_DIMENSIONS or 0 in latent:
        raise DDIMError(
            f"latent must have the shape (B, ...), with 2 to {MAX_DIMENSIONS} dimensions and at least one image, got "
            f"{tuple(latent)}"
        )
    steps = len(description.schedule.plan)
    for name in sorted(expected):
        shape = [steps - 1, *latent] if name == "noise" else latent
        if headers[name].shape != shape:
            raise DDIMError(f"{name} must have the shape {tuple(shape)}, got {tuple(headers[name].shape)}")
    if len(description.residual) != latent[0]:
        raise DDIMError(f"residual must hold one error per image, {latent[0]}, got {len(description.residual)}")


def _expected_names(description: Description) -> set[str]:
    names = {"latent"}
    if description.method in ("edict", "bdia"):
        names.add("second")
    if description.method == "variance_noise":
        names.update({"noise", "last"} if len(description.schedule.plan) > 1 else {"last"})
    return names


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))[:120] or "none"


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Check that every tensor is finite.

    Raises:
        DDIMError: If one holds NaN or infinite values.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DDIMError(f"{name} must be finite, got NaN or infinite values")


def check_size(file_bytes: int, header_bytes: int, max_bytes: int) -> None:
    """Check the size of a file and of its header.

    Raises:
        DDIMError: If the file or its header is too large, or the header does not fit into the file.
    """
    if file_bytes > max_bytes:
        raise DDIMError(
            f"a noise file may have at most {max_bytes} bytes, got {file_bytes} bytes; put fewer images into a file, "
            "store the noise in half precision, or raise max_bytes"
        )
    if not 0 < header_bytes <= min(file_bytes, MAX_HEADER_BYTES):
        raise DDIMError(
            f"the header of a noise file may have at most {MAX_HEADER_BYTES} bytes and must fit into the file, got "
            f"{header_bytes} bytes; it holds the betas and the steps of the schedule"
        )


def header_size(metadata: Mapping[str, str], headers: Mapping[str, TensorHeader], tensor_bytes: int) -> int:
    """Return how many bytes the header of a file has at most.

    Args:
        metadata: The file's metadata.
        headers: What the header says about each tensor.
        tensor_bytes: Size of all tensors together, which bounds their offsets.
    """
    offsets = [tensor_bytes, tensor_bytes]
    tensors = {name: {**header._asdict(), "data_offsets": offsets} for name, header in headers.items()}
    padding = 8  # safetensors aligns the tensors to 8 bytes
    return len(json.dumps({"__metadata__": metadata, **tensors}, separators=(",", ":"))) + padding
