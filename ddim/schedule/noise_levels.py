"""The noise levels of every training timestep, in float64, and the forward process that they define."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import DDIMError, check_integer, check_number
from ..parity import parity_of
from ..precision import per_image, working_dtype
from .betas import betas_from_alpha_bar, make_betas

__all__ = ["NoiseSchedule", "make_noise_schedule", "rescale_zero_terminal_snr"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How noisy each training timestep is.

    Attributes:
        betas: float64 CPU tensor, shape ``(T,)``.
        alpha_bar: float64 CPU tensor, shape ``(T,)``; x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise.
        final_alpha_bar: the level after the last step: 1, or ``alpha_bar[0]``.
        levels: ``alpha_bar`` as floats.
    """

    betas: Tensor
    alpha_bar: Tensor
    final_alpha_bar: float
    levels: tuple[float, ...] = field(init=False, repr=False)
    _roots: dict[tuple[torch.device, torch.dtype], Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        # Host floats, made once: a step must never read a tensor to know its coefficients.
        object.__setattr__(self, "levels", tuple(self.alpha_bar.tolist()))

    def __len__(self) -> int:
        """Number of training timesteps, T."""
        return len(self.levels)

    def alpha_bar_at(self, timestep: int) -> float:
        """``alpha_bar`` of a timestep in [0, T); any negative timestep is the end of sampling."""
        return self.levels[timestep] if timestep >= 0 else self.final_alpha_bar

    def log_snr_at(self, timestep: int) -> float:
        """ln(alpha_bar / (1 - alpha_bar)) of a timestep: -inf where there is only noise, inf where there is none."""
        alpha_bar = self.alpha_bar_at(timestep)
        if 0.0 < alpha_bar < 1.0:
            return math.log(alpha_bar) - math.log1p(-alpha_bar)
        return math.inf if alpha_bar >= 1.0 else -math.inf

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last timestep is pure noise."""
        return self.levels[-1] == 0.0

    def add_noise(self, x0: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) z, DDIM equation (4).

        Args:
            x0: clean data, shape ``(B, ...)``, any float dtype.
            z: standard normal noise, same shape.
            t: timesteps in 0..T-1: one for all images, or a tensor of whole numbers with one per image, shape ``(B,)``.

        Returns:
            Shape ``(B, ...)``, in the dtype of ``x0``; the sum is computed in the working dtype and rounded once.

        Raises:
            DDIMError: for shapes or devices that differ, or timesteps out of range. (On a device, where checking the
                range would make the host wait, an index out of range is the device's own error.)
        """
        alpha, sigma = self._alpha_and_sigma(x0, z, t)
        return torch.addcmul(alpha * x0, sigma, z).to(x0.dtype)

    def velocity(self, x0: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
        """v = sqrt(alpha_bar) z - sqrt(1 - alpha_bar) x_0 (2202.00512, appendix D); as :meth:`add_noise`."""
        alpha, sigma = self._alpha_and_sigma(x0, z, t)
        return torch.addcmul(alpha * z, sigma, x0, value=-1).to(x0.dtype)

    def _alpha_and_sigma(self, x0: Tensor, z: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """The weights of equation (4) in the working dtype, shape ``(B or 1, 1, ...)``."""
        if z.shape != x0.shape or z.device != x0.device:
            raise DDIMError(
                f"noise must have the sample's shape and device, {tuple(x0.shape)} on {x0.device}, "
                f"got {tuple(z.shape)} on {z.device}"
            )
        timesteps = self._checked_timesteps(t, x0)
        key = (x0.device, working_dtype(x0.dtype))
        if key not in self._roots:
            roots = torch.stack([self.alpha_bar.sqrt(), (1 - self.alpha_bar).sqrt()])
            self._roots[key] = roots.to(device=key[0], dtype=key[1])
        alpha, sigma = self._roots[key][:, timesteps.to(x0.device, torch.int64).flatten()]
        return per_image(alpha, x0), per_image(sigma, x0)

    def _checked_timesteps(self, t: int | Tensor, like: Tensor) -> Tensor:
        if not isinstance(t, Tensor):
            return torch.tensor([check_integer("timestep", t, 0, len(self) - 1)])
        if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
            raise DDIMError(f"timesteps must be a tensor of whole numbers, got a {t.dtype} tensor")
        if t.numel() not in (1, like.shape[0]):
            raise DDIMError(f"timesteps must be one for all images or one each: 1 or {like.shape[0]}, got {t.numel()}")
        if t.is_cpu and not torch.compiler.is_compiling() and t.numel():
            low, high = (int(edge) for edge in torch.aminmax(t))
            if low < 0 or high >= len(self):
                raise DDIMError(f"timesteps must be in 0..{len(self) - 1}, got {low} to {high}")
        return t


def rescale_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(alpha_bar) so that the last entry is exactly 0 and the first is kept.

    Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2305.08891), algorithm 1.

    Args:
        alpha_bar: shape ``(T,)``, T at least 2.

    Returns:
        Tensor of shape ``(T,)``: float32 for float32, else float64.

    Raises:
        DDIMError: if the first and the last entry are equal, so that there is nothing to scale.
    """
    root = (alpha_bar if alpha_bar.dtype == torch.float32 else alpha_bar.to(torch.float64)).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    if first < last:
        raise DDIMError(
            f"rescale_zero_terminal_snr takes alpha_bar, which falls with the timestep, got {float(first):g} to "
            f"{float(last):g} (square roots); for betas give torch.cumprod(1 - betas, 0)"
        )
    if len(root) < 2 or first == last:
        raise DDIMError(
            "rescale_betas_zero_snr needs at least two timesteps of different noise level, "
            f"got {len(root)} from {float(first):g} to {float(last):g}; leave it off"
        )
    return ((root - last) * (first / (first - last))) ** 2


def make_noise_schedule(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.0001,
    beta_end: float = 0.02,
    beta_schedule: str = "linear",
    trained_betas: Sequence[float] | Tensor | None = None,
    rescale_betas_zero_snr: bool = False,
    set_alpha_to_one: bool = True,
    *,
    parity: str = "exact",
) -> NoiseSchedule:
    """Build the noise schedule, in float64.

    Args:
        num_train_timesteps: T; ignored when ``trained_betas`` is given (then T is its length).
        beta_start: first beta, at least 0.
        beta_end: last beta, at least 0.
        beta_schedule: one of ``BETA_SCHEDULES``.
        trained_betas: shape ``(T,)``: list, numpy array or tensor; overrides the three above.
        rescale_betas_zero_snr: make the last timestep pure noise (2305.08891, algorithm 1).
        set_alpha_to_one: end at alpha_bar = 1 (clean data), else at ``alpha_bar[0]``.
        parity: ``"diffusers"`` computes in float32, in diffusers' order, and keeps its rounding errors (of 1e-6 in
            alpha_bar, 2e-4 in 1 - alpha_bar[0], more next to zero SNR).

    Raises:
        DDIMError: for betas that are negative or not finite, or unknown names.
    """
    dtype = parity_of(parity).table_dtype
    betas = (
        make_betas(
            beta_schedule,
            check_integer("num_train_timesteps", num_train_timesteps, 1),
            check_number("beta_start", beta_start, 0.0),
            check_number("beta_end", beta_end, 0.0),
            dtype,
        )
        if trained_betas is None
        else _as_betas(trained_betas, dtype)
    )
    _check_betas(betas)
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    if rescale_betas_zero_snr:
        alpha_bar = rescale_zero_terminal_snr(alpha_bar)
        betas = betas_from_alpha_bar(alpha_bar)
        if dtype == torch.float32:  # diffusers takes the product of these betas again, with its rounding
            alpha_bar = torch.cumprod(1 - betas, dim=0)
    final = 1.0 if set_alpha_to_one else float(alpha_bar[0])
    return NoiseSchedule(betas.to(torch.float64), alpha_bar.to(torch.float64), final)


def _as_betas(values: Sequence[float] | Tensor, dtype: torch.dtype) -> Tensor:
    try:
        betas = torch.as_tensor(values, dtype=dtype, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DDIMError(f"trained_betas must be a list, array or tensor of numbers, got {values!r:.80}") from error
    if betas.ndim != 1 or len(betas) == 0:
        raise DDIMError(f"trained_betas must be one number per training timestep, got shape {tuple(betas.shape)}")
    return betas


def _check_betas(betas: Tensor) -> None:
    bad = ~torch.isfinite(betas) | (betas < 0)
    if bad.any():
        at = int(bad.nonzero()[0])
        raise DDIMError(f"betas must be finite and not negative, got {float(betas[at])!r} at timestep {at}")
    above = betas > 1
    if above.any():
        at = int(above.nonzero()[0])
        _log.warning("beta %g at timestep %d is above 1: no sample can be taken there", float(betas[at]), at)
