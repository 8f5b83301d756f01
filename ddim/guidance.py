"""Classifier-free guidance and its rescale."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import check_number

__all__ = ["guide", "guided_model", "rescale_noise_cfg"]


def guide(pred_uncond: Tensor, pred_text: Tensor, guidance_scale: float, guidance_rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, 2207.12598, equation 6), with optional rescale.

    Args:
        pred_uncond: model output without the condition, shape ``(B, ...)``.
        pred_text: model output with it, same shape.
        guidance_scale: w; 1 gives ``pred_text``, 0 gives ``pred_uncond``.
        guidance_rescale: phi of :func:`rescale_noise_cfg`.
    """
    guided = torch.lerp(pred_uncond, pred_text, guidance_scale)
    return rescale_noise_cfg(guided, pred_text, guidance_rescale) if guidance_rescale else guided


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
    dims = tuple(range(1, noise_cfg.ndim))
    std_text = noise_pred_text.std(dim=dims, keepdim=True)
    std_cfg = noise_cfg.std(dim=dims, keepdim=True)
    ratio = torch.where(std_cfg > 0, std_text / std_cfg, torch.ones_like(std_cfg))
    return noise_cfg * (phi * ratio + (1 - phi))
