"""A step whose noise levels are tensors: one timestep per image, or a timestep that the host does not know.

The formulas of ``coefficients.py`` on float64 tensors of shape ``(B, 1, ...)``, for which a host float will not do:
inside ``torch.compile`` a timestep may be known to the device alone. A test holds the two equal at every level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .coefficients import SIGMA_HAT, Eta
from .errors import DDIMError
from .noise_schedule import NoiseSchedule
from .tensor_ops import working_dtype

__all__ = ["LevelTable", "step_by_levels"]

Levels = tuple[Tensor, Tensor]


class LevelTable:
    """``alpha_bar`` at every timestep and after the step from it; NaN at timesteps that have no step.

    Args:
        noise: the noise schedule.
        steps: the plan's ``t_next`` by ``t``.
        stride: with parity="diffusers" any other timestep may be stepped from too, to ``t - stride``.
    """

    def __init__(self, noise: NoiseSchedule, steps: dict[int, int], stride: int | None = None) -> None:
        self._noise, self._steps, self._stride = noise, steps, stride
        self._tables: dict[torch.device, Tensor] = {}

    def of(self, timesteps: int | Tensor, like: Tensor, final: float | None = None) -> Levels:
        """``alpha_bar`` and ``alpha_bar_next`` for each image, float64, shape ``(B or 1, 1, ...)``.

        Args:
            timesteps: one for all images, or shape ``(B,)``.
            like: the sample, shape ``(B, ...)``.
            final: the level after the last step, if not the noise schedule's.

        Raises:
            DDIMError: for a timestep outside the plan. Inside ``torch.compile`` the sample becomes NaN instead.
        """
        home = _with_float64(like.device)
        rows = self._table(home)[self._indices(timesteps, like.shape[0], home)]
        rows = rows.reshape(-1, 3, *[1] * (like.ndim - 1))
        a, b, ends = rows[:, 0], rows[:, 1], rows[:, 2] > 0
        if not torch.compiler.is_compiling():
            self._check(a, b)
        return a, b if final is None else torch.where(ends, final, b)

    @staticmethod
    def _check(a: Tensor, b: Tensor) -> None:
        usable = (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)
        if bool(usable.all()):
            return
        if bool(a.isnan().any()):
            raise DDIMError("every timestep must be in the plan; take them from scheduler.timesteps")
        before, after = (float(level[~usable].flatten()[0]) for level in (a, b))
        raise DDIMError(
            f"alpha_bar must be in [0, 1] before and after a step, got {before:g} and {after:g}; "
            "a beta above 1 makes the timesteps after it unusable"
        )

    def _table(self, device: torch.device) -> Tensor:
        table = self._tables.get(device)
        if table is None:
            table = torch.full((len(self._noise), 3), torch.nan, dtype=torch.float64)
            others = () if self._stride is None else ((t, t - self._stride) for t in range(len(table)))
            steps = {t: t_next for t, t_next in (*others, *self._steps.items()) if t >= 0}
            own, following = torch.tensor(list(steps)), torch.tensor(list(steps.values()))
            table[own, 0] = self._noise.alpha_bar[own]
            table[own, 1] = torch.where(
                following >= 0, self._noise.alpha_bar[following.clamp(min=0)], self._noise.final_alpha_bar
            )
            table[own, 2] = (following < 0).double()
            table = self._tables[device] = table.to(device)
        return table

    def _indices(self, timesteps: int | Tensor, images: int, device: torch.device) -> Tensor:
        if not isinstance(timesteps, Tensor):
            timesteps = torch.full((1,), timesteps, dtype=torch.int64)
        if timesteps.is_floating_point() or timesteps.numel() not in (1, images):
            raise DDIMError(
                f"timesteps must be whole numbers, one for all images or one each (1 or {images}), "
                f"got {timesteps.numel()} of {timesteps.dtype}"
            )
        timesteps = timesteps.to(device, torch.int64).flatten()
        if not torch.compiler.is_compiling():
            outside = (timesteps < 0) | (timesteps >= len(self._noise))
            if bool(outside.any()):
                raise DDIMError(f"timesteps must be in 0..{len(self._noise) - 1}, got {int(timesteps[outside][0])}")
        return timesteps


def _with_float64(device: torch.device) -> torch.device:
    """The device itself, or the CPU for a device without float64."""
    return torch.device("cpu") if device.type == "mps" else device


@dataclass(frozen=True)
class _Weights:
    """x_0 and epsilon as linear functions of sample (x) and output (m)."""

    x0_x: Tensor
    x0_m: Tensor
    epsilon_x: Tensor
    epsilon_m: Tensor


def _from_epsilon(a: Tensor) -> _Weights:
    """DDIM equation (9)."""
    return _Weights(a.rsqrt(), -((1 - a) / a).sqrt(), torch.zeros_like(a), torch.ones_like(a))


def _from_sample(a: Tensor) -> _Weights:
    """Equation (9) solved for epsilon; 0 where there is no noise."""
    noisy = a < 1
    rest = torch.where(noisy, 1 - a, 1.0)
    return _Weights(
        torch.zeros_like(a),
        torch.ones_like(a),
        torch.where(noisy, rest.rsqrt(), 0.0),
        torch.where(noisy, -(a / rest).sqrt(), 0.0),
    )


def _from_velocity(a: Tensor) -> _Weights:
    """2202.00512, appendix D."""
    return _Weights(a.sqrt(), -(1 - a).sqrt(), (1 - a).sqrt(), a.sqrt())


_WEIGHTS: dict[str, Callable[[Tensor], _Weights]] = {
    "epsilon": _from_epsilon,
    "sample": _from_sample,
    "v_prediction": _from_velocity,
}


def step_by_levels(
    levels: Levels,
    sample: Tensor,
    model_output: Tensor,
    prediction_type: str,
    eta: Eta,
    process_x0: Callable[[Tensor], Tensor] | None,
    use_clipped_model_output: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """DDIM equation (12) without its noise.

    Args:
        levels: ``alpha_bar`` and ``alpha_bar_next``, float64, broadcast against the sample.
        sample: shape ``(B, ...)``.
        model_output: same shape.
        prediction_type: one of ``PREDICTION_TYPES``.
        eta: checked.
        process_x0: clipping or thresholding of x_0, or None.
        use_clipped_model_output: derive epsilon again from the processed x_0.

    Returns:
        The next sample without noise, the processed x_0, and sigma (shaped like the levels), in the working dtype.
    """
    a, b = levels
    dtype = working_dtype(sample.dtype)
    weights = _WEIGHTS[prediction_type](a)
    sigma2, share2 = _variances(a, b, eta)
    root_next, direction = b.sqrt(), (1 - b - share2).clamp(min=0).sqrt()
    x, m = sample.to(dtype), model_output.to(dtype)
    x0 = weights.x0_x.to(x) * x + weights.x0_m.to(x) * m
    sigma = sigma2.sqrt().to(x)
    if process_x0 is None:
        k_x = root_next * weights.x0_x + direction * weights.epsilon_x
        k_m = root_next * weights.x0_m + direction * weights.epsilon_m
        return k_x.to(x) * x + k_m.to(x) * m, x0, sigma
    x0 = process_x0(x0)
    if use_clipped_model_output:
        again = _from_sample(a)
        epsilon = again.epsilon_x.to(x) * x + again.epsilon_m.to(x) * x0
    else:
        epsilon = weights.epsilon_x.to(x) * x + weights.epsilon_m.to(x) * m
    return root_next.to(x) * x0 + direction.to(x) * epsilon, x0, sigma


def _variances(a: Tensor, b: Tensor, eta: Eta) -> tuple[Tensor, Tensor]:
    """Variance of the noise, and the one taken off the direction: equation (16), as ``coefficients.variance``."""
    ratio = torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 1.0)
    spread = torch.where(a < 1, (1 - b) / torch.where(a < 1, 1 - a, 1.0), 0.0)
    full = (spread * (1 - ratio)).clamp(min=0).minimum(1 - b)
    if eta == SIGMA_HAT:
        return (1 - ratio).clamp(min=0), full
    share2 = float(eta) ** 2 * full
    return share2, share2
