"""What a MODEL is in this host: a network, the noise levels it knows, and patches to its output. Immutable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

__all__ = ["Model", "evaluate", "label_rows", "latent_mask", "preview"]

CHUNK = 128  # rows evaluated at once: bounds the memory of large batches


@dataclass(frozen=True, eq=False)
class Model:
    """A diffusion model. Nodes that change one make a copy.

    Attributes:
        network: ``network(x, timestep, rows)`` with x ``(B, C, H, W)`` float32, timestep ``(B,)`` int64 and rows
            ``(B, N)`` weights over labels; gives ``(B, C, H, W)``.
        alpha_bar: its noise levels, float64 CPU, shape ``(T,)``.
        prediction_type: what the network gives: ``"epsilon"``, ``"sample"`` or ``"v_prediction"``.
        output_patches: each ``patch(guided, conditional)`` replaces the guided output, in this order.
    """

    network: Callable[[Tensor, Tensor, Tensor], Tensor]
    alpha_bar: Tensor
    prediction_type: str
    output_patches: tuple[Callable[[Tensor, Tensor], Tensor], ...] = ()


@torch.inference_mode()
def evaluate(model: Model, x: Tensor, timestep: int, rows: Tensor) -> Tensor:
    """The network's output for a batch at one timestep.

    Args:
        model: whose network is called.
        x: ``(B, C, H, W)``.
        timestep: in [0, T).
        rows: ``(B, N)``.
    """
    parts = []
    for part, labels in zip(x.split(CHUNK), rows.split(CHUNK), strict=True):
        steps = torch.full((len(part),), timestep, dtype=torch.int64, device=part.device)
        parts.append(model.network(part, steps, labels.to(part)))
    return torch.cat(parts)


def label_rows(conditioning: list, batch: int) -> Tensor:
    """CONDITIONING as one row of label weights per image, repeated in order where there are fewer rows than images.

    Args:
        conditioning: ``[[tensor (n, 1, N), {...}]]``.
        batch: number of images B.

    Returns:
        ``(B, N)``.

    Raises:
        ValueError: for anything but one conditioning of that shape.
    """
    if len(conditioning) != 1 or conditioning[0][0].ndim != 3 or conditioning[0][0].shape[1] != 1:
        raise ValueError(f"this host samples with one conditioning of label rows, got {len(conditioning)}")
    rows = conditioning[0][0][:, 0]
    return rows.repeat(math.ceil(batch / len(rows)), 1)[:batch]


# How a mask is brought to the size of latents with that many dimensions: sound, pictures, video.
_MASKS = {
    3: ("linear", lambda mask: mask.reshape(-1, 1, mask.shape[-1])),
    4: ("bilinear", lambda mask: mask.reshape(-1, 1, *mask.shape[-2:])),
    5: ("trilinear", lambda mask: mask if mask.ndim == 5 else mask.reshape(1, 1, -1, *mask.shape[-2:])),
}


def latent_mask(mask: Tensor | None, latent: Tensor) -> Tensor | None:
    """A LATENT's noise_mask in the size of its samples: 1 where the picture may change.

    Args:
        mask: ``(H', W')``, ``(n, H', W')`` or ``(n, 1, H', W')`` in [0, 1], or None; for video n frames.
        latent: ``(B, C, H, W)``, ``(B, C, T, H, W)`` or ``(B, C, L)``.

    Returns:
        ``(B, 1, ...)``, or None.
    """
    if mask is None:
        return None
    mode, shaped = _MASKS[latent.ndim]
    sized = F.interpolate(shaped(mask.float()), size=latent.shape[2:], mode=mode)
    return sized.repeat(math.ceil(len(latent) / len(sized)), *[1] * (latent.ndim - 1))[: len(latent)]


def preview(x0: Tensor) -> Any:
    """The first image of a predicted batch for people who wait, in ComfyUI's form ``(format, picture, size)``.

    Args:
        x0: ``(B, 3, H, W)`` in about [-1, 1], or ``(B, 3, T, H, W)``, of which the first frame is shown.

    Returns:
        None for latents that are no pictures.
    """
    frame = x0[0, :, 0] if x0.ndim == 5 else x0[0]
    if frame.ndim != 3 or frame.shape[0] != 3:
        return None
    pixels = ((frame.float() + 1) * 127.5).round().clamp(0, 255).nan_to_num().to(torch.uint8)
    return "JPEG", Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()), 512
