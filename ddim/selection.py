"""Quantiles by selection instead of a sort."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .pieces import PIECE

__all__ = ["clamped_quantile", "clamped_quantile_of_pieces", "quantile"]

_SORT_LIMIT = 1 << 24  # torch.quantile refuses rows longer than this
_LEAST = np.finfo(np.float32).min  # in place of what is no number
_ROOM = 4  # how many times the numbers wanted may be kept before the smaller ones are dropped


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
    """:func:`quantile` within limits, without a selection in rows where counting tells that it is one of the limits.

    NaN does not count where the numbers beside it decide: see :func:`clamped_quantile_of_pieces`.
    """
    if not _has_cpu_memory(values) or (values.requires_grad and torch.is_grad_enabled()):
        return quantile(values, ratio).clamp_(lowest, highest)
    found = [
        clamped_quantile_of_pieces(partial(_pieces_of, row), len(row), ratio, lowest, highest, values.dtype)
        for row in values.detach().numpy()
    ]
    return torch.tensor(found, dtype=values.dtype)


def _pieces_of(row: np.ndarray) -> list[np.ndarray]:
    return np.split(row, range(PIECE, len(row), PIECE))


def clamped_quantile_of_pieces(
    pieces: Callable[[], Iterable[np.ndarray]],
    count: int,
    ratio: float,
    lowest: float,
    highest: float,
    dtype: torch.dtype,
) -> float:
    """:func:`quantile` of one row within limits, from its pieces: as few of them as it takes.

    Only the largest numbers are kept, down to the quantile. As soon as enough of them have reached ``highest``, that
    is the answer, and the other pieces are not asked for.

    Args:
        pieces: gives the row from its beginning, float32 or float64; each piece is read before the next is asked for.
            NaN in it counts as a number below all others.
        count: length of the row.
        ratio: in [0, 1].
        lowest: the least answer.
        highest: the greatest answer, at least ``lowest``.
        dtype: of the row.
    """
    low, weight = _rank(count, ratio, dtype)
    wanted = count - low  # numbers from the quantile's lower neighbour up
    kept: list[np.ndarray] = []
    bound, size, reached = lowest, 0, 0
    for piece in pieces():
        reached += int(np.count_nonzero(piece >= highest))
        if reached >= wanted:
            return highest
        kept.append(piece[np.flatnonzero(piece > bound)])  # few numbers, which a mask would take longer to pick out
        size += len(kept[-1])
        if size > _ROOM * wanted:
            kept = [_top(np.concatenate(kept), wanted).copy()]
            bound, size = float(kept[0][0]), wanted
    if size < wanted - bool(weight):
        return lowest
    top = _top(np.concatenate(kept), min(wanted, size))
    below = top[0] if size >= wanted else max(piece[piece <= lowest].max(initial=_LEAST) for piece in pieces())
    above = top[1 if size >= wanted else 0 :].min() if weight else below
    if above == np.inf:
        return highest  # which the arithmetic below would make NaN of
    value = torch.lerp(torch.tensor(below, dtype=dtype), torch.tensor(above, dtype=dtype), weight)
    return min(max(float(value.numpy()), lowest), highest)


def _top(values: np.ndarray, wanted: int) -> np.ndarray:
    """The largest numbers, the least of them first; the others change places."""
    values.partition(len(values) - wanted)
    return values[len(values) - wanted :]


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
