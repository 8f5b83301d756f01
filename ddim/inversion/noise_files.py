"""Inversions as safetensors files: the latent, the noise of every step and the schedule that they belong to.

==========  ====================  ====================================================================
tensor      shape                 stored for
==========  ====================  ====================================================================
``latent``  ``(B, ...)``          every method
``noise``   ``(S - 1, B, ...)``   ``variance_noise`` with more than one step: all steps but the last
``last``    ``(B, ...)``          ``variance_noise``: the last step, whose residual needs all its digits
``second``  ``(B, ...)``          ``edict``: the second track; ``bdia``: the sample after the first step
==========  ====================  ====================================================================

Everything else is JSON in the metadata.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..arguments import check_dtype, check_path
from ..errors import DDIMError, check_integer
from ..files import write_atomically
from ..noise.recorded import VarianceNoise
from .noise_file_checks import (
    DTYPES,
    MAX_FILE_BYTES,
    TensorHeader,
    check_finite,
    check_size,
    check_tensor_headers,
    header_size,
)
from .noise_file_description import Description, metadata_of, parse_metadata
from .result import Inversion, check_inversion

__all__ = ["MAX_FILE_BYTES", "load_noise", "save_noise"]

MAX_REASON = 300  # characters of safetensors' own message
_HEADER_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header


def save_noise(
    inversion: Inversion,
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    max_bytes: int = MAX_FILE_BYTES,
) -> int:
    """Write an inversion to a safetensors file, atomically.

    Args:
        inversion: The result of :func:`ddim.invert`.
        path: The file; an existing one is replaced.
        dtype: Store the noise of all steps but the last in this dtype; by default the dtypes are kept.
            ``torch.float16`` halves the size, without loss if the inversion was made with
            ``noise_dtype=torch.float16``.
        max_bytes: A file that would be larger is not written: by default what :func:`load_noise` reads by default.

    Returns:
        The size of the file in bytes.

    Raises:
        DDIMError: If :func:`load_noise` could not read the file, or the noise exceeds the range of ``dtype``. Nothing
            is written then.
        OSError: If the file cannot be written. An existing file stays unchanged.
    """
    from safetensors.torch import save_file

    target = check_path("path", path)
    max_bytes = check_integer("max_bytes", max_bytes, 0)
    try:
        tensors, metadata = _tensors_of(inversion, dtype), metadata_of(inversion)
        _check_loadable(tensors, metadata, max_bytes)
    except DDIMError as error:
        raise DDIMError(f"this inversion cannot be saved as a noise file: {error}") from error
    write_atomically(target, lambda temporary: save_file(tensors, temporary, metadata))
    return target.stat().st_size


def _tensors_of(inversion: Inversion, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Return the tensors of an inversion by their names in the file."""
    tensors = {"latent": check_inversion(inversion).latent}
    dtype = None if dtype is None else check_dtype("dtype", dtype)
    if inversion.second_latent is not None:
        # A copy, because safetensors writes no tensors that share memory.
        tensors["second"] = inversion.second_latent.clone()
    if inversion.variance_noise is not None:
        noise = inversion.variance_noise.as_subclass(Tensor)
        tensors["last"] = noise[-1]
        if len(noise) > 1:
            tensors["noise"] = noise[:-1] if dtype is None else _converted(noise[:-1], dtype)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _converted(noise: Tensor, dtype: torch.dtype) -> Tensor:
    largest = float(noise.abs().max())
    if largest > torch.finfo(dtype).max:
        raise DDIMError(f"the noise must fit into {dtype}, got values up to {largest:g}; store it in float32")
    return noise.to(dtype)


def _check_loadable(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], max_bytes: int) -> None:
    """Run the checks of :func:`load_noise` on what is about to be written."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    headers = {
        name: TensorHeader(names.get(tensor.dtype, str(tensor.dtype)), list(tensor.shape))
        for name, tensor in tensors.items()
    }
    tensor_bytes = sum(tensor.nbytes for tensor in tensors.values())
    header_bytes = header_size(metadata, headers, tensor_bytes)
    check_size(_HEADER_LENGTH_BYTES + header_bytes + tensor_bytes, header_bytes, max_bytes)
    check_tensor_headers(parse_metadata(metadata), headers)
    check_finite(tensors)


def load_noise(path: str | os.PathLike[str], *, max_bytes: int = MAX_FILE_BYTES) -> Inversion:
    """Read an inversion from a file that :func:`save_noise` wrote.

    Args:
        path: The file.
        max_bytes: A larger file is refused without reading it.

    Returns:
        The inversion, on the CPU. Noise stored in half precision is returned in the dtype of the last step's noise.

    Raises:
        DDIMError: If the file is not a complete and consistent noise file.
        OSError: If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    name = check_path("path", path).name
    max_bytes = check_integer("max_bytes", max_bytes, 0)
    try:
        check_size(*_sizes_of(Path(path)), max_bytes)
        with safe_open(path, framework="pt", device="cpu") as file:
            description = parse_metadata(file.metadata())
            slices = {key: file.get_slice(key) for key in file.keys()}
            headers = {key: TensorHeader(part.get_dtype(), list(part.get_shape())) for key, part in slices.items()}
            check_tensor_headers(description, headers)
            tensors = {key: file.get_tensor(key) for key in headers}
        check_finite(tensors)
    except SafetensorError as error:
        reason = str(error)[:MAX_REASON]  # it may quote the whole header
        raise DDIMError(f"{name} must be a complete safetensors file, but reading it failed: {reason}") from error
    except DDIMError as error:
        raise DDIMError(f"{name} cannot be used as a noise file: {error}") from error
    return _inversion_from(description, tensors)


def _sizes_of(path: Path) -> tuple[int, int]:
    """Return the size of a file, and of its header as the file states it."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")


def _inversion_from(description: Description, tensors: Mapping[str, Tensor]) -> Inversion:
    noise = None
    if "last" in tensors:
        last = tensors["last"]
        steps = [tensors["noise"].to(last.dtype)] if "noise" in tensors else []
        noise = torch.cat([*steps, last[None]]).as_subclass(VarianceNoise)
    return Inversion(
        method=description.method,
        latent=tensors["latent"],
        residual=torch.tensor(description.residual, dtype=torch.float64),
        schedule=description.schedule,
        eta=description.eta,
        variance_noise=noise,
        second_latent=tensors.get("second"),
        mixing=description.mixing,
        seed=description.seed,
        noise_path=description.noise_path,
    )
