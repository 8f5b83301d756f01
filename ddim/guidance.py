"""Classifier-free guidance and its rescale."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import check_number
from .pieces import cut
from .statistics import Sums, deviation, deviations_on_host, summable
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
    if not guidance_rescale:
        return torch.lerp(pred_uncond, pred_text, guidance_scale)
    phi = check_number("guidance_rescale", guidance_rescale, 0.0, 1.0)
    if pred_text.dtype == pred_uncond.dtype and summable(pred_uncond, pred_text):
        return _guided_and_rescaled(pred_uncond, pred_text, guidance_scale, phi)
    guided = torch.lerp(pred_uncond, pred_text, guidance_scale)
    return (guided * _rescale_factors(guided, pred_text, phi)).to(guided.dtype)


def _guided_and_rescaled(uncond: Tensor, text: Tensor, scale: float, phi: float) -> Tensor:
    """Both in one walk through memory: what the rescale needs to know is summed up while it is in the cache."""
    guided = torch.empty_like(text)
    for image, u, c in zip(guided, uncond, text, strict=True):
        of_guided, of_text = Sums(), Sums()
        for part, u_part, c_part in cut(image, u, c):
            of_guided.add(torch.lerp(u_part, c_part, scale, out=part))
            of_text.add(c_part)
        factor = _factor(of_guided.deviation(), of_text.deviation(), phi)
        image.mul_(float(_rescale_factors(image[None], c[None], phi)) if factor is None else factor)
    return guided


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
    there, own = deviations_on_host(guided), deviations_on_host(text)
    if there is not None and own is not None:
        numbers = [_factor(one, other, phi) for one, other in zip(there, own, strict=True)]
        return torch.tensor(numbers, dtype=working_dtype(guided.dtype)).reshape(shape)
    std_text, std_guided = deviation(text), deviation(guided)
    ratio = torch.where(std_guided > 0, std_text / std_guided, 1.0)
    return ratio.mul(phi).add_(1 - phi).reshape(shape)


def _factor(std_guided: float | None, std_text: float | None, phi: float) -> float | None:
    """The same as a number, from the deviations of one image; None where one of them is not known."""
    if std_guided is None or std_text is None:
        return None
    return phi * std_text / std_guided + 1 - phi
