"""The forward process: noise added to clean data, and the velocity between the two."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import DDIMError
from .noise_schedule import NoiseSchedule
from .tensor_ops import is_plain, working_dtype

__all__ = ["ForwardProcess"]

_LARGE_IMAGE = 1 << 14  # elements: below it, operators on one image at a time cost more than they save


class ForwardProcess:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) of every training timestep, computed in float64, kept per device.

    Args:
        noise: the noise schedule.
    """

    def __init__(self, noise: NoiseSchedule) -> None:
        self._noise = noise
        self._roots: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def add_noise(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, DDIM equation (4).

        Args:
            original: x_0, shape ``(B, ...)``, any float dtype.
            noise: same shape.
            timesteps: whole numbers in 0..T-1, one per image or one for all.

        Returns:
            In the dtype of ``original``; the sum is made in float32 or float64 and rounded once.
        """
        return self._mixed(original, noise, timesteps, original, noise, 1)

    def velocity(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0 (2202.00512, appendix D); as :meth:`add_noise`."""
        return self._mixed(original, noise, timesteps, noise, original, -1)

    def _mixed(
        self, original: Tensor, noise: Tensor, timesteps: Tensor, signal: Tensor, spread: Tensor, sign: int
    ) -> Tensor:
        """sqrt(alpha_bar) signal + sign sqrt(1 - alpha_bar) spread."""
        rows = self._rows(original, noise, timesteps)
        if _by_numbers(original, noise, rows):
            result = torch.empty_like(original) if len(rows) > 1 else None
            targets = [(signal, spread, result)] if result is None else zip(signal, spread, result, strict=True)
            for (a, b), (first, second, out) in zip(rows.tolist(), targets, strict=True):
                total = first * a if out is None else torch.mul(first, a, out=out)
                total.add_(second, alpha=sign * b)
            return total if result is None else result
        factors = rows.reshape(-1, 2, *[1] * (original.ndim - 1))
        return torch.addcmul(signal * factors[:, 0], spread, factors[:, 1], value=sign).to(original.dtype)

    def _rows(self, like: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The two roots for each image, or for all: shape ``(B or 1, 2)``."""
        if noise.shape != like.shape or noise.device != like.device:
            raise DDIMError(
                f"noise must have the sample's shape and device, {tuple(like.shape)} on {like.device}, "
                f"got {tuple(noise.shape)} on {noise.device}"
            )
        return self._table(like)[self._checked(timesteps, like)]

    def _table(self, like: Tensor) -> Tensor:
        key = (like.device, working_dtype(like.dtype))
        if key not in self._roots:
            alpha_bar = self._noise.alpha_bar
            roots = torch.stack([alpha_bar.sqrt(), (1 - alpha_bar).sqrt()], dim=1)
            self._roots[key] = roots.to(device=like.device, dtype=key[1])
        return self._roots[key]

    def _checked(self, timesteps: Tensor, like: Tensor) -> Tensor:
        if not isinstance(timesteps, Tensor) or timesteps.is_floating_point() or timesteps.dtype == torch.bool:
            raise DDIMError(f"timesteps must be a tensor of whole numbers, got {_kind(timesteps)}")
        if timesteps.numel() not in (1, like.shape[0]):
            raise DDIMError(
                f"timesteps must be one for all images or one each: 1 or {like.shape[0]}, got {timesteps.numel()}"
            )
        # Reading a device tensor would make the host wait; there an index out of range is the device's own error.
        if timesteps.device.type == "cpu" and not torch.compiler.is_compiling() and timesteps.numel():
            low, high = (int(edge) for edge in torch.aminmax(timesteps))
            if low < 0 or high >= len(self._noise):
                raise DDIMError(f"timesteps must be in 0..{len(self._noise) - 1}, got {low} to {high}")
        return timesteps.to(like.device, torch.int64).flatten()


def _by_numbers(original: Tensor, noise: Tensor, rows: Tensor) -> bool:
    """Whether to go image by image with host numbers: on the CPU, where that is faster and reads nothing back."""
    if not (is_plain(original) and is_plain(noise) and is_plain(rows)):
        return False
    if not original.dtype == noise.dtype == rows.dtype:
        return False
    tracked = torch.is_grad_enabled() and (original.requires_grad or noise.requires_grad)
    return len(rows) == 1 or (not tracked and original.numel() >= _LARGE_IMAGE * len(rows))


def _kind(value: object) -> str:
    return f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
