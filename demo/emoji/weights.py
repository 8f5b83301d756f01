"""The weight file of the emoji model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..tensors_file import DemoWeightsError, FileFormat, load_tensors, parse_names, parse_sizes, write_tensors
from ..weights_file import SCHEDULER_CONFIG
from .held_out import HELD_OUT
from .network import EmojiArchitecture, EmojiUNet
from .prompts import Vocabulary, plain, tint_behind

__all__ = ["EMOJI_WEIGHTS", "EmojiModel", "load_emoji_model", "save_emoji_weights"]

EMOJI_WEIGHTS = Path(__file__).parents[1] / "weights" / "emoji.safetensors"
FORMAT = FileFormat(
    name="ddim-demo-emoji",
    version="1",
    max_bytes=16 * 1024 * 1024,
    further_keys=("words", "names"),
    scheduler_config=SCHEDULER_CONFIG,
    made_with="python -m demo.train --model emoji",
)


@dataclass(frozen=True)
class EmojiModel:
    """A network ready for sampling, and the metadata of its file.

    Attributes:
        network: `EmojiUNet` in eval mode, float32, not tracked by autograd.
        scheduler_config: The noise schedule it was trained with, as in a scheduler_config.json.
        vocabulary: The words that a prompt may use.
        names: The names of the pictures that it was trained on.
        prediction_type: "v_prediction".
        metadata: All of the file's metadata, as strings.
    """

    network: EmojiUNet
    scheduler_config: Mapping[str, Any]
    vocabulary: Vocabulary
    names: tuple[str, ...]
    prediction_type: str
    metadata: Mapping[str, str]

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts as the vectors that the network takes; "" asks for nothing in particular.

        A tint before a name is read as if it stood behind it: "blue tiger face" is "tiger face in blue", while "blue
        heart" is a name of its own.

        Returns:
            (B, text_channels) float32.

        Raises:
            ValueError: A word is unknown, or a prompt is too long.
        """
        known = {*map(plain, self.names), *HELD_OUT}
        tokens = self.vocabulary.tokens([tint_behind(prompt, known) for prompt in prompts])
        with torch.no_grad():
            return self.network.text(tokens.to(self.network.unfold.weight.device))


def load_emoji_model(path: str | os.PathLike[str] | None = None) -> EmojiModel:
    """Load a weight file after checking it completely.

    Args:
        path: A file that `demo.train` wrote; None for the one that ships with the project.

    Raises:
        DemoWeightsError: The file is missing, too large, not safetensors, or not a file of this model.
    """
    file = EMOJI_WEIGHTS if path is None else Path(path)
    metadata, tensors = FORMAT.read(file)
    sizes = parse_sizes(file, metadata, [field.name for field in fields(EmojiArchitecture)], EmojiArchitecture)
    vocabulary = Vocabulary(parse_names(file, metadata, "words"))
    if len(vocabulary) != sizes.tokens:
        raise DemoWeightsError(f"{file}: words must be {sizes.tokens} with the two marks, got {len(vocabulary)}")
    names = parse_names(file, metadata, "names")
    network = cast(EmojiUNet, load_tensors(file, lambda: EmojiUNet(sizes), tensors))
    return EmojiModel(network, SCHEDULER_CONFIG, vocabulary, names, SCHEDULER_CONFIG["prediction_type"], metadata)


def save_emoji_weights(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], network: nn.Module, metadata: Mapping[str, str]
) -> None:
    """Write a weight file atomically, in float16: half the size, and no visible difference.

    Args:
        path: The file to write.
        tensors: State dict of an `EmojiUNet`.
        network: The network, for its sizes.
        metadata: words (JSON), names (JSON), data_sha256, training_command, and any further entries.
    """
    halves = {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
    write_tensors(path, halves, FORMAT.metadata(cast(EmojiUNet, network).architecture.as_dict(), metadata))
