"""The forward process: noise added to clean data, and the velocity between the two."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import DDIMError
from .noise_schedule import NoiseSchedule
from .tensor_ops import working_dtype

__all__ = ["ForwardProcess"]


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
        signal, spread = self._factors(original, noise, timesteps)
        return torch.addcmul(original * signal, noise, spread).to(original.dtype)

    def velocity(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0 (2202.00512, appendix D); as :meth:`add_noise`."""
        signal, spread = self._factors(original, noise, timesteps)
        return torch.addcmul(noise * signal, original, spread, value=-1).to(original.dtype)

    def _factors(self, like: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        if noise.shape != like.shape or noise.device != like.device:
            raise DDIMError(
                f"noise must have the sample's shape and device, {tuple(like.shape)} on {like.device}, "
                f"got {tuple(noise.shape)} on {noise.device}"
            )
        rows = self._table(like)[self._checked(timesteps, like)]
        rows = rows.reshape(-1, 2, *[1] * (like.ndim - 1))
        return rows[:, 0], rows[:, 1]

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


def _kind(value: object) -> str:
    return f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
