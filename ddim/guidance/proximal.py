"""Proximal guidance: editing an inverted image without changing what the two prompts agree on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..arguments import check_function, check_pair
from ..errors import DDIMError, check_choice, check_number
from ..precision import per_image, quantile, working_dtype
from .cfg import check_weight

__all__ = ["PROXIMAL_OPERATORS", "proximal_guide", "proximal_guided_model"]

Model = Callable[[Tensor, Tensor], Tensor]


def _soft(difference: Tensor, threshold: Tensor) -> Tensor:
    """The proximal operator of ``threshold |d|_1``: sign(d) max(|d| - threshold, 0)."""
    return difference - difference.clamp(-threshold, threshold)


def _hard(difference: Tensor, threshold: Tensor) -> Tensor:
    """The proximal operator of ``threshold^2 / 2 |d|_0``: d where |d| > threshold, else 0."""
    return torch.where(difference.abs() > threshold, difference, 0.0)


_OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"soft": _soft, "hard": _hard}

PROXIMAL_OPERATORS: tuple[str, ...] = tuple(_OPERATORS)


def proximal_guide(
    pred_source: Tensor, pred_target: Tensor, guidance_scale: float, quantile_kept: float = 0.7, operator: str = "soft"
) -> Tensor:
    """Proximal guidance (ProxNPI; Han et al. 2023, 2306.05414): e = e_src + w prox(e_tgt - e_src).

    The source prompt takes the place of the empty one, as in negative-prompt inversion (Miyake et al. 2023,
    2305.16807): where both prompts say the same the inverted image comes back, whatever w is. prox sets the differences
    whose magnitude is below a quantile of them to 0: that of the l1 norm ("soft") makes the others smaller by it too,
    that of the l0 norm ("hard") leaves them as they are. All prediction types are linear in epsilon, with one factor
    per image, so the outputs are combined as they are.

    Args:
        pred_source: model output with the prompt of the inversion, shape ``(B, ...)``.
        pred_target: model output with the prompt of the edit, same shape.
        guidance_scale: w; at quantile 0 and "hard" this is :func:`guide`.
        quantile_kept: q in [0, 1], taken for each image; the paper uses 0.6 to 0.7. At 1 only the source is left.
        operator: one of ``PROXIMAL_OPERATORS``.

    Raises:
        DDIMError: for tensors that do not fit together, or values outside their range.
    """
    check_pair("pred_source", pred_source, "pred_target", pred_target)
    if pred_source.dtype != pred_target.dtype:
        raise DDIMError(f"pred_source must have the dtype of pred_target, {pred_target.dtype}, got {pred_source.dtype}")
    if pred_source.ndim < 2 or not pred_source.numel():
        raise DDIMError(
            f"pred_source must have the shape (B, ...) with at least one element, got {tuple(pred_source.shape)}: a "
            "quantile of each image is taken"
        )
    scale = check_weight("guidance_scale", guidance_scale, pred_target)
    q = check_number("quantile_kept", quantile_kept, 0.0, 1.0)
    prox = _OPERATORS[check_choice("operator", operator, PROXIMAL_OPERATORS)]
    dtype = working_dtype(pred_source.dtype)
    difference = pred_target.to(dtype) - pred_source.to(dtype)
    threshold = per_image(quantile(difference.abs().flatten(1), q), difference) if q else difference.new_zeros(())
    return torch.add(pred_source, prox(difference, threshold), alpha=scale).to(pred_source.dtype)


def proximal_guided_model(
    target: Model, source: Model, guidance_scale: float, quantile_kept: float = 0.7, operator: str = "soft"
) -> Model:
    """One model made of two, for sampling from an inversion that was made with ``source``; 2 calls a step.

    Args:
        target: ``model(x_t, t)`` with the prompt of the edit.
        source: the same with the prompt of the inversion.
        guidance_scale: as for :func:`proximal_guide`, as all that follow.
        quantile_kept: q.
        operator: one of ``PROXIMAL_OPERATORS``.
    """
    check_function("target", target)
    check_function("source", source)
    return lambda x, t: proximal_guide(source(x, t), target(x, t), guidance_scale, quantile_kept, operator)
