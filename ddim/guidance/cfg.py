"""Classifier-free guidance and its rescale."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import check_function, check_pair, check_tensor, describe
from ..errors import DDIMError, check_choice, check_number, show
from ..precision import per_image, working_dtype

__all__ = [
    "GUIDANCE_MODES",
    "CFGPlusPlus",
    "Guided",
    "ModelOutput",
    "check_lambda",
    "check_weight",
    "guide",
    "guide_plus_plus",
    "guided_model",
    "rescale_noise_cfg",
]


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


class CFGPlusPlus(NamedTuple):
    """The two outputs of a step with CFG++ (:func:`guide_plus_plus`): a model may return it to :func:`ddim.sample`.

    Attributes:
        guided: the output that x_0 is taken from, shape ``(B, ...)``.
        uncond: the output without the condition, which the direction is taken from, same shape.
    """

    guided: Tensor
    uncond: Tensor


ModelOutput = Tensor | Guided | CFGPlusPlus


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


def guide_plus_plus(
    pred_uncond: Tensor, pred_text: Tensor, guidance_scale: float, guidance_rescale: float = 0.0
) -> CFGPlusPlus:
    """CFG++ (Chung et al. 2024, 2406.08070, algorithm 2): guidance that interpolates, and keeps the noise of the step.

    x_0 comes from the guided output, e_0 + lambda (e_c - e_0), and the direction back to the next noise level from the
    unconditional e_0. All prediction types are linear in epsilon, so the outputs are combined as they are; the step is
    :func:`ddim.step.apply.step_mean`. lambda 0 is sampling without the condition. A step with lambda is that of
    :func:`guide` with the scale w = lambda alpha_u m / (alpha_u m + direction n), where m and n weigh the output in x_0
    and in epsilon: above 1, and larger the shorter the step is.

    Args:
        pred_uncond: model output without the condition, shape ``(B, ...)``.
        pred_text: model output with it, same shape.
        guidance_scale: lambda, in [0, 1]; the paper uses 0.6 where others use 7.5.
        guidance_rescale: phi of :func:`rescale_noise_cfg`, for the guided output.

    Raises:
        DDIMError: for tensors that do not fit together, or lambda outside [0, 1].
    """
    return CFGPlusPlus(guide(pred_uncond, pred_text, check_lambda(guidance_scale), guidance_rescale), pred_uncond)


def check_lambda(guidance_scale: float) -> float:
    """The guidance scale of CFG++, if it can be one.

    Raises:
        DDIMError: outside [0, 1].
    """
    value = check_number("guidance_scale", guidance_scale)
    if not 0.0 <= value <= 1.0:
        raise DDIMError(
            f"guidance mode 'cfg++' takes lambda in [0, 1] as its guidance scale (0.6 does what 7.5 does for 'cfg'), "
            f"got {value:g}; lower the scale, or use mode 'cfg'"
        )
    return value


# How two outputs become one, by the name of the mode.
_COMBINE: dict[str, Callable[[Tensor, Tensor, float, float], Tensor | CFGPlusPlus]] = {
    "cfg": guide,
    "cfg++": guide_plus_plus,
}

GUIDANCE_MODES: tuple[str, ...] = tuple(_COMBINE)


def check_weight(name: str, weight: float, like: Tensor) -> float:
    """A number by which predictions are multiplied, if their dtype can hold it.

    Raises:
        DDIMError: otherwise.
    """
    value, largest = weight if isinstance(weight, float) else check_number(name, weight), torch.finfo(like.dtype).max
    if not -largest <= value <= largest:
        raise DDIMError(f"{name} must be a finite number that {like.dtype} can hold, got {show(weight)}")
    return value


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
    check_weight("guidance_scale", scale, like)


def guided_model(
    conditional: Callable[[Tensor, Tensor], Tensor],
    unconditional: Callable[[Tensor, Tensor], Tensor],
    guidance_scale: float,
    guidance_rescale: float = 0.0,
    *,
    mode: str = "cfg",
    active: Callable[[Tensor], bool] | None = None,
) -> Callable[[Tensor, Tensor], Tensor | CFGPlusPlus]:
    """One model made of two, for :func:`ddim.sample` and :func:`ddim.invert`; the scales of the two may differ.

    Args:
        conditional: ``model(x_t, t)`` with the condition.
        unconditional: ``model(x_t, t)`` without it; not called where it has no weight: at scale 1 of ``"cfg"``, and
            where guidance is not active.
        guidance_scale: w of :func:`guide`, or lambda of :func:`guide_plus_plus`.
        guidance_rescale: phi of :func:`rescale_noise_cfg`, in [0, 1].
        mode: one of ``GUIDANCE_MODES``.
        active: ``active(t)`` tells whether there is guidance at t, as :meth:`ddim.GuidanceInterval.on` gives it;
            elsewhere the conditional output is used alone. By default there is guidance in every step.

    Raises:
        DDIMError: for arguments that do not fit together, lambda outside [0, 1] among them.
    """
    combine = _COMBINE[check_choice("mode", mode, GUIDANCE_MODES)]
    scale = check_number("guidance_scale", guidance_scale) if mode == "cfg" else check_lambda(guidance_scale)
    phi = check_number("guidance_rescale", guidance_rescale, 0.0, 1.0)
    check_function("conditional", conditional)
    check_function("unconditional", unconditional)
    if active is not None:
        check_function("active", active)
    if scale == 1.0 and mode == "cfg":
        return conditional

    def model(x: Tensor, t: Tensor) -> Tensor | CFGPlusPlus:
        if active is not None and not active(t):
            return conditional(x, t)
        return combine(unconditional(x, t), conditional(x, t), scale, phi)

    return model


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
