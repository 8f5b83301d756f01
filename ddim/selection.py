"""Quantiles by selection instead of a sort."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["clamped_quantile", "quantile"]

_SORT_LIMIT = 1 << 24  # torch.quantile refuses rows longer than this


def quantile(values: Tensor, ratio: float) -> Tensor:
    """Linear-interpolated quantile of each row, equal to ``torch.quantile`` bit for bit where that works.

    Rows of any length are taken; ``torch.quantile`` refuses more than 2^24 elements. A row that holds NaN gives NaN.

    Args:
        values: float32 or float64, shape ``(B, n)``, n at least 1; overwritten on the CPU (elements change places).
        ratio: in [0, 1].

    Returns:
        Shape ``(B,)``, on the device and in the dtype of ``values``.
    """
    low, weight = _rank(values.shape[1], ratio, values.dtype)
    by_numpy = _has_cpu_memory(values) and not (values.requires_grad and torch.is_grad_enabled())
    below, above = _select_on_cpu(values.detach(), low) if by_numpy else _select_by_torch(values, low)
    return torch.lerp(below, above if weight else below, weight)


def clamped_quantile(values: Tensor, ratio: float, lowest: float, highest: float) -> Tensor:
    """:func:`quantile` within limits, without selection in rows where counting tells that it is ``highest``."""
    if values.shape[1] < 2 or not _has_cpu_memory(values) or (values.requires_grad and torch.is_grad_enabled()):
        return quantile(values, ratio).clamp_(lowest, highest)
    low, _ = _rank(values.shape[1], ratio, values.dtype)
    rows = values.detach()
    full = [_reaches(row, low, highest) for row in rows.numpy()]
    if not any(full):
        return quantile(rows, ratio).clamp_(lowest, highest)
    found = [highest if is_full else quantile(row[None], ratio)[0] for row, is_full in zip(rows, full, strict=True)]
    return torch.tensor(found, dtype=values.dtype).clamp_(lowest, highest)


def _reaches(row: np.ndarray, low: int, limit: float) -> bool:
    """Whether the sorted row is finite and at ``limit`` or above from index ``low`` on; False where it holds NaN."""
    return bool(limit <= row.max() < np.inf) and int(np.count_nonzero(row >= limit)) >= len(row) - low


def _has_cpu_memory(values: Tensor) -> bool:
    """Whether numpy can see the values: not on a device, nor inside ``torch.compile``, ``vmap`` or ``grad``."""
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    try:
        values.data_ptr()
    except RuntimeError:
        return False
    return True


def _rank(count: int, ratio: float, dtype: torch.dtype) -> tuple[int, float]:
    """Index of the value below the quantile, and the weight of the value above.

    torch.quantile multiplies in the dtype of the values, so that the rank of a long float32 row is rounded; the same
    rounding is done here, but for rows that torch.quantile refuses.
    """
    rounded = np.float32 if dtype == torch.float32 and count <= _SORT_LIMIT else np.float64
    rank = rounded(ratio) * rounded(count - 1)
    low = int(rank)
    return low, float(rank - rounded(low))


def _select_on_cpu(values: Tensor, low: int) -> tuple[Tensor, Tensor]:
    rows = values.numpy()
    rows.partition(low, axis=1)  # in place: a vectorised quickselect in numpy 2
    upper = rows[:, low + 1 :] if low + 1 < rows.shape[1] else rows[:, low:]
    below, above = rows[:, low].copy(), upper.min(axis=1)
    highest = upper.max(axis=1)  # numpy puts NaN last, and max hands it on
    below[np.isnan(highest)] = np.nan
    return torch.from_numpy(below), torch.from_numpy(above)


def _select_by_torch(values: Tensor, low: int) -> tuple[Tensor, Tensor]:
    below = torch.kthvalue(values, low + 1, dim=1).values
    above = torch.kthvalue(values, min(low + 2, values.shape[1]), dim=1).values
    missing = values.isnan().any(dim=1)
    return below.masked_fill(missing, torch.nan), above
