"""What a MODEL is in the embedded host, and how its network is evaluated. Immutable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...ddim import DDIMError, Level, NoiseSchedule, SigmaConfig, guide
from ..values import Conditioning

__all__ = ["EmbeddedModel", "Predictions", "Prompts", "guided_outputs", "latent_mask", "live_preview"]

CHUNK = 128  # rows evaluated at once: bounds the memory of large batches
PREVIEW_SIZE = 512  # pixels that the editor scales a live preview to
SMALL = 256  # pixels: the editor shows smaller previews at their own size, which is a stamp for the demo's 32


class Predictions(NamedTuple):
    """What a patch may use in a step.

    Attributes:
        guided: The output so far, ``(B, ...)``.
        conditional: The positive prompt's.
        unconditional: The negative prompt's, or None where it was not evaluated.
        evaluate: Returns the output for another CONDITIONING.
        done: The share of the noise levels above this one, in [0, 1].
    """

    guided: Tensor
    conditional: Tensor
    unconditional: Tensor | None
    evaluate: Callable[[Conditioning], Tensor]
    done: float


@dataclass(frozen=True, eq=False)
class EmbeddedModel:
    """A diffusion model. Nodes that change one make a copy.

    Attributes:
        network: ``network(x, timestep, rows)`` with x ``(B, C, ...)`` float32, timestep ``(B,)`` int64 (of a flow or
            variance exploding model float32) and rows ``(B, N)`` weights over labels; returns ``(B, C, ...)``.
        noise: Its noise levels.
        prediction_type: What the network returns, e.g. ``"epsilon"``, ``"v_prediction"`` or ``"flow_prediction"``.
        sigma_config: The levels as settings, of a flow or variance exploding model that is called with a multiple of
            sigma; else None.
        output_patches: Each ``patch(predictions)`` replaces the guided output, in this order.
        combine: ``combine(negative, positive, cfg)`` guides instead of :func:`ddim.guide`, also at cfg 1; or None.
    """

    network: Callable[[Tensor, Tensor, Tensor], Tensor]
    noise: NoiseSchedule
    prediction_type: str
    sigma_config: SigmaConfig | None = None
    output_patches: tuple[Callable[[Predictions], Tensor], ...] = ()
    combine: Callable[[Tensor, Tensor, float], Tensor] | None = None

    def with_patch(self, patch: Callable[[Predictions], Tensor]) -> EmbeddedModel:
        """Return a copy with one more patch."""
        return replace(self, output_patches=(*self.output_patches, patch))

    def time_at(self, timestep: int, level: Level) -> int | float:
        """Return what the network is called with at a level of a schedule: of this model or of another one."""
        return timestep if self.sigma_config is None else level.sigma * self.sigma_config.time_scale


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of a run, as the network takes them.

    Attributes:
        positive: Label weights, ``(B, N)``.
        negative: The same for the negative prompt, or None where it has no effect: at cfg 1, except with CFG++ or other
            guidance.
        cfg: Guidance scale.
    """

    positive: Tensor
    negative: Tensor | None
    cfg: float

    @classmethod
    def of(
        cls, positive: Conditioning, negative: Conditioning, cfg: float, batch: int, *, both: bool = False
    ) -> Prompts:
        """Read two CONDITIONINGs for a batch of images; ``both`` of them are needed with CFG++ and other guidance."""
        rows = label_rows(negative, batch) if both or cfg != 1.0 else None
        return cls(label_rows(positive, batch), rows, cfg)

    @property
    def positive_alone(self) -> Prompts:
        """The same without guidance."""
        return replace(self, negative=None)


def guided_outputs(model: EmbeddedModel, x_t: Tensor, t: int | float, prompts: Prompts) -> tuple[Tensor, Tensor | None]:
    """Return the network's output after guidance and patches, and the negative prompt's, ``(B, ...)`` each."""
    unconditional = None
    if prompts.negative is None:
        guided = conditional = evaluate(model, x_t, t, prompts.positive)
    else:
        rows = torch.cat([prompts.positive, prompts.negative])
        conditional, unconditional = evaluate(model, torch.cat([x_t, x_t]), t, rows).chunk(2)
        guided = (model.combine or guide)(unconditional, conditional, prompts.cfg)
    scale = len(model.noise) - 1 if model.sigma_config is None else model.sigma_config.time_scale

    def another(conditioning: Conditioning) -> Tensor:
        return evaluate(model, x_t, t, label_rows(conditioning, len(x_t)))

    for patch in model.output_patches:
        guided = patch(Predictions(guided, conditional, unconditional, another, 1 - t / scale))
    return guided, unconditional


@torch.inference_mode()
def evaluate(model: EmbeddedModel, x: Tensor, timestep: int | float, rows: Tensor) -> Tensor:
    """Return the network's output for a batch at one timestep.

    Args:
        model: Whose network is called.
        x: ``(B, C, ...)``.
        timestep: What the network is called with; see :meth:`EmbeddedModel.time_at`.
        rows: ``(B, N)``.
    """
    outputs, dtype = [], torch.int64 if isinstance(timestep, int) else torch.float32
    for chunk, labels in zip(x.split(CHUNK), rows.split(CHUNK), strict=True):
        timesteps = torch.full((len(chunk),), timestep, dtype=dtype, device=chunk.device)
        outputs.append(model.network(chunk, timesteps, labels.to(chunk)))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def label_rows(conditioning: Conditioning, batch: int) -> Tensor:
    """Read a CONDITIONING as one row of label weights per image; the rows repeat if there are more images.

    Args:
        conditioning: ``[[tensor (n, 1, N), {...}]]``.
        batch: Number of images B.

    Returns:
        ``(B, N)``.

    Raises:
        DDIMError: For anything but one conditioning of that shape.
    """
    if len(conditioning) != 1 or conditioning[0][0].ndim != 3 or conditioning[0][0].shape[1] != 1:
        raise DDIMError(
            "the embedded host samples with one conditioning of label rows, as DDIM Demo Prompt gives it, got "
            f"{len(conditioning)} of {[tuple(entry[0].shape) for entry in conditioning]}"
        )
    rows = conditioning[0][0][:, 0]
    return rows.repeat(math.ceil(batch / len(rows)), 1)[:batch]


# By the number of dimensions of the latents (audio, images, video): the interpolation, and the mask's shape for it.
_MASKS: dict[int, tuple[str, Callable[[Tensor], Tensor]]] = {
    3: ("linear", lambda mask: mask.reshape(-1, 1, mask.shape[-1])),
    4: ("bilinear", lambda mask: mask.reshape(-1, 1, *mask.shape[-2:])),
    5: ("trilinear", lambda mask: mask if mask.ndim == 5 else mask.reshape(1, 1, -1, *mask.shape[-2:])),
}


def latent_mask(mask: Tensor | None, latent: Tensor) -> Tensor | None:
    """Resize a LATENT's noise_mask to its samples: 1 where the image may change.

    Args:
        mask: ``(H', W')``, ``(n, H', W')`` or ``(n, 1, H', W')`` in [0, 1], or None; for video n frames.
        latent: ``(B, C, H, W)``, ``(B, C, T, H, W)`` or ``(B, C, L)``.

    Returns:
        ``(B, 1, ...)``, or None.
    """
    if mask is None:
        return None
    mode, reshaped = _MASKS[latent.ndim]
    sized = F.interpolate(reshaped(mask.float()), size=latent.shape[2:], mode=mode)
    return sized.repeat(math.ceil(len(latent) / len(sized)), *[1] * (latent.ndim - 1))[: len(latent)]


def live_preview(x0: Tensor) -> tuple[str, Image.Image, int] | None:
    """Return the first image of a predicted batch in ComfyUI's preview form ``(format, image, size)``.

    Args:
        x0: ``(B, 3, H, W)`` in about [-1, 1], or ``(B, 3, T, H, W)``, of which the first frame is shown.

    Returns:
        A small image is enlarged by a whole number, in which each of its pixels is a square. None for latents that are
        not images.
    """
    frame = x0[0, :, 0] if x0.ndim == 5 else x0[0]
    if frame.ndim != 3 or frame.shape[0] != 3:
        return None
    pixels = ((frame.float() + 1) * 127.5).round().clamp(0, 255).nan_to_num().to(torch.uint8)
    image = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
    enlarged = max(1, SMALL // max(image.size))
    size = (enlarged * image.width, enlarged * image.height)
    return "JPEG", image.resize(size, Image.Resampling.NEAREST), PREVIEW_SIZE
