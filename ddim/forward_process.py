"""The forward process: noise added to clean data, and the velocity between the two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .coefficients import Linear
from .errors import DDIMError
from .noise_schedule import NoiseSchedule
from .pieces import is_plain
from .tensor_ops import combine, working_dtype

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
        _check_alike(original, noise)
        _check_timesteps(timesteps, original)
        if timesteps.is_cpu and not torch.compiler.is_compiling():  # reading a device tensor would make the host wait
            numbers = timesteps.flatten().tolist() if is_plain(timesteps) else None
            self._check_range(timesteps if numbers is None else numbers)
            if numbers is not None and _by_numbers(original, noise, numbers):
                return self._mixed_by_numbers(signal, spread, sign, numbers)
        rows = self._table(original)[timesteps.to(original.device, torch.int64).flatten()]
        factors = rows.reshape(-1, 2, *[1] * (original.ndim - 1))
        return torch.addcmul(signal * factors[:, 0], spread, factors[:, 1], value=sign).to(original.dtype)

    def _mixed_by_numbers(self, signal: Tensor, spread: Tensor, sign: int, timesteps: list[int]) -> Tensor:
        """The same with factors that the host knows: in one go where all images are at one timestep."""
        if len(set(timesteps)) == 1:
            return combine(signal, spread, self._factors(timesteps[0], sign))
        result = torch.empty_like(signal)
        for t, first, second, out in zip(timesteps, signal, spread, result, strict=True):
            combine(first, second, self._factors(t, sign), out=out)
        return result

    def _factors(self, timestep: int, sign: int) -> Linear:
        a = self._noise.levels[timestep]
        return Linear(math.sqrt(a), sign * math.sqrt(1 - a))

    def _table(self, like: Tensor) -> Tensor:
        key = (like.device, working_dtype(like.dtype))
        if key not in self._roots:
            alpha_bar = self._noise.alpha_bar
            roots = torch.stack([alpha_bar.sqrt(), (1 - alpha_bar).sqrt()], dim=1)
            self._roots[key] = roots.to(device=like.device, dtype=key[1])
        return self._roots[key]

    def _check_range(self, timesteps: Tensor | list[int]) -> None:
        """On the CPU; on a device an index out of range is the device's own error."""
        if isinstance(timesteps, Tensor):
            timesteps = [int(edge) for edge in torch.aminmax(timesteps)] if timesteps.numel() else []
        if timesteps and (min(timesteps) < 0 or max(timesteps) >= len(self._noise)):
            raise DDIMError(f"timesteps must be in 0..{len(self._noise) - 1}, got {min(timesteps)} to {max(timesteps)}")


def _check_alike(original: Tensor, noise: Tensor) -> None:
    if noise.shape != original.shape or noise.device != original.device:
        raise DDIMError(
            f"noise must have the sample's shape and device, {tuple(original.shape)} on {original.device}, "
            f"got {tuple(noise.shape)} on {noise.device}"
        )


def _check_timesteps(timesteps: Tensor, like: Tensor) -> None:
    if not isinstance(timesteps, Tensor) or timesteps.is_floating_point() or timesteps.dtype == torch.bool:
        raise DDIMError(f"timesteps must be a tensor of whole numbers, got {_kind(timesteps)}")
    if timesteps.numel() not in (1, like.shape[0]):
        raise DDIMError(
            f"timesteps must be one for all images or one each: 1 or {like.shape[0]}, got {timesteps.numel()}"
        )


def _by_numbers(original: Tensor, noise: Tensor, timesteps: list[int]) -> bool:
    """Whether to take the factors as host numbers: on the CPU, where that is faster."""
    if not original.dtype == noise.dtype == working_dtype(original.dtype) or not timesteps:
        return False
    if not (is_plain(original) and is_plain(noise)):
        return False
    if len(set(timesteps)) == 1:
        return True
    tracked = torch.is_grad_enabled() and (original.requires_grad or noise.requires_grad)
    return not tracked and original.numel() >= _LARGE_IMAGE * len(timesteps)


def _kind(value: object) -> str:
    return f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
