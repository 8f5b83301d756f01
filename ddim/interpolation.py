"""Spherical interpolation between noises, image by image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import DDIMError, check_integer
from .precision import working_dtype

__all__ = ["slerp", "slerp_path"]

# Below this angle sin(theta) has lost its digits, and the arc is a straight line to rounding.
_SMALL = 1e-6
# Nearer to opposite than this, equation (67) blows a difference in length up by 1 / sin(theta).
_NEARLY_OPPOSITE = 0.01


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Spherical linear interpolation, DDIM (2010.02502) equation (67), image by image.

    x = sin((1 - t) theta) / sin(theta) a + sin(t theta) / sin(theta) b, theta the angle between a and b. Parallel
    images are mixed linearly; opposite ones, for which every great circle is as good, go by a fixed one instead of
    through zero. The ends are exact.

    Args:
        a: at t = 0, shape ``(B, ...)``; a tensor of one dimension is one image.
        b: at t = 1, same shape.
        t: in [0, 1]: a number, or one per image, shape ``(B,)``.

    Returns:
        Same shape, in the dtype of ``a``.

    Raises:
        DDIMError: for other shapes, or t outside [0, 1].
    """
    _check_pair(a, b)
    images = len(a) if a.ndim > 1 else 1
    share = _share(t, images, a.device)
    rows_a, rows_b = (x.reshape(images, -1).to(torch.float64) for x in (a, b))
    mixed = _slerp_rows(rows_a, rows_b, share[:, None]).reshape(a.shape)
    share = share.reshape(-1, *[1] * (a.ndim - 1)) if a.ndim > 1 else share
    mixed = torch.where(share == 0, a.to(torch.float64), torch.where(share == 1, b.to(torch.float64), mixed))
    return mixed.to(working_dtype(a.dtype)).to(a.dtype)


def slerp_path(points: Tensor, frames: int, *, closed: bool = False) -> Tensor:
    """Frames evenly spread along the arcs through several noises.

    Args:
        points: shape ``(P, ...)``, P at least 1, in this order.
        frames: N, at least 1; one frame is the first point.
        closed: go back from the last point to the first; the first is then not repeated at the end.

    Returns:
        Shape ``(N, ...)``. Where ``frames - 1`` is a multiple of the number of arcs, every point is a frame.

    Raises:
        DDIMError: for no points or no frames.
    """
    frames = check_integer("frames", frames, 1)
    if points.ndim < 2 or len(points) == 0:
        raise DDIMError(f"a path needs points of shape (P, ...), got {tuple(points.shape)}")
    arcs = len(points) if closed else len(points) - 1
    if arcs == 0:
        return points.expand(frames, *points.shape[1:]).clone()
    # Whole numbers, so that a frame that falls on a point is that point.
    parts = frames if closed else max(frames - 1, 1)
    places = [divmod(i * arcs, parts) for i in range(frames)]
    starts = torch.tensor([min(arc, arcs - 1) for arc, _ in places])
    share = torch.tensor([1.0 if arc == arcs else rest / parts for arc, rest in places], dtype=torch.float64)
    ends = (starts + 1) % len(points)
    return slerp(points[starts.to(points.device)], points[ends.to(points.device)], share)


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.device != b.device:
        raise DDIMError(
            f"slerp needs two tensors of one shape and device, got {tuple(a.shape)} on {a.device} and "
            f"{tuple(b.shape)} on {b.device}"
        )
    if not (a.is_floating_point() and b.is_floating_point()) or a.ndim == 0:
        raise DDIMError(f"slerp needs floating-point tensors of shape (B, ...), got {a.dtype} of {tuple(a.shape)}")


def _share(t: float | Tensor, images: int, device: torch.device) -> Tensor:
    """t per image, float64, (B,)."""
    share = torch.as_tensor(t, dtype=torch.float64, device=device)
    if share.ndim > 1 or share.numel() not in (1, images):
        raise DDIMError(f"t must be one number or one per image: {images} expected, got shape {tuple(share.shape)}")
    share = share.reshape(-1).expand(images)
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise DDIMError(f"t must be between 0 and 1, got {t if not isinstance(t, Tensor) else share.tolist()}")
    return share


def _slerp_rows(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Equation (67) on rows: a and b ``(B, N)``, t ``(B, 1)``, float64."""
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    unit_a, unit_b = a / _nonzero(length_a), b / _nonzero(length_b)
    # Half the angle from the chord (Kahan), which keeps its digits where the cosine is flat.
    chord, across = (unit_a - unit_b).norm(dim=1, keepdim=True), (unit_a + unit_b).norm(dim=1, keepdim=True)
    theta = 2 * torch.atan2(chord, across)
    sine = _nonzero(theta.sin())
    from_a, from_b = ((1 - t) * theta).sin() / sine, (t * theta).sin() / sine
    straight, arc = (1 - t) * a + t * b, from_a * a + from_b * b
    length = (1 - t) * length_a + t * length_b
    arc = torch.where(math.pi - theta < _NEARLY_OPPOSITE, length * (from_a * unit_a + from_b * unit_b), arc)
    detour = length * ((math.pi * t).cos() * unit_a + (math.pi * t).sin() * _perpendicular(unit_a))
    parallel = (theta < _SMALL) | (length_a == 0) | (length_b == 0)
    return torch.where(parallel, straight, torch.where(math.pi - theta < _SMALL, detour, arc))


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.ones_like(x), x)


def _perpendicular(unit: Tensor) -> Tensor:
    """A unit vector at a right angle to each row, the same for the same row: neighbours swapped, one sign turned.

    A row of one element has none, and gets zeros.
    """
    pairs = unit.shape[1] // 2 * 2
    turned = torch.zeros_like(unit)
    turned[:, 0:pairs:2], turned[:, 1:pairs:2] = -unit[:, 1:pairs:2], unit[:, 0:pairs:2]
    lonely = (turned.norm(dim=1, keepdim=True) == 0) & (unit.shape[1] > 1)
    turned[:, :1] = torch.where(lonely, torch.ones_like(turned[:, :1]), turned[:, :1])
    return turned / _nonzero(turned.norm(dim=1, keepdim=True))
