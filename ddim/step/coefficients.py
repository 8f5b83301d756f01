"""The coefficients of a plan's steps: as floats of the host, or as tensors for a timestep per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import DDIMError
from ..parity import Parity, diffusers_noise_and_direction
from ..precision import Linear
from .checks import check_prediction
from .equations import PREDICTIONS, SIGMA_HAT, Eta, Levels, StepCoefficients, mean_weights, step_coefficients

__all__ = ["StepTable", "coefficients_between", "prediction_weights"]

_MAX_TABLES = 4  # etas whose whole table is kept; a run with more of them computes each row when it is asked for


def _check_step(prediction_type: str, alpha_bar: float, alpha_bar_next: float) -> None:
    check_prediction(prediction_type, alpha_bar)
    if not 0.0 <= alpha_bar_next <= 1.0:
        raise DDIMError(f"alpha_bar of the next timestep must be in [0, 1], got {alpha_bar_next:g}")


def _levels(*alpha_bars: float) -> Levels:
    return Levels.of_alpha_bar(torch.tensor(alpha_bars, dtype=torch.float64))


def prediction_weights(prediction_type: str, alpha_bar: float) -> tuple[Linear, Linear]:
    """x_0 and epsilon as linear functions of sample and model output, at a noise level.

    Args:
        prediction_type: one of ``PREDICTION_TYPES``.
        alpha_bar: in [0, 1].

    Raises:
        DDIMError: for an unknown type, a level outside [0, 1], or epsilon at level 0.
    """
    check_prediction(prediction_type, alpha_bar)
    x0, epsilon = PREDICTIONS[prediction_type](_levels(alpha_bar))
    return Linear(float(x0.x), float(x0.m)), Linear(float(epsilon.x), float(epsilon.m))


def _as_floats(c: StepCoefficients) -> list[StepCoefficients]:
    """The rows of coefficients of shape ``(S,)``."""
    columns = [*c.x0, *c.epsilon, *c.rederived, c.alpha_next, c.direction, c.sigma, *c.step]
    rows = torch.stack([torch.as_tensor(column) for column in columns], dim=1).tolist()
    return [
        StepCoefficients(Linear(x0_x, x0_m), Linear(e_x, e_m), Linear(r_x, r_m), alpha, direction, sigma, Linear(x, m))
        for x0_x, x0_m, e_x, e_m, r_x, r_m, alpha, direction, sigma, x, m in rows
    ]


def coefficients_between(
    alpha_bar: float, alpha_bar_next: float, prediction_type: str, eta: Eta = 0.0
) -> StepCoefficients:
    """The coefficients of one step between two levels of a variance preserving model, as floats.

    Args:
        alpha_bar: level of the sample, in [0, 1].
        alpha_bar_next: level after the step, in [0, 1]; below ``alpha_bar`` for inversion, at eta 0.
        prediction_type: one of ``PREDICTION_TYPES``.
        eta: in [0, 1], or ``"sigma_hat"``.

    Raises:
        DDIMError: for levels outside [0, 1], or epsilon at level 0.
    """
    _check_step(prediction_type, alpha_bar, alpha_bar_next)
    return _as_floats(step_coefficients(_levels(alpha_bar), _levels(alpha_bar_next), prediction_type, eta))[0]


class StepTable:
    """The coefficients of every step of a plan.

    Args:
        alpha_bar: of every training timestep, float64, shape ``(T,)``.
        final_alpha_bar: the level after the last step (a negative ``t_next``).
        steps: the plan's ``t_next`` by ``t``.
        prediction_type: one of ``PREDICTION_TYPES``.
        parity: of the scheduler.
        stride: with diffusers' rule any timestep may be stepped from, to ``t - stride``; else None.
        upwards: whether steps go from the level of ``t_next`` to that of ``t`` (inversion).
    """

    def __init__(
        self,
        alpha_bar: Tensor,
        final_alpha_bar: float,
        steps: Mapping[int, int],
        prediction_type: str,
        parity: Parity,
        *,
        stride: int | None = None,
        upwards: bool = False,
    ) -> None:
        self._alpha_bar, self._final = alpha_bar, final_alpha_bar
        self._steps, self._stride = steps, stride
        self._prediction_type, self._parity, self._upwards = prediction_type, parity, upwards
        self._rows: dict[Eta, dict[int, StepCoefficients]] = {}
        self._device_tables: dict[torch.device, Tensor] = {}

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

    def _levels_of(self, t: int, t_next: int) -> tuple[float, float]:
        """alpha_bar before and after the step of ``t``."""
        own = float(self._alpha_bar[t])  # diffusers' lists may end with -1, by which it means the last level
        following = float(self._alpha_bar[t_next]) if t_next >= 0 else self._final
        return (following, own) if self._upwards else (own, following)

    def _planned_rows(self, eta: Eta) -> dict[int, StepCoefficients]:
        """All steps of the plan at once; steps that have no values are left out, and reported when they are taken."""
        if self._parity.is_diffusers:
            return {}
        before, after = self._gathered(list(self._steps)), self._gathered(list(self._steps.values()))
        if self._upwards:
            before, after = after, before
        at, to = Levels.of_alpha_bar(before), Levels.of_alpha_bar(after)
        usable = (before >= 0) & (before <= 1) & (after >= 0) & (after <= 1)
        if self._prediction_type == "epsilon":
            usable &= before > 0
        rows = _as_floats(step_coefficients(at, to, self._prediction_type, eta))
        return {t: row for t, row, valid in zip(self._steps, rows, usable.tolist(), strict=True) if valid}

    def _gathered(self, timesteps: Sequence[int]) -> Tensor:
        indices = torch.tensor(timesteps)
        return torch.where(indices >= 0, self._alpha_bar[indices.clamp(min=0)], self._final)

    def _checked_row(self, t: int, t_next: int, eta: Eta) -> StepCoefficients:
        before, after = self._levels_of(t, t_next)
        within = SIGMA_HAT if eta == SIGMA_HAT else min(float(eta), 1.0)
        row = coefficients_between(before, after, self._prediction_type, within)
        if self._parity.is_diffusers:
            row = self._rounded_as_diffusers(row, before, after, eta)
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
        self, timesteps: int | Tensor, like: Tensor, eta: Eta, *, final: float | None = None
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
        device = torch.device("cpu") if like.device.type == "mps" else like.device  # which has no float64
        rows = self._on_device(device)[self._indices(timesteps, like.shape[0], device)]
        before, after, ends = rows.reshape(-1, 3, *[1] * (like.ndim - 1)).unbind(1)
        if not torch.compiler.is_compiling():
            _check_levels(before, after)
        after = after if final is None else torch.where(ends > 0, final, after)
        if self._upwards:
            before, after = after, before
        at, to = Levels.of_alpha_bar(before), Levels.of_alpha_bar(after)
        return step_coefficients(at, to, self._prediction_type, eta)

    def _on_device(self, device: torch.device) -> Tensor:
        """alpha_bar at every timestep, after the step from it, and whether that is the end; NaN without a step."""
        table = self._device_tables.get(device)
        if table is None:
            table = torch.full((len(self._alpha_bar), 3), torch.nan, dtype=torch.float64)
            others = () if self._stride is None else ((t, t - self._stride) for t in range(len(table)))
            steps = {t: t_next for t, t_next in (*others, *self._steps.items()) if t >= 0}
            visited, following = list(steps), list(steps.values())
            table[visited, 0] = self._alpha_bar[visited]
            table[visited, 1] = self._gathered(following)
            table[visited, 2] = (torch.tensor(following) < 0).double()
            table = self._device_tables[device] = table.to(device)
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
            outside = (timesteps < 0) | (timesteps >= len(self._alpha_bar))
            if bool(outside.any()):
                raise DDIMError(f"timesteps must be in 0..{len(self._alpha_bar) - 1}, got {int(timesteps[outside][0])}")
        return timesteps


def _check_levels(before: Tensor, after: Tensor) -> None:
    usable = (before >= 0) & (before <= 1) & (after >= 0) & (after <= 1)
    if bool(usable.all()):
        return
    if bool(before.isnan().any()):
        raise DDIMError("every timestep must be in the plan; take them from scheduler.timesteps")
    wrong = [f"{float(level[~usable].flatten()[0]):g}" for level in (before, after)]
    raise DDIMError(
        f"alpha_bar must be in [0, 1] before and after a step, got {wrong[0]} and {wrong[1]}; "
        "a beta above 1 makes the timesteps after it unusable"
    )
