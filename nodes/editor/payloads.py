"""Reports of a run for the editor: plots, warnings and errors as plain, finite, small JSON.

A ``ui`` value must be a list, and one NaN or infinity makes a browser drop the whole message: everything here is
rounded, limited in length, and None where a number is not finite. The editor draws these numbers and computes none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...ddim import END, FLOW, VARIANCE_EXPLODING, VARIANCE_PRESERVING, NoiseSchedule, Schedule, TimestepPlan

__all__ = [
    "MAX_POINTS",
    "MESSAGES",
    "evenly_spread",
    "finite",
    "fit_report",
    "level_report",
    "schedule_report",
]

MAX_POINTS = 257  # of a curve: a plot is a few hundred pixels wide

# By code; the editor translates them by code and fills in the values.
MESSAGES = {
    "levels_from_model": "Noise levels from the MODEL; its output is read as {prediction_type}.",
    "levels_from_flow_model": "Noise levels and shift from the MODEL, a flow model: prediction_type, zero SNR, betas, "
    "num_train_timesteps, set_alpha_to_one and parity have no effect.",
    "levels_from_edm_model": "Noise levels from the MODEL, an EDM model: the steps are spaced over its own sigmas. "
    "prediction_type, zero SNR, betas, num_train_timesteps, set_alpha_to_one and parity have no effect.",
    "last_step_never_visited": "Zero SNR makes timestep {last} pure noise, but this run starts at timestep {first} "
    "({spacing}) and never visits it. Choose trailing or linspace.",
    "epsilon_at_zero_snr": "At zero SNR the input is pure noise, from which epsilon says nothing about the picture. "
    "Choose v_prediction or sample, or connect a MODEL that predicts v.",
    "measured_type": "DDIM Check Model measured that this MODEL predicts {measured}, and its output is read as "
    "{prediction_type} here. Its report says what to set.",
    "fit_paste": "To use the list again without fitting, copy it into timesteps of DDIM Schedule, with the same MODEL "
    "connected, denoise at 1, and start_step and end_step at their defaults.",
    "fit_paste_part": "To use the list again without fitting, copy it into timesteps of DDIM Schedule, with the same "
    "MODEL connected, denoise at 1, start_step at 0 and end_step at {steps}: its last entry is where the run stops.",
    "fit_no_paste": "The list counts the levels of the connected schedule, which are not the MODEL's: in DDIM Schedule "
    "with the MODEL connected it means other levels. For a list to keep, fit over a schedule made there.",
    "fit_no_better": "On noises that they were not fitted to, the fitted steps are no better than trailing. Fit to "
    "more images, or use trailing.",
}

NOTES = {
    VARIANCE_PRESERVING: "levels_from_model",
    FLOW: "levels_from_flow_model",
    VARIANCE_EXPLODING: "levels_from_edm_model",
}


def finite(value: float, digits: int = 7) -> float | None:
    """Round ``value`` to ``digits`` significant digits; None if it is not finite."""
    return float(f"{float(value):.{digits}g}") if math.isfinite(value) else None


def evenly_spread(count: int, limit: int) -> list[int]:
    """Choose at most ``limit`` evenly spread numbers of ``range(count)``, including the first and the last."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})


def schedule_report(
    schedule: Schedule, *, model_levels: str | None = None, measured: str | None = None
) -> dict[str, Any]:
    """Describe a schedule for its plot: the levels of all training timesteps, and the timesteps that a run visits.

    Args:
        schedule: The schedule.
        model_levels: The name of the MODEL's levels, if these are its own; see ``remembered``.
        measured: What the MODEL was found to predict, if it was checked.

    Returns:
        ``curve`` and ``visited``: lists ``index`` (0 to ``num_train_timesteps - 1``, least noise first), ``t`` (what
        the model is called with), ``alpha_bar``, ``log_snr`` (None at zero or infinite SNR), at most
        :data:`MAX_POINTS` long; ``visited`` also has ``step``, counted from 1. ``model_levels`` is the argument.
    """
    config, noise, timesteps = schedule.config, schedule.noise, schedule.plan.timesteps
    shown = evenly_spread(len(timesteps), MAX_POINTS)
    visited = _levels(schedule, [timesteps[i] for i in shown])
    return {
        "num_train_timesteps": config.num_train_timesteps,
        "steps": len(timesteps),
        "prediction_type": config.prediction_type,
        "timestep_spacing": config.timestep_spacing,
        "curve": _levels(schedule, evenly_spread(config.num_train_timesteps, MAX_POINTS)),
        "visited": {"step": [i + 1 for i in shown], **visited},
        "final_alpha_bar": finite(schedule.alpha_bars[-1]),
        "warnings": [*_misread(config.prediction_type, measured), *_warnings(schedule)],
        "model_levels": model_levels,
        "notes": [] if model_levels is None else [_message(NOTES[noise.kind], prediction_type=config.prediction_type)],
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
    warnings = [] if better or even == 0 else [_message("fit_no_better")]
    notes = []
    if not levels_of_model:
        warnings.append(_message("fit_no_paste"))
    else:
        notes = [_message("fit_paste_part", steps=len(schedule.plan)) if end > END else _message("fit_paste")]
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


def _misread(read_as: str, measured: str | None) -> list[dict[str, Any]]:
    """Warn of a network that was found to predict something else than its output is read as."""
    if measured is None or measured == read_as:
        return []
    return [_message("measured_type", measured=measured, prediction_type=read_as)]


def _warnings(schedule: Schedule) -> list[dict[str, Any]]:
    """List choices that can be run but give bad images."""
    noise, config = schedule.noise, schedule.config
    if not noise.zero_terminal_snr:
        return []
    first, last = schedule.plan.timesteps[0], len(noise) - 1
    if noise.kind != VARIANCE_PRESERVING:  # every flow model ends at zero SNR, and predicts something there
        starts_late = schedule.plan.first == 0 and first != last
        first, last = (round(float(noise.times[t])) for t in (first, last))
        checks = {"last_step_never_visited": starts_late}
    else:
        checks = {"last_step_never_visited": first != last, "epsilon_at_zero_snr": config.prediction_type == "epsilon"}
    values: dict[str, str | int] = {"spacing": config.timestep_spacing, "first": first, "last": last}
    return [_message(code, **values) for code, bad in checks.items() if bad]


def _message(code: str, **values: str | int) -> dict[str, Any]:
    """Return a message as the editor gets it: code and values for a translation, and the English text."""
    return {"code": code, "values": values, "text": MESSAGES[code].format(**values)}


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
