"""The state of a training of a demo model: its start, and files from which it resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..tensors_file import write_tensors
from .recipe import TrainingOptions

__all__ = ["Training", "resume_training", "save_training", "start_training"]

ADAM_BETAS = (0.9, 0.99)


@dataclass
class Training:
    """State of a training."""

    options: TrainingOptions
    network: nn.Module
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int = 0


def start_training(options: TrainingOptions, build: Callable[[], nn.Module], device: str = "cpu") -> Training:
    """Build the network, which depends only on the seed, and its optimizer."""
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from torch's global generator
        torch.manual_seed(options.seed)
        network = build()
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


def resume_training(
    path: Path, options: TrainingOptions, build: Callable[[], nn.Module], device: str = "cpu"
) -> Training:
    """Resume a training that `save_training` saved.

    Raises:
        ValueError: The file was made with other options.
    """
    training = start_training(options, build, device)
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
