"""Edit guidance: several prompts that change a picture at once, each only where it has something to say."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_pair
from ..errors import DDIMError, check_number
from ..precision import quantile, working_dtype
from .cfg import check_weight

__all__ = ["edit_guide", "edit_mask"]


def edit_guide(
    guided: Tensor, pred_reference: Tensor, pred_edit: Tensor, weight: float, threshold: float = 0.9
) -> Tensor:
    """Add one edit prompt's term (LEDITS++; Brack et al. 2023, 2311.16711, section 3.2) to a prediction.

    e = e_guided + s_k M_k (e_k - e_0): the terms of several prompts add up, so that this is applied once for each. M_k
    is :func:`edit_mask`, which needs no attention maps. As in :func:`proximal_guide`, the outputs of any prediction
    type are combined as they are.

    Args:
        guided: the prediction so far, shape ``(B, C, ...)``.
        pred_reference: e_0, the prediction without the edit prompt, same shape.
        pred_edit: e_k, the prediction with it, same shape.
        weight: s_k; above 0 the edit prompt is added, below 0 it is removed.
        threshold: lambda of :func:`edit_mask`; 0 changes the whole picture.

    Raises:
        DDIMError: for tensors that do not fit together, or values outside their range.
    """
    check_pair("guided", guided, "pred_edit", pred_edit)
    scale, mask = check_weight("weight", weight, guided), edit_mask(pred_reference, pred_edit, threshold)
    return (guided + scale * mask * (pred_edit - pred_reference)).to(guided.dtype)


def edit_mask(pred_reference: Tensor, pred_edit: Tensor, threshold: float) -> Tensor:
    """Where an edit prompt changes a prediction most: the mask M^2 of 2311.16711, section 3.2.

    |e_k - e_0| is averaged over the channels and smoothed with the binomial kernel (1, 2, 1) / 4 along height and
    width; the mask is 1 where that is at least its ``threshold`` quantile of the image, and 0 elsewhere.

    Args:
        pred_reference: e_0, shape ``(B, C, ...)``.
        pred_edit: e_k, same shape.
        threshold: lambda in [0, 1]: the share of each image that stays as it is.

    Returns:
        Shape ``(B, 1, ...)``, in the working dtype.

    Raises:
        DDIMError: for tensors that do not fit together or have no place, or a threshold outside [0, 1].
    """
    check_pair("pred_reference", pred_reference, "pred_edit", pred_edit)
    if pred_edit.ndim < 3 or not pred_edit.numel():
        raise DDIMError(
            f"pred_edit must have the shape (B, C, ...), at least 3 dimensions with an element, got "
            f"{tuple(pred_edit.shape)}: the mask is one for all channels"
        )
    share = check_number("threshold", threshold, 0.0, 1.0)
    dtype = working_dtype(pred_edit.dtype)
    size = (pred_edit.to(dtype) - pred_reference.to(dtype)).abs().mean(1, keepdim=True)
    for dim in range(max(2, size.ndim - 2), size.ndim):
        size = _smooth(size, dim)
    limit = quantile(size.flatten(1), share).reshape(-1, *[1] * (size.ndim - 1))
    return (size >= limit).to(dtype)


def _smooth(values: Tensor, dim: int) -> Tensor:
    """(left + 2 values + right) / 4 along a dimension; the ends are repeated."""
    count = values.shape[dim]
    at = torch.arange(count, device=values.device)
    left = values.index_select(dim, (at - 1).clamp(min=0))
    right = values.index_select(dim, (at + 1).clamp(max=count - 1))
    return (left + 2 * values + right) / 4
