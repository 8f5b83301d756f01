"""A step of half-precision tensors on the CPU, piece by piece.

Each piece is widened, stepped by ``fast_step`` in float32 and rounded while it is in the cache, which a whole tensor
would leave between these three. The numbers are those of ``fast_step`` followed by a rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .coefficients import StepCoefficients
from .fast_step import fast_step
from .fused import INTERPRETED
from .tensor_ops import PIECE, in_cache_order
from .x0_processing import Clip, ProcessX0

__all__ = ["half_step", "works_in_pieces"]


def works_in_pieces(process_x0: ProcessX0 | None, *tensors: Tensor | None) -> bool:
    """Whether a step is of one element at a time, on plain tensors that lie alike in memory."""
    if INTERPRETED or not (process_x0 is None or isinstance(process_x0, Clip)):
        return False
    return in_cache_order(*tensors)


def half_step(
    coefficients: StepCoefficients,
    state: Tensor,
    model_output: Tensor,
    process_x0: ProcessX0 | None,
    use_clipped_model_output: bool,
    noise: Tensor | None,
    *,
    wide: Tensor,
    rounded: Tensor,
    lane: Tensor,
) -> None:
    """DDIM equation (12); arguments as for :func:`ddim.fast_step.fast_step`, contiguous all of them.

    Args:
        wide: where x_next is written, float32.
        rounded: where it is written rounded, half precision; may be ``state``.
        lane: float32 numbers to overwrite: of the shape of ``wide``, or a flat piece.
    """
    for x_next, short, x, m, z in _pieces(wide, rounded, state, model_output, noise):
        fast_step(
            coefficients,
            x,
            m if m.dtype == lane.dtype else (lane if m.shape == lane.shape else lane[: len(m)]).copy_(m),
            process_x0=process_x0,
            use_clipped_model_output=use_clipped_model_output,
            noise=z,
            out=x_next,
        )
        short.copy_(x_next)


def _pieces(whole: Tensor, *others: Tensor | None) -> Iterator[tuple[Tensor, ...]]:
    """Matching pieces of tensors of one shape; None stays None."""
    tensors = (whole, *others)
    if whole.numel() <= PIECE:
        yield tensors  # type: ignore[misc]
        return
    flat = [None if tensor is None else tensor.view(-1) for tensor in tensors]
    for start in range(0, whole.numel(), PIECE):
        yield tuple(tensor if tensor is None else tensor[start : start + PIECE] for tensor in flat)  # type: ignore[misc]
