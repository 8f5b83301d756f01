"""Classifier-free guidance and its rescale."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import check_function, check_pair, check_tensor, describe
from ..errors import DDIMError, check_number, show
from ..precision import per_image, working_dtype

__all__ = ["Guided", "guide", "guided_model", "rescale_noise_cfg"]


class Guided(NamedTuple):
    """A guided model output that is not combined yet: a model may return it to :func:`ddim.sample`.

    On a CUDA device the step's kernel combines it; elsewhere it becomes :meth:`tensor` first.

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
        """The guided output, combined in float32 even where the two are half precision."""
        check_pair("uncond", self.uncond, "text", self.text)
        dtype = working_dtype(self.text.dtype)
        return guide(self.uncond.to(dtype), self.text.to(dtype), self.scale, self.rescale)


def guide(pred_uncond: Tensor, pred_text: Tensor, guidance_scale: float, guidance_rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, 2207.12598, equation 6), with optional rescale.

    Args:
        pred_uncond: model output without the condition, shape ``(B, ...)``.
        pred_text: model output with it, same shape.
        guidance_scale: w; 1 gives ``pred_text``, 0 gives ``pred_uncond``.
        guidance_rescale: phi of :func:`rescale_noise_cfg`.

    Raises:
        DDIMError: for tensors that do not fit together, or a scale that is not a finite number.
    """
    check_pair("pred_uncond", pred_uncond, "pred_text", pred_text)
    if pred_uncond.dtype != pred_text.dtype:
        raise DDIMError(f"pred_uncond must have the dtype of pred_text, {pred_text.dtype}, got {pred_uncond.dtype}")
    _check_scale(guidance_scale, pred_text)
    if not isinstance(guidance_rescale, float):
        guidance_rescale = check_number("guidance_rescale", guidance_rescale)
    guided = torch.lerp(pred_uncond, pred_text, guidance_scale)
    return rescale_noise_cfg(guided, pred_text, guidance_rescale) if guidance_rescale else guided


def _check_scale(scale: float | Tensor, like: Tensor) -> None:
    if isinstance(scale, Tensor):
        check_tensor("guidance_scale", scale)
        one_each = scale.ndim == like.ndim and scale.shape[:1] in ((1,), like.shape[:1]) and set(scale.shape[1:]) <= {1}
        if scale.dtype != like.dtype or not (scale.ndim == 0 or one_each):
            raise DDIMError(
                f"guidance_scale must be a number, or a {like.dtype} tensor of one per image, {like.ndim} dimensions "
                f"(B, 1, ...), got {describe(scale)}"
            )
        return
    largest = torch.finfo(like.dtype).max
    if not -largest <= (scale if isinstance(scale, float) else check_number("guidance_scale", scale)) <= largest:
        raise DDIMError(f"guidance_scale must be a finite number that {like.dtype} can hold, got {show(scale)}")


def guided_model(
    conditional: Callable[[Tensor, Tensor], Tensor],
    unconditional: Callable[[Tensor, Tensor], Tensor],
    guidance_scale: float,
    guidance_rescale: float = 0.0,
) -> Callable[[Tensor, Tensor], Tensor]:
    """One model made of two, for :func:`ddim.sample` and :func:`ddim.invert`; the scales of the two may differ.

    Args:
        conditional: ``model(x_t, t)`` with the condition.
        unconditional: ``model(x_t, t)`` without it; not called at scale 1, where it has no weight.
        guidance_scale: w of :func:`guide`.
        guidance_rescale: phi of :func:`rescale_noise_cfg`, in [0, 1].
    """
    scale = check_number("guidance_scale", guidance_scale)
    phi = check_number("guidance_rescale", guidance_rescale, 0.0, 1.0)
    check_function("conditional", conditional)
    check_function("unconditional", unconditional)
    if scale == 1.0:
        return conditional
    return lambda x, t: guide(unconditional(x, t), conditional(x, t), scale, phi)


def rescale_noise_cfg(noise_cfg: Tensor, noise_pred_text: Tensor, guidance_rescale: float = 0.0) -> Tensor:
    """Bring the standard deviation of a guided prediction back towards that of the conditional one.

    Lin et al. 2024 (2305.08891), equations (14) to (16): phi * cfg * std(text) / std(cfg) + (1 - phi) * cfg, with the
    deviation over all dimensions but the first. An image whose guided prediction is constant stays as it is.

    Args:
        noise_cfg: guided model output, shape ``(B, ...)``.
        noise_pred_text: conditional model output, same shape.
        guidance_rescale: phi in [0, 1]; the paper uses 0.7.

    Raises:
        DDIMError: for tensors that do not fit together, or phi outside [0, 1].
    """
    phi = check_number("guidance_rescale", guidance_rescale, 0.0, 1.0)
    check_pair("noise_cfg", noise_cfg, "noise_pred_text", noise_pred_text)
    if noise_cfg.ndim < 2:
        raise DDIMError(f"noise_cfg must have the shape (B, ...), at least 2 dimensions, got {tuple(noise_cfg.shape)}")
    std_guided, std_text = _standard_deviation(noise_cfg), _standard_deviation(noise_pred_text)
    ratio = torch.where(std_guided > 0, std_text / std_guided, 1.0)
    factor = per_image(ratio * phi + (1 - phi), noise_cfg)
    return (noise_cfg * factor).to(noise_cfg.dtype)


def _standard_deviation(images: Tensor) -> Tensor:
    """Of each image, with Bessel's correction, shape ``(B,)``, in the working dtype.

    Two passes: as accurate as ``Tensor.std``, which is several times slower on the CPU for more than one image. The
    first element is subtracted first, so that the deviation of a constant is 0: the mean of many equal numbers is
    rounded, and differs from them.
    """
    rows = images.flatten(1).to(working_dtype(images.dtype))
    apart = rows - rows[:, :1]
    apart -= apart.mean(1, keepdim=True)
    return (apart.square().sum(1) / (rows.shape[1] - 1)).sqrt()
