"""Weight files of the demo models: safetensors, never pickle, treated as untrusted input.

A file holds a network's tensors and, as metadata, everything needed to use the model and to train it again. Reading
compares every name, shape and dtype with what the architecture requires, and refuses anything else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .network import show

__all__ = [
    "DemoWeightsError",
    "FileFormat",
    "load_tensors",
    "parse_json",
    "parse_names",
    "parse_sizes",
    "write_tensors",
]

DTYPES = {"F32": torch.float32, "F16": torch.float16}
COMMON_KEYS = ("format", "format_version", "scheduler_config", "architecture", "data_sha256", "training_command")

Sizes = TypeVar("Sizes")


class DemoWeightsError(ValueError):
    """The weight file is missing, damaged, or belongs to another model."""


@dataclass(frozen=True)
class FileFormat:
    """What the weight file of one model looks like.

    Attributes:
        name: Its name, in the metadata.
        version: Of the format.
        max_bytes: No good file is larger.
        further_keys: Metadata that it has beside those that all models have.
        scheduler_config: The noise schedule that its model was trained with.
        made_with: The command that makes such a file, for error messages.
    """

    name: str
    version: str
    max_bytes: int
    further_keys: tuple[str, ...]
    scheduler_config: Mapping[str, Any]
    made_with: str

    def metadata(self, architecture: Mapping[str, int], further: Mapping[str, str]) -> dict[str, str]:
        """Return the metadata of a new file."""
        return {
            "format": self.name,
            "format_version": self.version,
            "scheduler_config": json.dumps(self.scheduler_config),
            "architecture": json.dumps(architecture),
            **further,
        }

    def read(self, file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Read metadata and tensors of a file of this format; safetensors' own reader rejects damaged files.

        Raises:
            DemoWeightsError: The file is missing, too large, not safetensors, or of another format.
        """
        if not file.is_file():
            raise DemoWeightsError(f"there is no weight file at {file}; make one with: {self.made_with}")
        size = file.stat().st_size
        if size > self.max_bytes:
            raise DemoWeightsError(f"{file} has {size} bytes; weight files of this model have at most {self.max_bytes}")
        try:
            with safe_open(file, framework="pt") as opened:
                names = list(opened.keys())
                wrong = {name: dtype for name in names if (dtype := opened.get_slice(name).get_dtype()) not in DTYPES}
                if wrong:
                    raise DemoWeightsError(f"{file}: tensors must be {' or '.join(DTYPES)}, got {_few(wrong)}")
                metadata, tensors = opened.metadata() or {}, {name: opened.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise DemoWeightsError(
                f"{file} is not a complete safetensors file ({str(error)[:300]}); make one with: {self.made_with}"
            ) from error
        self._check(file, metadata)
        return dict(metadata), tensors

    def _check(self, file: Path, metadata: Mapping[str, str]) -> None:
        """Check that all metadata are there, and are those of this format."""
        missing = [key for key in (*COMMON_KEYS, *self.further_keys) if key not in metadata]
        if missing:
            raise DemoWeightsError(f"{file} is not a weight file of this model: its metadata lack {', '.join(missing)}")
        found = (metadata["format"], metadata["format_version"])
        if found != (self.name, self.version):
            raise DemoWeightsError(
                f"{file} must have format {self.name} version {self.version}, got {found[0][:80]} {found[1][:80]}"
            )
        scheduler_config = parse_json(file, metadata, "scheduler_config")
        if scheduler_config != self.scheduler_config:
            raise DemoWeightsError(
                f"{file}: scheduler_config must be {self.scheduler_config}, got {show(scheduler_config, 400)}"
            )


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically, through a temporary file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata=dict(metadata),
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def parse_json(file: Path, metadata: Mapping[str, str], key: str) -> Any:
    """Parse one of the metadata."""
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise DemoWeightsError(f"{file}: metadata {key} is not JSON: {error}") from error


def parse_sizes(
    file: Path, metadata: Mapping[str, str], names: Sequence[str], architecture: Callable[..., Sizes]
) -> Sizes:
    """Parse the network's sizes; each must be an integer in the range that the architecture allows."""
    sizes = parse_json(file, metadata, "architecture")
    if not isinstance(sizes, dict) or set(sizes) != set(names):
        raise DemoWeightsError(f"{file}: architecture must name {sorted(names)}, got {show(sizes)}")
    try:
        return architecture(**sizes)
    except ValueError as error:
        raise DemoWeightsError(f"{file}: architecture is impossible: {error}") from error


def parse_names(file: Path, metadata: Mapping[str, str], key: str, count: int | None = None) -> tuple[str, ...]:
    """Parse a list of names, of a certain length if ``count`` is given."""
    names = parse_json(file, metadata, key)
    if not (
        isinstance(names, list)
        and (count is None or len(names) == count)
        and all(isinstance(name, str) for name in names)
    ):
        raise DemoWeightsError(
            f"{file}: {key} must be a list of {'' if count is None else f'{count} '}names, got {show(names)}"
        )
    return tuple(names)


def load_tensors(file: Path, build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build a network without values, check the tensors against it, and load them as float32.

    Returns:
        The network in eval mode, not tracked by autograd.

    Raises:
        DemoWeightsError: Names or shapes do not match, or a value is not finite.
    """
    with torch.device("meta"):
        network = build()
    _check_tensors(file, network.state_dict(), tensors)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return network.train(False).requires_grad_(False)


def _check_tensors(file: Path, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Check that names and shapes match the architecture, and that all values are finite."""
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise DemoWeightsError(
            f"{file}: missing tensors: {_few(missing) or 'none'}; unknown tensors: {_few(unknown) or 'none'}"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor.shape != expected[name].shape}
    if shapes:
        name, shape = next(iter(shapes.items()))
        raise DemoWeightsError(f"{file}: {name} must have shape {tuple(expected[name].shape)}, got {shape}")
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise DemoWeightsError(f"{file}: {_few(broken)} has values that are not finite")


def _few(names: Mapping[str, str] | Sequence[str], most: int = 3) -> str:
    """List the first few names and count the rest."""
    shown = [
        f"{name[:80]} {names[name][:20]}" if isinstance(names, Mapping) else name[:80] for name in list(names)[:most]
    ]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
