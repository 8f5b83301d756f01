"""Reports of a run for the editor: plots, warnings and errors as plain, finite, small JSON.

A ``ui`` value must be a list, and one NaN or infinity makes a browser drop the whole message: everything here is
rounded, limited in length, and None where a number is not finite. The editor draws these numbers and computes none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...ddim import END, VARIANCE_PRESERVING, NoiseSchedule, Schedule, TimestepPlan
from ..backend import planned_output
from ..values import FROM_MODEL
from .messages import NOTES, message, misread, schedule_warnings

__all__ = [
    "MAX_POINTS",
    "evenly_spread",
    "finite",
    "fit_report",
    "level_report",
    "schedule_report",
]

MAX_POINTS = 257  # of a curve: a plot is a few hundred pixels wide


def finite(value: float, digits: int = 7) -> float | None:
    """Round ``value`` to ``digits`` significant digits; None if it is not finite."""
    return float(f"{float(value):.{digits}g}") if math.isfinite(value) else None


def evenly_spread(count: int, limit: int) -> list[int]:
    """Choose at most ``limit`` evenly spread numbers of ``range(count)``, including the first and the last."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})


def schedule_report(
    schedule: Schedule, *, model_levels: str | None = None, measured: str | None = None, spaced: bool = True
) -> dict[str, Any]:
    """Describe a schedule for its plot: the levels of all training timesteps, and the timesteps that a run visits.

    Args:
        schedule: The schedule.
        model_levels: The name of the MODEL's levels, if these are its own; see ``remembered``.
        measured: What the MODEL was found to predict, if it was checked.
        spaced: Whether ``timestep_spacing`` chose the timesteps.

    Returns:
        ``curve`` and ``visited``: lists ``index`` (0 to ``num_train_timesteps - 1``, least noise first), ``t`` (what
        the model is called with), ``alpha_bar``, ``log_snr`` (None at zero or infinite SNR), at most
        :data:`MAX_POINTS` long; ``visited`` also has ``step``, counted from 1. ``prediction_type`` is ``"from model"``
        where only a run can tell. ``warnings`` and ``notes``: see :func:`message`. ``model_levels`` is the argument.
    """
    config, noise, timesteps = schedule.config, schedule.noise, schedule.plan.timesteps
    shown = evenly_spread(len(timesteps), MAX_POINTS)
    prediction_type = planned_output(schedule) or FROM_MODEL
    visited = _levels(schedule, [timesteps[i] for i in shown])
    return {
        "num_train_timesteps": config.num_train_timesteps,
        "steps": len(timesteps),
        "prediction_type": prediction_type,
        "timestep_spacing": config.timestep_spacing,
        "curve": _levels(schedule, evenly_spread(config.num_train_timesteps, MAX_POINTS)),
        "visited": {"step": [i + 1 for i in shown], **visited},
        "final_alpha_bar": finite(schedule.alpha_bars[-1]),
        "warnings": [*misread(schedule, measured), *schedule_warnings(schedule, spaced=spaced)],
        "model_levels": model_levels,
        "notes": []
        if model_levels is None
        else [message(NOTES[noise.kind], "note", {"prediction_type": prediction_type})],
    }


def fit_report(
    schedule: Schedule,
    plans: Mapping[str, TimestepPlan],
    errors: Sequence[Mapping[str, float]],
    *,
    images: int,
    grid: int,
    levels_of_model: bool,
) -> dict[str, Any]:
    """Describe fitted timesteps, and how near they and others come to a long run.

    Args:
        schedule: The fitted schedule.
        plans: By name; the first is the fitted one, the second trailing.
        errors: By the same names, root mean square in latent units: on the noises that were fitted to, and on others.
        images: Number of noises of each.
        grid: Steps of the long run.
        levels_of_model: Whether DDIM Schedule with the MODEL connected has the same levels.

    Returns:
        ``schedules``: per plan ``name``, ``index`` (its timesteps, 0 to ``num_train_timesteps - 1``, at most
        :data:`MAX_POINTS`), ``error`` (on other noises), ``error_fitted_to`` and ``share`` of the largest ``error``.
        ``gain`` is how many times smaller the fitted plan's error is than trailing's. ``list`` is the fitted plan as
        the timesteps of DDIM Schedule; it ends with the timestep after the last step, if that is none.
    """
    fitted_to, other = errors
    known = {name: finite(other[name], 3) for name in plans}
    largest = max((error for error in known.values() if error is not None), default=0.0)
    (best, even), (_, end) = list(known.values())[:2], schedule.plan.pairs[-1]
    better = best is not None and even is not None and best < even
    warnings = [] if better or even == 0 else [message("fit_no_better", "warning")]
    notes = []
    if not levels_of_model:
        warnings.append(message("fit_no_paste", "warning"))
    else:
        part = end > END
        notes = [
            message("fit_paste_part", "note", {"steps": len(schedule.plan)}) if part else message("fit_paste", "note")
        ]
    return {
        "steps": len(schedule.plan),
        "grid": grid,
        "images": images,
        "num_train_timesteps": len(schedule.noise),
        "schedules": [
            {
                "name": name,
                "index": [plan.timesteps[i] for i in evenly_spread(len(plan), MAX_POINTS)],
                "error": known[name],
                "error_fitted_to": finite(fitted_to[name], 3),
                "share": finite((known[name] or 0.0) / largest, 4) if largest else 0.0,
            }
            for name, plan in plans.items()
        ],
        "gain": finite(even / best, 3) if better and best and even else None,
        "list": ", ".join(map(str, schedule.plan.timesteps + ((end,) if end > END else ()))),
        "warnings": warnings,
        "notes": notes,
    }


def level_report(noise: NoiseSchedule, index: int) -> dict[str, Any]:
    """Describe one noise level: ``t`` (what the model is called with), ``alpha_bar`` and ``log_snr``."""
    return {
        "t": index if noise.kind == VARIANCE_PRESERVING else finite(float(noise.times[index]), 5),
        "alpha_bar": finite(noise.levels[index]),
        "log_snr": finite(noise.log_snr_at(index)),
    }


def _levels(schedule: Schedule, indices: Sequence[int]) -> dict[str, list[Any]]:
    levels = [level_report(schedule.noise, index) for index in indices]
    return {"index": list(indices), **{name: [level[name] for level in levels] for name in levels[0]}}
