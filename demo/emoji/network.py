"""A text-conditional U-Net for 32x32 pictures of emoji, in plain torch.

It predicts v (T. Salimans, J. Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", 2022, appendix D),
and is built from the blocks of the digits' network. A text encoder turns the prompt into one vector, which enters in
two ways: it scales and shifts every block, and it is unfolded into a coarse picture of features, because most of what
this model has to remember is where things are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..network import (
    IMAGE_CHANNELS,
    TIME_FEATURES,
    FoldedUNet,
    check_pictures,
    check_sizes,
    embedding_table,
    time_features,
    tone_features,
)
from .prompts import LONGEST_PROMPT, PADDING

__all__ = ["EmojiArchitecture", "EmojiUNet", "TextEncoder"]

COARSE_SIZE = 8  # positions per side of the coarse grid
LARGEST_SIZE = 4096


@dataclass(frozen=True)
class EmojiArchitecture:
    """Sizes of an `EmojiUNet`: tokens, channels at 16x16 (fine) and 8x8 (coarse), widths of the vectors."""

    tokens: int
    fine_channels: int = 64
    coarse_channels: int = 192
    condition_channels: int = 192
    word_channels: int = 192
    text_channels: int = 640
    unfolded_channels: int = 32
    attention_heads: int = 4

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built; weight files are untrusted input."""
        check_sizes(self.as_dict(), LARGEST_SIZE)

    def as_dict(self) -> dict[str, int]:
        """Return the sizes by name, as stored in the weight file."""
        return asdict(self)


class TextEncoder(nn.Module):
    """Turns the tokens of a prompt into one vector: the mean of its words' vectors, then a layer that combines them.

    The order of the words does not count; it tells no two pictures apart, and a transformer in this place learnt the
    pictures several times more slowly.
    """

    def __init__(self, tokens: int, word_channels: int, channels: int) -> None:
        """Build the encoder for a number of tokens, width of a word's vector and width of the result."""
        super().__init__()
        self.words = embedding_table(tokens, word_channels)
        self.norm = nn.LayerNorm(word_channels)
        self.combine = nn.Linear(word_channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode prompts.

        Args:
            tokens: (B, 16) integers, see `Vocabulary.tokens`.

        Returns:
            (B, text_channels).
        """
        vectors = self.words(tokens)
        present = (tokens != PADDING).to(vectors.dtype)[..., None]
        mean = (vectors * present).sum(dim=1) / present.sum(dim=1)
        return F.silu(self.combine(self.norm(mean)))


class EmojiUNet(FoldedUNet):
    """Predicts v for noisy pictures of emoji, given timestep and prompt."""

    def __init__(self, architecture: EmojiArchitecture) -> None:
        """Build the network with random weights; `demo.load_emoji_model` loads the trained ones."""
        super().__init__()
        self.architecture = sizes = architecture
        fine, coarse, wide = sizes.fine_channels, sizes.coarse_channels, sizes.condition_channels
        text = sizes.text_channels
        self.text = TextEncoder(sizes.tokens, sizes.word_channels, text)
        self.unfold = nn.Linear(text, sizes.unfolded_channels * COARSE_SIZE**2)
        self.unfolded = nn.Conv2d(sizes.unfolded_channels, coarse, 1)
        self.time = nn.Linear(TIME_FEATURES, wide)
        self.tone = nn.Linear(2 * IMAGE_CHANNELS, wide)
        self.prompt = nn.Linear(text, wide)
        self._build_trunk(fine, coarse, wide, sizes.attention_heads)

    def forward(self, x: Tensor, timestep: Tensor, prompt: Tensor) -> Tensor:
        """Predict v.

        Args:
            x: (B, 3, 32, 32) noisy pictures; clean ones are in [-1, 1].
            timestep: (B,) numbers in 0..999.
            prompt: (B, 16) integer tokens, or (B, text_channels) vectors of the text encoder.

        Returns:
            v, (B, 3, 32, 32).

        Raises:
            ValueError: A shape is wrong.
        """
        self._check(x, timestep, prompt)
        vector = prompt.to(x.dtype) if prompt.is_floating_point() else self.text(prompt)
        features = self.time(time_features(timestep).to(x.dtype)) + self.tone(tone_features(x).to(x.dtype))
        condition = self.mix(features + self.prompt(vector))
        return self._predict(x, condition, self._unfolded(vector))

    def _unfolded(self, vector: Tensor) -> Tensor:
        """Unfold the prompt's vector into features of the coarse grid, (B, coarse_channels, 8, 8)."""
        grid = self.unfold(vector).reshape(len(vector), -1, COARSE_SIZE, COARSE_SIZE)
        return self.unfolded(F.silu(grid))

    def _check(self, x: Tensor, timestep: Tensor, prompt: Tensor) -> None:
        """Check the shapes of the inputs."""
        check_pictures(x, timestep)
        batch = x.shape[0]
        width = self.architecture.text_channels if prompt.is_floating_point() else 1 + LONGEST_PROMPT
        if prompt.shape != (batch, width):
            raise ValueError(
                f"prompt must be ({batch}, {1 + LONGEST_PROMPT}) integers or ({batch}, "
                f"{self.architecture.text_channels}) numbers, as DDIM Demo Text Prompt gives them, "
                f"got {tuple(prompt.shape)} {prompt.dtype}"
            )
