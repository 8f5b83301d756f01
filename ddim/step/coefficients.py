"""The coefficients of a plan's steps: as floats of the host, or as tensors for a timestep per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import check_tensor, check_timesteps_tensor
from ..errors import DDIMError, check_integer, check_number
from ..parity import Parity, diffusers_noise_and_direction
from ..precision import Linear
from .checks import check_prediction
from .equations import PREDICTIONS, SIGMA_HAT, Eta, StepCoefficients, mean_weights, step_coefficients
from .levels import Level, Levels, LevelTable

__all__ = ["StepTable", "coefficients_between", "prediction_weights"]

_LARGEST_TIME = torch.finfo(torch.float32).max
_MAX_TABLES = 4  # etas whose whole table is kept; a run with more of them computes each row when it is asked for


def _check_step(prediction_type: str, alpha_bar: float, alpha_bar_next: float) -> None:
    check_prediction(prediction_type, alpha_bar)
    if not 0.0 <= alpha_bar_next <= 1.0:
        raise DDIMError(f"alpha_bar of the next timestep must be in [0, 1], got {alpha_bar_next:g}")


def _as_array(level: Level) -> Levels:
    return Levels(*(torch.tensor([value], dtype=torch.float64) for value in level))


def _alpha_bar(level: float | Level) -> float:
    return level.alpha_bar if isinstance(level, Level) else level


def prediction_weights(prediction_type: str, alpha_bar: float | Level) -> tuple[Linear, Linear]:
    """x_0 and epsilon as linear functions of sample and model output, at a noise level.

    Args:
        prediction_type: a key of ``PREDICTIONS``.
        alpha_bar: of a variance preserving model, in [0, 1]; or a level of any model.

    Raises:
        DDIMError: for an unknown type, a level outside [0, 1], or epsilon at level 0.
    """
    check_prediction(prediction_type, _alpha_bar(alpha_bar))
    return _weights_at(prediction_type, Level.of(alpha_bar))


@lru_cache(maxsize=2048)  # a model's own levels, which every run visits again
def _weights_at(prediction_type: str, level: Level) -> tuple[Linear, Linear]:
    x0, epsilon = PREDICTIONS[prediction_type](_as_array(level))
    return Linear(float(x0.x), float(x0.m)), Linear(float(epsilon.x), float(epsilon.m))


def _as_floats(c: StepCoefficients) -> list[StepCoefficients]:
    """The rows of coefficients of shape ``(S,)``."""
    columns = [*c.x0, *c.epsilon, *c.rederived, *c.step, c.alpha_next, c.direction, c.sigma]
    *pairs, alpha, direction, sigma = torch.stack([torch.as_tensor(column) for column in columns]).tolist()
    x0, epsilon, rederived, step = (list(map(Linear, pairs[i], pairs[i + 1])) for i in range(0, len(pairs), 2))
    return list(map(StepCoefficients, x0, epsilon, rederived, alpha, direction, sigma, step))


def coefficients_between(
    level: float | Level, level_next: float | Level, prediction_type: str, eta: Eta = 0.0
) -> StepCoefficients:
    """The coefficients of one step between two levels, as floats.

    Args:
        level: of the sample: ``alpha_bar`` of a variance preserving model, in [0, 1]; or a level of any model.
        level_next: after the step; noisier than ``level`` for inversion, at eta 0.
        prediction_type: a key of ``PREDICTIONS``.
        eta: in [0, 1], or ``"sigma_hat"``.

    Raises:
        DDIMError: for levels outside [0, 1], or epsilon at level 0.
    """
    _check_step(prediction_type, _alpha_bar(level), _alpha_bar(level_next))
    at, to = _as_array(Level.of(level)), _as_array(Level.of(level_next))
    return _as_floats(step_coefficients(at, to, prediction_type, eta))[0]


class StepTable:
    """The coefficients of every step of a plan.

    Args:
        levels: of every training timestep and of the end.
        steps: the plan's ``t_next`` by ``t``; a negative one stands for the end.
        prediction_type: a key of ``PREDICTIONS``.
        parity: of the scheduler.
        stride: with diffusers' rule any timestep may be stepped from, to ``t - stride``; else None.
        upwards: whether steps go from the level of ``t_next`` to that of ``t`` (inversion).
    """

    def __init__(
        self,
        levels: LevelTable,
        steps: Mapping[int, int],
        prediction_type: str,
        parity: Parity,
        *,
        stride: int | None = None,
        upwards: bool = False,
    ) -> None:
        self._table, self._total = levels, len(levels)
        self._steps, self._stride = steps, stride
        self._prediction_type, self._parity, self._upwards = prediction_type, parity, upwards
        self._rows: dict[Eta, dict[int, StepCoefficients]] = {}
        self._on_devices: dict[torch.device, _DeviceTable] = {}

    # -- floats, for one timestep ----------------------------------------------------------------------------------

    def row(self, t: int, t_next: int, eta: Eta) -> StepCoefficients:
        """The coefficients of one step, as floats.

        Raises:
            DDIMError: where the step has no values (a level outside [0, 1], epsilon at level 0, NaN in diffusers).
        """
        if eta not in self._rows and len(self._rows) < _MAX_TABLES:
            self._rows[eta] = self._planned_rows(eta)
        found = self._rows.get(eta, {}).get(t)
        return self._checked_row(t, t_next, eta) if found is None else found

    def _before_and_after(self, t: Sequence[int], t_next: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Indices into the table before and after steps, in the direction of this table."""
        own = torch.tensor(t) % self._total  # diffusers' lists may end with -1, by which it means the last level
        following = torch.tensor(t_next)
        following = torch.where(following < 0, self._total, following)
        return (following, own) if self._upwards else (own, following)

    def _planned_rows(self, eta: Eta) -> dict[int, StepCoefficients]:
        """All steps of the plan at once; steps that have no values are left out, and reported when they are taken."""
        if self._parity.is_diffusers:
            return {}
        before, after = self._before_and_after(list(self._steps), list(self._steps.values()))
        (alpha, sigma), alpha_bar = self._table.levels, self._table.alpha_bar
        at, to = Levels(alpha[before], sigma[before]), Levels(alpha[after], sigma[after])
        usable = _in_range(alpha_bar[before]) & _in_range(alpha_bar[after])
        if self._prediction_type == "epsilon":
            usable &= alpha_bar[before] > 0
        rows = _as_floats(step_coefficients(at, to, self._prediction_type, eta))
        return {t: row for t, row, valid in zip(self._steps, rows, usable.tolist(), strict=True) if valid}

    def _checked_row(self, t: int, t_next: int, eta: Eta) -> StepCoefficients:
        before, after = (int(index) for index in self._before_and_after([t], [t_next]))
        alpha_bar, alpha_bar_next = float(self._table.alpha_bar[before]), float(self._table.alpha_bar[after])
        _check_step(self._prediction_type, alpha_bar, alpha_bar_next)
        within = SIGMA_HAT if eta == SIGMA_HAT else min(float(eta), 1.0)
        levels = self._table.levels
        row = coefficients_between(levels.at(before), levels.at(after), self._prediction_type, within)
        if self._parity.is_diffusers:
            row = self._rounded_as_diffusers(row, alpha_bar, alpha_bar_next, eta)
        if eta in self._rows:
            self._rows[eta][t] = row
        return row

    def _rounded_as_diffusers(self, row: StepCoefficients, before: float, after: float, eta: Eta) -> StepCoefficients:
        if self._prediction_type == "sample" and before >= 1.0:
            raise DDIMError(
                "diffusers divides by zero where a sample prediction meets a level without noise, so there is nothing "
                "to reproduce; use parity='exact' or set_alpha_to_one=False"
            )
        if self._upwards or eta == SIGMA_HAT:
            return row
        sigma, direction = diffusers_noise_and_direction(before, after, float(eta))
        step = mean_weights(row.x0, row.epsilon, row.alpha_next, direction)
        return row._replace(direction=direction, sigma=sigma, step=step)

    # -- tensors, for a timestep per image or one that the host does not know ---------------------------------------

    def per_image(
        self, timesteps: float | Tensor, like: Tensor, eta: Eta, *, final: float | None = None
    ) -> StepCoefficients:
        """The coefficients of a step of each image, float64, shape ``(B or 1, 1, ...)``.

        Args:
            timesteps: one for all images, or shape ``(B,)``.
            like: the sample, shape ``(B, ...)``.
            eta: checked.
            final: the level after the last step, if not the schedule's.

        Raises:
            DDIMError: for a timestep outside the plan. Inside ``torch.compile`` the sample becomes NaN instead.
        """
        if not like.ndim:
            raise DDIMError("a timestep for each image needs a sample of shape (B, ...), got one without dimensions")
        device = torch.device("cpu") if like.device.type == "mps" else like.device  # which has no float64
        table = self._on_device(device)
        rows = table.steps[self._indices(timesteps, like.shape[0], table)]
        *numbers, ends = rows.reshape(-1, 7, *[1] * (like.ndim - 1)).unbind(1)
        if not torch.compiler.is_compiling():
            _check_levels(numbers[2], numbers[5])
        at, to = Levels(*numbers[:2]), Levels(*numbers[3:5])
        if final is not None:
            end = Level.of(final)
            to = Levels(torch.where(ends > 0, end.alpha, to.alpha), torch.where(ends > 0, end.sigma, to.sigma))
        if self._upwards:
            at, to = to, at
        return step_coefficients(at, to, self._prediction_type, eta)

    def _on_device(self, device: torch.device) -> _DeviceTable:
        found = self._on_devices.get(device)
        if found is None:
            found = self._on_devices[device] = self._device_table(device)
        return found

    def _device_table(self, device: torch.device) -> _DeviceTable:
        others = () if self._stride is None else ((t, t - self._stride) for t in range(self._total))
        steps = {t: t_next for t, t_next in (*others, *self._steps.items()) if t >= 0}
        following = torch.tensor(list(steps.values()))
        visited, ends = torch.tensor(list(steps)), following < 0
        numbers = torch.stack([*self._table.levels, self._table.alpha_bar], dim=1)
        table = torch.full((self._total + 1, 7), torch.nan, dtype=torch.float64)
        table[visited, 0:3] = numbers[visited]
        table[visited, 3:6] = numbers[torch.where(ends, self._total, following)]
        table[visited, 6] = ends.double()
        times = self._table.times
        if times is not None:
            times = torch.full_like(times, torch.nan).index_copy(0, visited, times[visited]).float().to(device)
        return _DeviceTable(table.to(device), times)

    def _indices(self, timesteps: float | Tensor, images: int, table: _DeviceTable) -> Tensor:
        """The rows of the table for timesteps, as the model is called with them; T for one that has none."""
        whole = table.times is None
        if not isinstance(timesteps, Tensor):
            number: float = timesteps
            if not torch.compiler.is_compiling():
                low, high = (0, self._total) if whole else (-_LARGEST_TIME, _LARGEST_TIME)
                number = (check_integer if whole else check_number)("timesteps", timesteps, low, high)
            timesteps = torch.full((1,), number, dtype=torch.int64 if whole else torch.float32)
        timesteps = check_timesteps_tensor(timesteps) if whole else check_tensor("timesteps", timesteps)
        if timesteps.numel() not in (1, images):
            raise DDIMError(
                f"timesteps must be {'whole' if whole else 'floating-point'} numbers, one for all images or one each "
                f"(1 or {images}), got {timesteps.numel()} of {timesteps.dtype}"
            )
        timesteps = timesteps.to(table.steps.device).flatten()
        if table.times is not None:
            equal = timesteps.float()[:, None] == table.times
            return torch.where(equal.any(1), equal.int().argmax(1), self._total)
        timesteps = timesteps.to(torch.int64)
        if not torch.compiler.is_compiling():
            outside = (timesteps < 0) | (timesteps >= self._total)
            if bool(outside.any()):
                raise DDIMError(f"timesteps must be in 0..{self._total - 1}, got {int(timesteps[outside][0])}")
        return timesteps


class _DeviceTable(NamedTuple):
    """The steps of a plan on a device.

    Attributes:
        steps: float64, shape ``(T + 1, 7)``: alpha, sigma and alpha_bar at a timestep, the same after the step from it,
            and whether that is the end. NaN for timesteps outside the plan, and in the last row.
        times: what the model is called with, float32, shape ``(T,)``, NaN outside the plan; None for the timestep.
    """

    steps: Tensor
    times: Tensor | None


def _in_range(alpha_bar: Tensor) -> Tensor:
    return (alpha_bar >= 0) & (alpha_bar <= 1)


def _check_levels(before: Tensor, after: Tensor) -> None:
    usable = _in_range(before) & _in_range(after)
    if bool(usable.all()):
        return
    if bool(before.isnan().any()):
        raise DDIMError("every timestep must be in the plan; take them from scheduler.timesteps")
    wrong = [f"{float(level[~usable].flatten()[0]):g}" for level in (before, after)]
    raise DDIMError(
        f"alpha_bar must be in [0, 1] before and after a step, got {wrong[0]} and {wrong[1]}; "
        "a beta above 1 makes the timesteps after it unusable"
    )
