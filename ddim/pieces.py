"""Large tensors piece by piece, so that what one operator writes is still in the cache when the next one reads it.

That pays where numbers are widened, worked on and rounded again, and where they are summed up after they were made; for
the few float32 operators of a step it does not. The numbers are those of the whole tensors: every operator here works
on one element at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["PIECE", "can_be_cut", "cut", "in_pieces", "is_plain", "piece_length"]

PIECE = 1 << 16  # elements for each thread: a few tensors of them fit the second-level cache
_FEW = 4  # pieces that are not worth their overhead


def piece_length() -> int:
    """Elements of a piece: every thread of an operator gets its share."""
    return PIECE * torch.get_num_threads()


def in_pieces(*tensors: Tensor | None) -> bool:
    """Whether the tensors given, all of one shape, are large enough to be cut, and can be."""
    first = tensors[0]
    if first is None or first.numel() <= _FEW * PIECE:
        return False
    return first.numel() > piece_length() and can_be_cut(*tensors)


def can_be_cut(*tensors: Tensor | None) -> bool:
    """Whether tensors of one shape can be cut into matching pieces: contiguous, plain, not followed by autograd."""
    if _is_transformed():
        return False
    grad = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor is None:
            continue
        if not (tensor.is_cpu and tensor.is_contiguous()) or (grad and tensor.requires_grad):
            return False
    return True


def cut(*tensors: Tensor | None, length: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Matching flat pieces of contiguous tensors of one size; None stays None.

    Args:
        tensors: the first of them must be one.
        length: elements of a piece; by default :func:`piece_length`.
    """
    first = tensors[0]
    assert first is not None
    length = length or piece_length()
    if first.numel() <= length:
        return iter([tuple(tensor if tensor is None else tensor.view(-1) for tensor in tensors)])  # type: ignore[misc]
    count = -(-first.numel() // length)
    columns = [(None,) * count if tensor is None else tensor.view(-1).split(length) for tensor in tensors]
    return zip(*columns, strict=True)


def is_plain(tensor: Tensor) -> bool:
    """Whether this is a CPU tensor whose memory is its own: not one that vmap or the compiler stands in for."""
    return tensor.is_cpu and not _is_transformed()


def _is_transformed() -> bool:
    """Whether this runs inside ``torch.compile``, ``vmap``, ``grad`` or their like."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
