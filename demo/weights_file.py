"""The weight file of the model of digits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .network import Architecture, DigitsUNet
from .tensors_file import DemoWeightsError, FileFormat, load_tensors, parse_names, parse_sizes, write_tensors

__all__ = [
    "DEFAULT_WEIGHTS",
    "MAX_FILE_BYTES",
    "SCHEDULER_CONFIG",
    "DemoModel",
    "DemoWeightsError",
    "load_demo_model",
    "save_weights",
]

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
MAX_FILE_BYTES = 8 * 1024 * 1024

# the noise schedule of the trainings, with the names of a diffusers scheduler_config.json
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
FORMAT = FileFormat(
    name="ddim-demo-digits",
    version="1",
    max_bytes=MAX_FILE_BYTES,
    further_keys=("class_names",),
    scheduler_config=SCHEDULER_CONFIG,
    made_with="python -m demo.train",
)


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
    metadata, tensors = FORMAT.read(file)
    architecture = parse_sizes(file, metadata, [field.name for field in fields(Architecture)], Architecture)
    class_names = parse_names(file, metadata, "class_names", architecture.num_classes)
    network = load_tensors(file, lambda: DigitsUNet(architecture), tensors)
    return DemoModel(network, SCHEDULER_CONFIG, class_names, SCHEDULER_CONFIG["prediction_type"], metadata)


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
    write_tensors(path, tensors, FORMAT.metadata(architecture.as_dict(), metadata))
