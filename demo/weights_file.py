"""The demo model's weight file: safetensors, never pickle, treated as untrusted input.

A file holds the network's tensors and, as metadata, everything needed to use the model and to train it again. Loading
compares every name, shape and dtype with what the architecture requires, and refuses anything else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .network import Architecture, DigitsUNet, show

__all__ = [
    "DEFAULT_WEIGHTS",
    "SCHEDULER_CONFIG",
    "DemoModel",
    "DemoWeightsError",
    "load_demo_model",
    "save_weights",
    "write_tensors",
]

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
FORMAT = "ddim-demo-digits"
FORMAT_VERSION = "1"
MAX_FILE_BYTES = 8 * 1024 * 1024
DTYPES = {"F32": torch.float32, "F16": torch.float16}

# the training's noise schedule, with the names of a diffusers scheduler_config.json
SCHEDULER_CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "clip_sample": False,
}
METADATA_KEYS = (
    "format",
    "format_version",
    "scheduler_config",
    "class_names",
    "architecture",
    "data_sha256",
    "training_command",
)


class DemoWeightsError(ValueError):
    """The weight file is missing, damaged, or belongs to another model."""


@dataclass(frozen=True)
class DemoModel:
    """A network ready for sampling, and the metadata of its file.

    Attributes:
        network: `DigitsUNet` in eval mode, float32, not tracked by autograd.
        scheduler_config: The noise schedule it was trained with, as in a scheduler_config.json.
        class_names: Names of the labels 0, 1, ...; the label after the last means "no class".
        prediction_type: "v_prediction".
        metadata: All of the file's metadata, as strings.
    """

    network: nn.Module
    scheduler_config: Mapping[str, Any]
    class_names: tuple[str, ...]
    prediction_type: str
    metadata: Mapping[str, str]


def load_demo_model(path: str | os.PathLike[str] | None = None) -> DemoModel:
    """Load a weight file after checking it completely.

    Args:
        path: A file that `demo.train` wrote; None for the one that ships with the project.

    Raises:
        DemoWeightsError: The file is missing, too large, not safetensors, or not a file of this model.
    """
    file = DEFAULT_WEIGHTS if path is None else Path(path)
    metadata, tensors = _read(file)
    scheduler_config, class_names, architecture = _read_metadata(file, metadata)
    with torch.device("meta"):
        network = DigitsUNet(architecture)
    _check_tensors(file, network.state_dict(), tensors)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    network.train(False).requires_grad_(False)
    return DemoModel(network, scheduler_config, class_names, scheduler_config["prediction_type"], metadata)


def save_weights(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    architecture: Architecture,
    metadata: Mapping[str, str],
) -> None:
    """Write a weight file atomically: an existing file is replaced only when the new one is complete.

    Args:
        path: The file to write.
        tensors: State dict of a `DigitsUNet`, float32 or float16.
        architecture: Sizes of the network.
        metadata: class_names (JSON), data_sha256, training_command, and any further entries.
    """
    complete_metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "scheduler_config": json.dumps(SCHEDULER_CONFIG),
        "architecture": json.dumps(architecture.as_dict()),
        **metadata,
    }
    write_tensors(path, tensors, complete_metadata)


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


def _read(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors; safetensors' own reader rejects damaged files and other formats."""
    if not file.is_file():
        raise DemoWeightsError(f"there is no weight file at {file}; make one with: python -m demo.train")
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise DemoWeightsError(f"{file} has {size} bytes; weight files of this model have at most {MAX_FILE_BYTES}")
    try:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            wrong = {name: dtype for name in names if (dtype := opened.get_slice(name).get_dtype()) not in DTYPES}
            if wrong:
                raise DemoWeightsError(f"{file}: tensors must be {' or '.join(DTYPES)}, got {_few(wrong)}")
            return dict(opened.metadata() or {}), {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise DemoWeightsError(
            f"{file} is not a complete safetensors file ({str(error)[:300]}); make one with: python -m demo.train"
        ) from error


def _read_metadata(file: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...], Architecture]:
    """Check the metadata, and parse the scheduler configuration, class names and architecture."""
    missing = [key for key in METADATA_KEYS if key not in metadata]
    if missing:
        raise DemoWeightsError(f"{file} is not a weight file of this model: its metadata lack {', '.join(missing)}")
    found = (metadata["format"], metadata["format_version"])
    if found != (FORMAT, FORMAT_VERSION):
        raise DemoWeightsError(
            f"{file} must have format {FORMAT} version {FORMAT_VERSION}, got {found[0][:80]} {found[1][:80]}"
        )
    scheduler_config = _parse_json(file, metadata, "scheduler_config")
    if scheduler_config != SCHEDULER_CONFIG:
        raise DemoWeightsError(
            f"{file}: scheduler_config must be {SCHEDULER_CONFIG}, got {show(scheduler_config, 400)}"
        )
    architecture = _parse_architecture(file, metadata)
    names = _parse_json(file, metadata, "class_names")
    if not (
        isinstance(names, list)
        and len(names) == architecture.num_classes
        and all(isinstance(name, str) for name in names)
    ):
        raise DemoWeightsError(
            f"{file}: class_names must be a list of {architecture.num_classes} names, got {show(names)}"
        )
    return scheduler_config, tuple(names), architecture


def _parse_architecture(file: Path, metadata: Mapping[str, str]) -> Architecture:
    """Parse the network's sizes; each must be an integer in the range that `Architecture` allows."""
    sizes = _parse_json(file, metadata, "architecture")
    expected = {field.name for field in fields(Architecture)}
    if not isinstance(sizes, dict) or set(sizes) != expected:
        raise DemoWeightsError(f"{file}: architecture must name {sorted(expected)}, got {show(sizes)}")
    try:
        return Architecture(**sizes)
    except ValueError as error:
        raise DemoWeightsError(f"{file}: architecture is impossible: {error}") from error


def _parse_json(file: Path, metadata: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise DemoWeightsError(f"{file}: metadata {key} is not JSON: {error}") from error


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
