"""The state of a training of the demo model: its options, its start, and files from which it resumes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from .network import DigitsUNet
from .weights_file import write_tensors

__all__ = ["PRECISIONS", "Training", "TrainingOptions", "resume_training", "save_training", "start_training"]

ADAM_BETAS = (0.9, 0.99)
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class TrainingOptions:
    """All settings that determine the result of a training."""

    steps: int = 12_000
    batch_size: int = 32
    learning_rate: float = 1.2e-3
    warmup_steps: int = 300
    decay_share: float = 0.3
    weight_decay: float = 0.01
    average_decay: float = 0.999
    label_dropout: float = 0.1
    seed: int = 0
    precision: str = "bf16"
    parts: int = 2

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        for name in ("steps", "batch_size", "warmup_steps", "parts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size % self.parts:
            raise ValueError(f"batch_size ({self.batch_size}) must be divisible by parts ({self.parts})")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")


@dataclass
class Training:
    """State of a training."""

    options: TrainingOptions
    network: DigitsUNet
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int = 0


def start_training(options: TrainingOptions, device: str = "cpu") -> Training:
    """Build the network, which depends only on the seed, and its optimizer."""
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from torch's global generator
        torch.manual_seed(options.seed)
        network = DigitsUNet()
    network.to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=options.learning_rate,
        betas=ADAM_BETAS,
        weight_decay=options.weight_decay,
        fused=True,
    )
    average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return Training(options, network, average, optimizer)


def save_training(training: Training, path: Path) -> None:
    """Save the complete state of a training, so that it can be resumed."""
    tensors = {f"network.{name}": tensor for name, tensor in training.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in training.average.items()}
    for index, moments in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    write_tensors(path, tensors, {"step": str(training.step), "options": json.dumps(asdict(training.options))})


def resume_training(path: Path, options: TrainingOptions, device: str = "cpu") -> Training:
    """Resume a training that `save_training` saved.

    Raises:
        ValueError: The file was made with other options.
    """
    training = start_training(options, device)
    with safe_open(path, framework="pt", device=device) as opened:
        kept = opened.metadata()
        if json.loads(kept["options"]) != asdict(options):
            raise ValueError(
                f"{path} is from a training with {kept['options']}, not {json.dumps(asdict(options))}; "
                "give the same options, or remove the file to start again"
            )
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    training.step = int(kept["step"])
    training.network.load_state_dict(_with_prefix("network.", tensors))
    training.average = _with_prefix("average.", tensors)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _with_prefix("optimizer.", tensors).items():
        index, moment = name.split(".", 1)
        moments.setdefault(int(index), {})[moment] = tensor
    training.optimizer.load_state_dict({**training.optimizer.state_dict(), "state": moments})
    return training


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
