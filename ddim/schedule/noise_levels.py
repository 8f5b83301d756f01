"""The noise levels of the training timesteps, in float64, and the forward process that they define."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..arguments import as_real_tensor, check_batch, check_tensor, check_timesteps_tensor, fits, refuse_pair
from ..errors import DDIMError, check_integer, check_number, show
from ..parity import parity_of
from ..precision import per_image, working_dtype
from ..step.levels import FLOW, VARIANCE_PRESERVING, Level, Levels, LevelTable
from .betas import betas_from_alpha_bar, check_levels, check_usable, make_betas
from .common_settings import MAX_TRAIN_TIMESTEPS

__all__ = ["NoiseSchedule", "make_noise_schedule", "rescale_zero_terminal_snr"]

TIME_TOLERANCE = 1e-6  # of the largest time: what float32 rounds away

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The noise level of each training timestep: x_t = alpha x_0 + sigma z.

    Attributes:
        kind: ``"variance_preserving"`` (alpha^2 + sigma^2 = 1), ``"flow"`` (alpha + sigma = 1) or
            ``"variance_exploding"`` (alpha = 1).
        table: the levels of all timesteps and of the end of sampling.
        betas: float64 CPU tensor, shape ``(T,)``, of a variance preserving schedule; None for others.
        levels: ``alpha_bar`` as Python floats.
    """

    kind: str
    table: LevelTable
    betas: Tensor | None = None
    levels: tuple[float, ...] = field(init=False, repr=False)
    _weights: dict[tuple[torch.device, torch.dtype], Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        # Converted once, so that no step has to read a tensor to get its coefficients.
        object.__setattr__(self, "levels", tuple(self.alpha_bar.tolist()))

    @classmethod
    def of_betas(cls, betas: Tensor, alpha_bar: Tensor, final_alpha_bar: float) -> NoiseSchedule:
        """The levels of a variance preserving model.

        Args:
            betas: shape ``(T,)``.
            alpha_bar: shape ``(T,)``.
            final_alpha_bar: level after the last step: 1, or ``alpha_bar[0]``.
        """
        levels = torch.cat([alpha_bar.double(), torch.tensor([final_alpha_bar], dtype=torch.float64)])
        return cls(VARIANCE_PRESERVING, LevelTable(Levels.of_alpha_bar(levels), levels), betas.double())

    @classmethod
    def of_sigmas(cls, kind: str, sigmas: Tensor, final_sigma: float, times: Tensor) -> NoiseSchedule:
        """The levels of a flow or a variance exploding model.

        Args:
            kind: ``"flow"`` or ``"variance_exploding"``.
            sigmas: rising, shape ``(T,)``.
            final_sigma: level after the last step.
            times: what the model is called with at each level, shape ``(T,)``.
        """
        sigma = torch.cat([sigmas.double(), torch.tensor([final_sigma], dtype=torch.float64)])
        levels = Levels.of_sigma(sigma, kind)
        return cls(kind, LevelTable(levels, levels.alpha_bar, times.double()))

    def __len__(self) -> int:
        """Number of training timesteps, T."""
        return len(self.levels)

    @property
    def alpha(self) -> Tensor:
        """Weight of the data at each timestep, float64 CPU, shape ``(T,)``."""
        return self.table.levels.alpha[:-1]

    @property
    def sigma(self) -> Tensor:
        """Weight of the noise at each timestep, float64 CPU, shape ``(T,)``."""
        return self.table.levels.sigma[:-1]

    @property
    def alpha_bar(self) -> Tensor:
        """alpha^2 / (alpha^2 + sigma^2), float64 CPU, shape ``(T,)``; for a variance preserving schedule, alpha^2."""
        return self.table.alpha_bar[:-1]

    @property
    def times(self) -> Tensor:
        """What the model is called with at each timestep, float64 CPU, shape ``(T,)``."""
        return torch.arange(len(self), dtype=torch.float64) if self.table.times is None else self.table.times

    @property
    def final_alpha_bar(self) -> float:
        """``alpha_bar`` after the last step: 1, or that of the first timestep."""
        return float(self.table.alpha_bar[-1])

    def level_at(self, timestep: int) -> Level:
        """Return the level of a timestep below T; any negative timestep stands for the end of sampling."""
        return self.table.levels.at(max(check_integer("timestep", timestep, -math.inf, len(self) - 1), -1))

    def alpha_bar_at(self, timestep: int) -> float:
        """Return ``alpha_bar`` of a timestep below T; any negative timestep stands for the end of sampling."""
        t = check_integer("timestep", timestep, -math.inf, len(self) - 1)
        return self.levels[t] if t >= 0 else self.final_alpha_bar

    def log_snr_at(self, timestep: int) -> float:
        """Return ln(alpha^2 / sigma^2) of a timestep: -inf for pure noise, inf for clean data."""
        if self.kind == VARIANCE_PRESERVING:
            alpha_bar = self.alpha_bar_at(timestep)
            if 0.0 < alpha_bar < 1.0:
                return math.log(alpha_bar) - math.log1p(-alpha_bar)
            return math.inf if alpha_bar >= 1.0 else -math.inf
        alpha, sigma = self.level_at(timestep)
        if alpha > 0.0 and sigma > 0.0:
            return 2 * (math.log(alpha) - math.log(sigma))
        return math.inf if sigma == 0.0 else -math.inf

    def index_of_times(self, times: Tensor) -> Tensor:
        """The training timesteps at which the model is called with these times, whole numbers of shape ``(B,)``.

        Args:
            times: shape ``(B,)`` or one number; of a variance preserving schedule the timesteps themselves.

        Raises:
            DDIMError: for a time of no level. (Not checked for times on a device, which would synchronise with it.)
        """
        if self.table.times is None:
            return check_timesteps_tensor(times)
        check_tensor("timesteps", times)
        own = self.times.to(times.device, torch.float32)
        distance = (times.float().flatten()[:, None] - own).abs()
        index = distance.argmin(1)
        if times.is_cpu and bool((distance.amin(1) > TIME_TOLERANCE * own.abs().max()).any()):
            raise DDIMError(f"timesteps must be times of the schedule, {own[0]:g} to {own[-1]:g}, got {show(times)}")
        return index

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last timestep is pure noise."""
        return self.levels[-1] == 0.0

    def add_noise(self, x0: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
        """Compute x_t = alpha x_0 + sigma z, DDIM equation (4).

        Args:
            x0: clean data, shape ``(B, ...)``, any float dtype.
            z: standard normal noise, same shape.
            t: timesteps in 0..T-1: one for all images, or an integer tensor with one per image, shape ``(B,)``.

        Returns:
            Shape ``(B, ...)``, in the dtype of ``x0``; the sum is computed in the working dtype and rounded once.

        Raises:
            DDIMError: if shapes or devices differ, or a timestep is out of range. (The range is not checked for
                timesteps on a device, since that would synchronise with it; there the device reports the error.)
        """
        alpha, sigma = self._alpha_and_sigma(x0, z, t)
        return torch.addcmul(alpha * x0, sigma, z).to(x0.dtype)

    def velocity(self, x0: Tensor, z: Tensor, t: int | Tensor) -> Tensor:
        """Compute v = alpha z - sigma x_0 (2202.00512, appendix D); for a flow model z - x_0 (2210.02747).

        Arguments, result and errors are those of :meth:`add_noise`.
        """
        alpha, sigma = self._alpha_and_sigma(x0, z, t)
        if self.kind == FLOW:  # the derivative of (1 - sigma) x_0 + sigma z
            return (z - x0).to(x0.dtype)
        return torch.addcmul(alpha * z, sigma, x0, value=-1).to(x0.dtype)

    def _alpha_and_sigma(self, x0: Tensor, z: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of equation (4) in the working dtype, shape ``(B or 1, 1, ...)``."""
        check_batch("the sample", x0)
        if not fits(z, x0):
            refuse_pair("noise", z, "the sample's shape and device", x0)
        timesteps = self._checked_timesteps(t, x0)
        key = (x0.device, working_dtype(x0.dtype))
        if key not in self._weights:
            self._weights[key] = torch.stack([self.alpha, self.sigma]).to(device=key[0], dtype=key[1])
        if isinstance(t, Tensor):
            alpha, sigma = self._weights[key][:, timesteps.to(x0.device, torch.int64).flatten()]
        else:  # a slice copies nothing to a device
            alpha, sigma = self._weights[key][:, int(t) : int(t) + 1]
        return per_image(alpha, x0), per_image(sigma, x0)

    def _checked_timesteps(self, t: int | Tensor, like: Tensor) -> Tensor:
        if not isinstance(t, Tensor):
            t = torch.tensor([check_integer("timestep", t, 0, len(self) - 1)], device="cpu")
        if check_timesteps_tensor(t).numel() not in (1, like.shape[0]):
            raise DDIMError(f"timesteps must have 1 entry, or one per image ({like.shape[0]}), got {t.numel()} entries")
        if t.is_cpu and not torch.compiler.is_compiling() and t.numel():
            low, high = (int(limit) for limit in torch.aminmax(t))
            if low < 0 or high >= len(self):
                raise DDIMError(f"timesteps must be in 0..{len(self) - 1}, got {low} to {high}")
            if not self._all_usable:
                check_usable(self.levels, t)
        return t

    @cached_property
    def _all_usable(self) -> bool:
        return 0.0 <= min(self.levels) and max(self.levels) <= 1.0


def rescale_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(alpha_bar) so that the last entry becomes exactly 0 and the first stays as it is.

    Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2305.08891), algorithm 1.

    Args:
        alpha_bar: shape ``(T,)``, T at least 2.

    Returns:
        Tensor of shape ``(T,)``: float32 if ``alpha_bar`` is float32, otherwise float64.

    Raises:
        DDIMError: for other values, or if the first entry is not above the last one.
    """
    root = check_levels(alpha_bar).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    if len(root) < 2 or first == last:
        raise DDIMError(
            "rescale_betas_zero_snr needs at least two timesteps with different noise levels, got "
            f"{len(root)} with alpha_bar from {float(first**2):g} to {float(last**2):g}; set it to False"
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
        num_train_timesteps: T; if ``trained_betas`` is given, T is its length instead.
        beta_start: first beta, at least 0.
        beta_end: last beta, at least 0.
        beta_schedule: one of ``BETA_SCHEDULES``.
        trained_betas: a list, numpy array or tensor of shape ``(T,)``; replaces the four arguments above.
        rescale_betas_zero_snr: make the last timestep pure noise (2305.08891, algorithm 1).
        set_alpha_to_one: end at alpha_bar = 1 (clean data) instead of ``alpha_bar[0]``.
        parity: ``"diffusers"`` computes in float32, in diffusers' order, and reproduces its rounding errors (1e-6 in
            alpha_bar, 2e-4 in 1 - alpha_bar[0], more near zero SNR).

    Raises:
        DDIMError: for betas that are negative or not finite, or an unknown name.
    """
    dtype = parity_of(parity).table_dtype
    if trained_betas is None:
        total = check_integer("num_train_timesteps", num_train_timesteps, 1, MAX_TRAIN_TIMESTEPS)
        start, end = check_number("beta_start", beta_start, 0.0), check_number("beta_end", beta_end, 0.0)
        betas = make_betas(beta_schedule, total, start, end, dtype)
    else:
        betas = _betas_as_tensor(trained_betas, dtype)
    _check_betas(betas)
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    # Two betas above 1 give a positive product again, which would be used as a level.
    alpha_bar = torch.where((betas > 1).cumsum(0) > 0, -alpha_bar.abs(), alpha_bar)
    if rescale_betas_zero_snr:
        alpha_bar = rescale_zero_terminal_snr(alpha_bar)
        betas = betas_from_alpha_bar(alpha_bar)
        if dtype == torch.float32:  # diffusers computes the product of the new betas, which rounds again
            alpha_bar = torch.cumprod(1 - betas, dim=0)
    final = 1.0 if set_alpha_to_one else float(alpha_bar[0])
    return NoiseSchedule.of_betas(betas, alpha_bar, final)


def _betas_as_tensor(values: Sequence[float] | Tensor, dtype: torch.dtype) -> Tensor:
    betas = as_real_tensor("trained_betas", values, dtype).detach().to("cpu", copy=True)
    if betas.ndim != 1 or len(betas) == 0:
        raise DDIMError(
            f"trained_betas must be a flat list of one number per training timestep, got shape {tuple(betas.shape)}"
        )
    return betas


def _check_betas(betas: Tensor) -> None:
    invalid = ~torch.isfinite(betas) | (betas < 0)
    if invalid.any():
        t = int(invalid.nonzero()[0])
        raise DDIMError(f"betas must be finite and not negative, got {float(betas[t])!r} at timestep {t}")
    above_one = betas > 1
    if above_one.any():
        t = int(above_one.nonzero()[0])
        _log.warning("beta %g at timestep %d is above 1; a step that visits it will be refused", float(betas[t]), t)
