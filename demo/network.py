"""A small class-conditional U-Net for 32x32 pictures, in plain torch.

It predicts v (T. Salimans, J. Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", 2022,
appendix D). First, each block of 2x2 pixels is folded into channels, so that the finest convolutions run at 16x16.
For pictures of pen strokes this costs no quality, and a training step on two CPU cores takes a quarter of the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Architecture",
    "Attention",
    "DigitsUNet",
    "FoldedUNet",
    "ResidualBlock",
    "UNCONDITIONAL",
    "check_pictures",
    "check_sizes",
    "embedding_table",
    "show",
    "time_features",
    "tone_features",
]

UNCONDITIONAL = 10  # row of the class table for "no class", used by classifier-free guidance
IMAGE_CHANNELS = 3
IMAGE_SIZE = 32
FOLD = 2  # pixels per side that become channels
TIME_FEATURES = 64
LARGEST_PERIOD = 10_000.0
NORM_GROUPS = 8
LARGEST_SIZE = 512


@dataclass(frozen=True)
class Architecture:
    """Sizes of a `DigitsUNet`: channels at 16x16 (fine) and 8x8 (coarse), width of the conditioning vector, heads."""

    fine_channels: int = 64
    coarse_channels: int = 128
    condition_channels: int = 128
    attention_heads: int = 4
    num_classes: int = 10

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built; weight files are untrusted input."""
        check_sizes(self.as_dict(), LARGEST_SIZE)

    def as_dict(self) -> dict[str, int]:
        """Return the sizes by name, as stored in the weight file."""
        return asdict(self)


def check_sizes(sizes: Mapping[str, int], largest: int) -> None:
    """Refuse sizes of a network that cannot be built.

    Args:
        sizes: By name; among them fine_channels, coarse_channels and attention_heads.
        largest: The largest size that is allowed.

    Raises:
        ValueError: One is no whole number from 1 to the largest, or does not divide as it must.
    """
    for name, size in sizes.items():
        if type(size) is not int or not 1 <= size <= largest:
            raise ValueError(f"{name} must be a whole number between 1 and {largest}, got {show(size)}")
    for name in ("fine_channels", "coarse_channels"):
        if sizes[name] % NORM_GROUPS:
            raise ValueError(f"{name} must be divisible by {NORM_GROUPS}, got {sizes[name]}")
    if sizes["coarse_channels"] % sizes["attention_heads"]:
        raise ValueError(
            f"coarse_channels ({sizes['coarse_channels']}) must be divisible by attention_heads "
            f"({sizes['attention_heads']})"
        )


def show(value: Any, limit: int = 80) -> str:
    """Format a value of a weight file for an error message: its `repr`, truncated. Never raises.

    As `ddim.errors.show`, which a pack inside ComfyUI cannot import under this name.
    """
    try:
        text = repr(value)
    except Exception:  # an integer with too many digits to print, or too many levels
        return f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= limit else f"{text[:limit]}..."


def time_features(timestep: Tensor) -> Tensor:
    """Encode timesteps as sines and cosines (A. Vaswani et al., "Attention Is All You Need", 2017, section 3.5).

    Args:
        timestep: (B,) numbers in 0..999.

    Returns:
        (B, 64) float32 in [-1, 1].
    """
    half = TIME_FEATURES // 2
    exponent = torch.arange(half, device=timestep.device, dtype=torch.float32) / half
    angle = timestep.float()[:, None] * torch.exp(-math.log(LARGEST_PERIOD) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def tone_features(picture: Tensor) -> Tensor:
    """Compute the mean of each colour channel, also on the scale of its noise.

    The mean of 1024 pixels of standard normal noise has a standard deviation of 1/32, so a picture's overall brightness
    is recognisable at much higher noise levels than its shapes. Group normalisation removes means, so they are passed
    on directly. asinh keeps means of the size of the noise linear and compresses those of clean pictures.

    Args:
        picture: (B, 3, 32, 32).

    Returns:
        (B, 6) float32.
    """
    mean = picture.float().mean(dim=(2, 3))
    return torch.cat([torch.asinh(IMAGE_SIZE * mean), mean], dim=1)


def embedding_table(rows: int, width: int) -> nn.Embedding:
    """Return an embedding as torch initialises it, or one without values on the meta device.

    There, `normal_` imports torch's whole compiler: seconds, for values that the weight file replaces.
    """
    weight = torch.empty(rows, width)
    if not weight.is_meta:
        nn.init.normal_(weight)
    return nn.Embedding.from_pretrained(weight, freeze=False)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with normalisation; the condition scales and shifts the activations between them."""

    def __init__(self, in_channels: int, out_channels: int, condition_channels: int) -> None:
        """Build the block for the given channels and width of the conditioning vector."""
        super().__init__()
        self.norm_in = nn.GroupNorm(NORM_GROUPS, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.condition = nn.Linear(condition_channels, 2 * out_channels)
        self.norm_out = nn.GroupNorm(NORM_GROUPS, out_channels)
        self.conv_out = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, in, H, W) and (B, condition) to (B, out, H, W)."""
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.norm_out(h) * (1.0 + scale) + shift
        return self.shortcut(x) + self.conv_out(F.silu(h))


class Attention(nn.Module):
    """Self-attention over all positions of the coarse grid."""

    def __init__(self, channels: int, heads: int) -> None:
        """Build the layer; channels must be divisible by heads."""
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)
        h = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return x + self.out(h.reshape(batch, channels, height, width))


class FoldedUNet(nn.Module):
    """What the networks of digits and of emoji share: everything below the vector that conditions the blocks."""

    def _build_trunk(self, fine: int, coarse: int, wide: int, heads: int) -> None:
        """Make the layers; a subclass calls it after its own, and the order decides about the random weights."""
        folded = IMAGE_CHANNELS * FOLD * FOLD
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(wide, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU())
        self.enter = nn.Conv2d(folded, fine, 3, padding=1)
        self.fine_down = nn.ModuleList([ResidualBlock(fine, fine, wide) for _ in range(2)])
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse_down = ResidualBlock(coarse, coarse, wide)
        self.attention = Attention(coarse, heads)
        self.coarse_up = nn.ModuleList([ResidualBlock(coarse, coarse, wide) for _ in range(2)])
        self.up = nn.Conv2d(coarse, fine, 3, padding=1)
        self.fine_up = nn.ModuleList([ResidualBlock(2 * fine, fine, wide), ResidualBlock(fine, fine, wide)])
        self.norm = nn.GroupNorm(NORM_GROUPS, fine)
        self.leave = nn.Conv2d(fine, folded, 3, padding=1)
        self.tone_out = nn.Linear(wide, IMAGE_CHANNELS)

    def _predict(self, x: Tensor, condition: Tensor, coarse_features: Tensor | None = None) -> Tensor:
        """Predict v.

        Args:
            x: (B, 3, 32, 32) noisy pictures.
            condition: (B, wide), the vector that scales and shifts every block.
            coarse_features: (B, coarse, 8, 8), added where the coarse half begins; or None.

        Returns:
            v, (B, 3, 32, 32).
        """
        h = self.enter(F.pixel_unshuffle(x, FOLD))
        for block in self.fine_down:
            h = block(h, condition)
        fine, h = h, self.down(h)
        if coarse_features is not None:
            h = h + coarse_features
        h = self.attention(self.coarse_down(h, condition))
        for block in self.coarse_up:
            h = block(h, condition)
        h = torch.cat([self.up(F.interpolate(h, scale_factor=2.0, mode="nearest")), fine], dim=1)
        for block in self.fine_up:
            h = block(h, condition)
        v = F.pixel_shuffle(self.leave(F.silu(self.norm(h))), FOLD)
        return v + self.tone_out(condition)[:, :, None, None]


def check_pictures(x: Tensor, timestep: Tensor) -> None:
    """Check the shapes of noisy pictures and their timesteps.

    Raises:
        ValueError: A shape is wrong.
    """
    if x.shape[1:] != (IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(f"x must have shape (B, 3, {IMAGE_SIZE}, {IMAGE_SIZE}), got {tuple(x.shape)}")
    if timestep.shape != (x.shape[0],):
        raise ValueError(f"timestep must have shape ({x.shape[0]},), one per picture, got {tuple(timestep.shape)}")


class DigitsUNet(FoldedUNet):
    """Predicts v for noisy pictures of digits, given timestep and class."""

    def __init__(self, architecture: Architecture | None = None) -> None:
        """Build the network with random weights; `demo.load_demo_model` loads the trained ones."""
        super().__init__()
        self.architecture = sizes = architecture or Architecture()
        fine, coarse, wide = sizes.fine_channels, sizes.coarse_channels, sizes.condition_channels
        self.time = nn.Linear(TIME_FEATURES, wide)
        self.tone = nn.Linear(2 * IMAGE_CHANNELS, wide)
        self.label = embedding_table(sizes.num_classes + 1, wide)
        self._build_trunk(fine, coarse, wide, sizes.attention_heads)

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        """Predict v.

        Args:
            x: (B, 3, 32, 32) noisy pictures; clean ones are in [-1, 1].
            timestep: (B,) integers in 0..999.
            label: (B,) class numbers 0..9, or 10 for "no class"; or (B, 11) weights of these eleven classes.

        Returns:
            v, (B, 3, 32, 32).

        Raises:
            ValueError: A shape is wrong, or a class number does not exist.
        """
        return self._predict(x, self._condition(x, timestep, self._class_rows(x, timestep, label)))

    def _condition(self, x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        """Mix time, overall tone and class into the vector (B, condition) that conditions every block."""
        features = self.time(time_features(timestep).to(x.dtype)) + self.tone(tone_features(x).to(x.dtype))
        return self.mix(features + rows.to(x.dtype) @ self.label.weight)

    def _class_rows(self, x: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        """Check the inputs and convert class numbers to rows of weights (B, 11)."""
        batch, rows = x.shape[0], self.architecture.num_classes + 1
        check_pictures(x, timestep)
        if label.shape == (batch, rows):
            return label
        if label.shape != (batch,) or label.is_floating_point():
            raise ValueError(
                f"label must be ({batch},) integers or ({batch}, {rows}) weights, as DDIM Demo Prompt gives them, "
                f"got {tuple(label.shape)} {label.dtype}"
            )
        outside = label[(label < 0) | (label >= rows)]
        if len(outside):
            raise ValueError(f"label must be in 0..{rows - 1}, got {int(outside[0])}")
        return F.one_hot(label.long(), rows)
