"""Classifier-free guidance and its rescale."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import check_number
from .statistics import deviation, deviations_on_host
from .tensor_ops import working_dtype

__all__ = ["Guided", "guide", "guided_model", "rescale_noise_cfg"]


class Guided(NamedTuple):
    """A guided model output that is yet to be combined: a model may return it to :func:`ddim.sample`.

    On a CUDA device the step combines it on its way, in the same kernel; elsewhere it becomes :meth:`tensor` first.

    Attributes:
        uncond: model output without the condition, shape ``(B, ...)``.
        text: model output with it, same shape.
        scale: w of :func:`guide`.
        rescale: phi of :func:`rescale_noise_cfg`, in [0, 1].
    """

    uncond: Tensor
    text: Tensor
    scale: float
    rescale: float = 0.0

    def tensor(self) -> Tensor:
        """The guided output, combined in float32 also where the two are half precision."""
        dtype = working_dtype(self.text.dtype)
        return guide(self.uncond.to(dtype), self.text.to(dtype), self.scale, self.rescale)


def guide(pred_uncond: Tensor, pred_text: Tensor, guidance_scale: float, guidance_rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, 2207.12598, equation 6), with optional rescale.

    Args:
        pred_uncond: model output without the condition, shape ``(B, ...)``.
        pred_text: model output with it, same shape.
        guidance_scale: w; 1 gives ``pred_text``, 0 gives ``pred_uncond``.
        guidance_rescale: phi of :func:`rescale_noise_cfg`.
    """
    guided = torch.lerp(pred_uncond, pred_text, guidance_scale)
    if not guidance_rescale:
        return guided
    phi = check_number("guidance_rescale", guidance_rescale, 0.0, 1.0)
    numbers = _factors_on_host(guided, pred_text, phi)
    if numbers is not None:
        for image, factor in zip(guided if len(numbers) > 1 else [guided], numbers, strict=True):
            image.mul_(factor)
        return guided
    factors = _rescale_factors(guided, pred_text, phi)
    return guided.mul_(factors) if guided.dtype == factors.dtype else (guided * factors).to(guided.dtype)


def guided_model(
    conditional: Callable[[Tensor, Tensor], Tensor],
    unconditional: Callable[[Tensor, Tensor], Tensor],
    guidance_scale: float,
    guidance_rescale: float = 0.0,
) -> Callable[[Tensor, Tensor], Tensor]:
    """One model of two, for :func:`ddim.sample` and :func:`ddim.invert`; each of them may have its own scale.

    Args:
        conditional: ``model(x_t, t)`` with the condition.
        unconditional: ``model(x_t, t)`` without it; not called at scale 1, as it has no share there.
        guidance_scale: w of :func:`guide`.
        guidance_rescale: phi of :func:`rescale_noise_cfg`, in [0, 1].
    """
    scale = check_number("guidance_scale", guidance_scale)
    phi = check_number("guidance_rescale", guidance_rescale, 0.0, 1.0)
    if scale == 1.0:
        return conditional
    return lambda x, t: guide(unconditional(x, t), conditional(x, t), scale, phi)


def rescale_noise_cfg(noise_cfg: Tensor, noise_pred_text: Tensor, guidance_rescale: float = 0.0) -> Tensor:
    """Bring the standard deviation of a guided prediction back towards the conditional one's.

    Lin et al. 2024 (2305.08891), equations (14) to (16): phi * cfg * std(text) / std(cfg) + (1 - phi) * cfg, the
    deviation taken over all dimensions but the first. An image whose guided prediction is constant is left as it is.

    Args:
        noise_cfg: guided model output, shape ``(B, ...)``.
        noise_pred_text: conditional model output, same shape.
        guidance_rescale: phi in [0, 1]; the paper uses 0.7.
    """
    phi = check_number("guidance_rescale", guidance_rescale, 0.0, 1.0)
    return (noise_cfg * _rescale_factors(noise_cfg, noise_pred_text, phi)).to(noise_cfg.dtype)


def _rescale_factors(guided: Tensor, text: Tensor, phi: float) -> Tensor:
    """What each guided image is to be multiplied by, shape ``(B, 1, ...)``, in the working dtype."""
    shape = (-1, *[1] * (guided.ndim - 1))
    numbers = _factors_on_host(guided, text, phi)
    if numbers is not None:
        return torch.tensor(numbers, dtype=working_dtype(guided.dtype)).reshape(shape)
    std_text, std_guided = deviation(text), deviation(guided)
    ratio = torch.where(std_guided > 0, std_text / std_guided, 1.0)
    return ratio.mul(phi).add_(1 - phi).reshape(shape)


def _factors_on_host(guided: Tensor, text: Tensor, phi: float) -> list[float] | None:
    """The same as numbers, where they can be had on the CPU from sums."""
    std_guided, std_text = deviations_on_host(guided), deviations_on_host(text)
    if std_guided is None or std_text is None:
        return None
    return [phi * own / there + 1 - phi for own, there in zip(std_text, std_guided, strict=True)]
