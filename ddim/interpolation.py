"""Spherical interpolation between noise tensors, one image at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .arguments import as_real_tensor, check_batch, check_pair, check_tensor
from .errors import DDIMError, check_integer, show
from .precision import working_dtype

__all__ = ["slerp", "slerp_path"]

MAX_FRAMES = 100_000  # an hour of video has 86,400

# Below this angle dividing by sin(theta) loses precision, and the arc equals a straight line up to rounding.
_SMALL_ANGLE = 1e-6
# Within this angle of opposite directions, equation (67) amplifies a difference of the norms by 1 / sin(theta).
_NEARLY_OPPOSITE = 0.01


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Spherical linear interpolation of each image, DDIM (2010.02502) equation (67).

    x = sin((1 - t) theta) / sin(theta) a + sin(t theta) / sin(theta) b, where theta is the angle between a and b.
    Parallel images are interpolated linearly. Between opposite images no great circle is distinguished; a fixed one is
    followed instead of the line through zero. At t = 0 and t = 1 the result is exactly ``a`` and ``b``.

    Args:
        a: The result at t = 0, shape ``(B, ...)``; a one-dimensional tensor is a single image.
        b: The result at t = 1, same shape.
        t: In [0, 1]: a number, or one per image, shape ``(B,)``.

    Returns:
        Same shape, in the dtype of ``a``.

    Raises:
        DDIMError: If shapes, devices or dtypes are unsuitable, or t is outside [0, 1].
    """
    check_batch("a", a)
    check_pair("b", b, "a", a)
    images = len(a) if a.ndim > 1 else 1
    t_rows = _t_per_image(t, images, a.device)
    rows_a, rows_b = ((x.flatten(1) if x.ndim > 1 else x[None]).to(torch.float64) for x in (a, b))
    scale = _power_of_two_near(rows_a, rows_b)
    mixed = (_slerp_rows(rows_a / scale, rows_b / scale, t_rows[:, None]) * scale).reshape(a.shape)
    t_rows = t_rows.reshape(-1, *[1] * (a.ndim - 1)) if a.ndim > 1 else t_rows
    mixed = torch.where(t_rows == 0, a.to(torch.float64), torch.where(t_rows == 1, b.to(torch.float64), mixed))
    return mixed.to(working_dtype(a.dtype)).to(a.dtype)


def slerp_path(points: Tensor, frames: int, *, closed: bool = False) -> Tensor:
    """Frames evenly spaced along the arcs through several noise tensors.

    Args:
        points: Shape ``(P, ...)``, P at least 1, in the order in which the path visits them.
        frames: N, in 1..100000; with N = 1 the frame is the first point.
        closed: Return from the last point to the first, which is not repeated at the end.

    Returns:
        Shape ``(N, ...)``. If the number of intervals (``frames - 1``, or ``frames`` if closed) is a multiple of the
        number of arcs, every point is a frame.

    Raises:
        DDIMError: If there are no points or no frames.
    """
    frames = check_integer("frames", frames, 1)
    if frames > MAX_FRAMES:
        raise DDIMError(f"a path has at most {MAX_FRAMES} frames, got {show(frames)}; make longer ones arc by arc")
    if check_tensor("points", points).ndim < 2 or len(points) == 0:
        raise DDIMError(f"a path needs points of shape (P, ...), P at least 1, got {tuple(points.shape)}")
    arcs = len(points) if closed else len(points) - 1
    if arcs == 0:
        return points.expand(frames, *points.shape[1:]).clone()
    # Integer arithmetic, so that a frame that coincides with a point equals it exactly.
    intervals = frames if closed else max(frames - 1, 1)
    positions = [divmod(i * arcs, intervals) for i in range(frames)]
    starts = torch.tensor([min(arc, arcs - 1) for arc, _ in positions])
    t = torch.tensor([1.0 if arc == arcs else rest / intervals for arc, rest in positions], dtype=torch.float64)
    ends = (starts + 1) % len(points)
    return slerp(points[starts.to(points.device)], points[ends.to(points.device)], t)


def _t_per_image(t: float | Tensor, images: int, device: torch.device) -> Tensor:
    """The argument t in float64, shape ``(images,)``."""
    t_rows = as_real_tensor("t", t).to(device)
    if t_rows.ndim > 1 or t_rows.numel() not in (1, images):
        raise DDIMError(f"t must be one number, or one per image ({images}), got shape {tuple(t_rows.shape)}")
    t_rows = t_rows.reshape(-1).expand(images)
    if not bool(((t_rows >= 0) & (t_rows <= 1)).all()):
        raise DDIMError(f"t must be between 0 and 1, got {show(t_rows.tolist() if isinstance(t, Tensor) else t)}")
    return t_rows


def _slerp_rows(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Equation (67) on rows: a and b ``(B, N)``, t ``(B, 1)``, float64."""
    norm_a, norm_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    unit_a, unit_b = a / _one_if_zero(norm_a), b / _one_if_zero(norm_b)
    # Kahan's formula for the angle; acos of the dot product loses precision near 0 and pi.
    difference, total = (unit_a - unit_b).norm(dim=1, keepdim=True), (unit_a + unit_b).norm(dim=1, keepdim=True)
    theta = 2 * torch.atan2(difference, total)
    sine = _one_if_zero(theta.sin())
    weight_a, weight_b = ((1 - t) * theta).sin() / sine, (t * theta).sin() / sine
    straight, arc = (1 - t) * a + t * b, weight_a * a + weight_b * b
    norm = (1 - t) * norm_a + t * norm_b
    arc = torch.where(math.pi - theta < _NEARLY_OPPOSITE, norm * (weight_a * unit_a + weight_b * unit_b), arc)
    half_turn = norm * ((math.pi * t).cos() * unit_a + (math.pi * t).sin() * _perpendicular(unit_a))
    parallel = (theta < _SMALL_ANGLE) | (norm_a == 0) | (norm_b == 0)
    return torch.where(parallel, straight, torch.where(math.pi - theta < _SMALL_ANGLE, half_turn, arc))


def _power_of_two_near(a: Tensor, b: Tensor) -> Tensor:
    """A power of two near the largest element of each pair of rows, shape ``(B, 1)``.

    Divided by it, the squares of very small or very large elements do not leave the range of float64; no digit changes.
    """
    if not a.numel():
        return a.new_ones((len(a), 1))
    largest = torch.maximum(a.abs().amax(1, keepdim=True), b.abs().amax(1, keepdim=True))
    mantissa, _ = torch.frexp(largest)
    return torch.where((largest > 0) & largest.isfinite(), largest / (2 * mantissa), 1.0)


def _one_if_zero(divisor: Tensor) -> Tensor:
    return torch.where(divisor == 0, torch.ones_like(divisor), divisor)


def _perpendicular(unit: Tensor) -> Tensor:
    """A unit vector perpendicular to each row: adjacent elements swapped, one of each pair negated.

    The result is deterministic. For rows of one element there is no perpendicular vector; the result is zero.
    """
    paired = unit.shape[1] // 2 * 2
    rotated = torch.zeros_like(unit)
    rotated[:, 0:paired:2], rotated[:, 1:paired:2] = -unit[:, 1:paired:2], unit[:, 0:paired:2]
    # If only the unpaired last element is nonzero, the first axis is perpendicular.
    only_last = (rotated.norm(dim=1, keepdim=True) == 0) & (unit.shape[1] > 1)
    rotated[:, :1] = torch.where(only_last, torch.ones_like(rotated[:, :1]), rotated[:, :1])
    return rotated / _one_if_zero(rotated.norm(dim=1, keepdim=True))
