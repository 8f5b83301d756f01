"""What nodes tell the editor about a run: plots, warnings and reports as plain, finite, small JSON.

A ``ui`` value must be a list, and one NaN or infinity makes a browser drop the whole message: everything here is
rounded, capped in length, and None where a number is not finite. The editor draws these numbers and computes none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..ddim import Schedule

__all__ = ["MAX_POINTS", "finite", "inversion_report", "schedule_report", "schedule_warnings", "thinned"]

MAX_POINTS = 257  # of a curve: a plot is a few hundred pixels wide


def finite(value: float, digits: int = 7) -> float | None:
    """``value`` to ``digits`` significant digits, or None where it is not finite."""
    return float(f"{float(value):.{digits}g}") if math.isfinite(value) else None


def thinned(count: int, limit: int) -> list[int]:
    """At most ``limit`` evenly spread numbers of ``range(count)``, first and last included."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})


def schedule_report(schedule: Schedule, *, from_model: bool = False) -> dict[str, Any]:
    """The plot of a schedule: noise levels of all training timesteps, and the timesteps that a run visits.

    Args:
        schedule: what the run will do.
        from_model: its noise levels are a MODEL's own.

    Returns:
        ``curve`` and ``visited``: lists ``t``, ``alpha_bar``, ``log_snr`` (None at zero or infinite SNR), at most
        :data:`MAX_POINTS` long; ``visited`` also has ``step``, counted from 1.
    """
    timesteps = schedule.plan.timesteps
    shown = thinned(len(timesteps), MAX_POINTS)
    visited = _levels(schedule, [timesteps[i] for i in shown])
    return {
        "num_train_timesteps": schedule.config.num_train_timesteps,
        "steps": len(timesteps),
        "prediction_type": schedule.config.prediction_type,
        "timestep_spacing": schedule.config.timestep_spacing,
        "curve": _levels(schedule, thinned(schedule.config.num_train_timesteps, MAX_POINTS)),
        "visited": {"step": [i + 1 for i in shown], **visited},
        "final_alpha_bar": finite(schedule.alpha_bars[-1]),
        "warnings": schedule_warnings(schedule),
        "notes": [_message("levels_from_model", prediction_type=schedule.config.prediction_type)] if from_model else [],
    }


def schedule_warnings(schedule: Schedule) -> list[dict[str, Any]]:
    """Choices that run but are bad: ``code`` and ``values`` for a translation, ``text`` in English."""
    last, config = len(schedule.noise) - 1, schedule.config
    if not schedule.noise.zero_terminal_snr:
        return []
    first = schedule.plan.timesteps[0]
    values = {"spacing": config.timestep_spacing, "first": first, "last": last}
    checks = {"last_step_never_visited": first != last, "epsilon_at_zero_snr": config.prediction_type == "epsilon"}
    return [_message(code, **values) for code, bad in checks.items() if bad]


def _message(code: str, **values: Any) -> dict[str, Any]:
    """A sentence as the editor gets it: its code and values for a translation, and its English text."""
    return {"code": code, "values": values, "text": _SENTENCES[code].format(**values)}


_SENTENCES = {
    "levels_from_model": "Noise levels from the MODEL; its output is read as {prediction_type}.",
    "last_step_never_visited": "Zero SNR makes timestep {last} pure noise, but this run starts at timestep {first} "
    "({spacing}) and never visits it. Choose trailing or linspace.",
    "epsilon_at_zero_snr": "At zero SNR the input is pure noise, from which epsilon says nothing about the picture. "
    "Choose v_prediction or sample, or connect a MODEL that predicts v.",
}


def inversion_report(
    method: str, round_trip_error: Sequence[float], residual: Sequence[float] = (), notes: Sequence[str] = ()
) -> dict[str, Any]:
    """How well an inversion can be undone, per image.

    Args:
        method: its name.
        round_trip_error: per image, root mean square of (picture sampled back - picture).
        residual: per image, what the inversion itself reports as left unsolved; may be empty.
        notes: sentences shown under the table.
    """
    return {
        "method": str(method),
        "images": len(round_trip_error),
        "round_trip_error": [finite(error, 4) for error in round_trip_error][:MAX_POINTS],
        "residual": [finite(value, 4) for value in residual][:MAX_POINTS],
        "notes": [str(note)[:500] for note in notes][:20],
    }


def _levels(schedule: Schedule, timesteps: Sequence[int]) -> Mapping[str, list]:
    noise = schedule.noise
    return {
        "t": list(timesteps),
        "alpha_bar": [finite(noise.alpha_bar_at(t)) for t in timesteps],
        "log_snr": [finite(noise.log_snr_at(t)) for t in timesteps],
    }
