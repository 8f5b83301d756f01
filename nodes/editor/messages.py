"""What reports say in words: by code, so that the editor can translate it, and in English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ddim import FLOW, PREDICTION_TYPES, VARIANCE_EXPLODING, VARIANCE_PRESERVING, Schedule, SchedulerConfig
from ..backend import EPSILON_AT_ZERO_SNR, ModelFacts, planned_output, visits_zero_snr

__all__ = ["MESSAGES", "NOTES", "levels_note", "message", "misread", "schedule_warnings"]

SAME_LEVEL = 1e-4  # alpha_bar values closer than this are one level: a float32 table against float64

# By code; the editor translates them by code and fills in the values.
MESSAGES = {
    "levels_from_model": "Noise levels from the MODEL; prediction type: {prediction_type}.",
    "levels_from_flow_model": "Noise levels and shift from the MODEL, a flow model: prediction_type, zero SNR, betas, "
    "num_train_timesteps, set_alpha_to_one and parity have no effect.",
    "levels_from_edm_model": "Noise levels from the MODEL, an EDM model: the steps are spaced over its own sigmas. "
    "prediction_type, zero SNR, betas, num_train_timesteps, set_alpha_to_one and parity have no effect.",
    "last_step_never_visited": "Zero SNR makes timestep {last} pure noise, but this run starts at timestep {first} "
    "({spacing}) and never visits it. Choose trailing or linspace.",
    "epsilon_at_zero_snr": EPSILON_AT_ZERO_SNR,
    "measured_type": "DDIM Check Model measured that this MODEL predicts {measured}, and its output is read as "
    "{prediction_type} here. Its report says what to set.",
    "other_levels": "The noise levels of the schedule are not the MODEL's: at timestep {timestep} alpha_bar is "
    "{alpha_bar} and the MODEL's is {model_alpha_bar}. Unless you want that, connect the MODEL to DDIM Schedule, or "
    "disconnect schedule.",
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


def message(
    code: str, level: str, values: Mapping[str, str | int] | None = None, apply: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a message as the editor gets it.

    Args:
        code: A key of :data:`MESSAGES`.
        level: ``"note"``, ``"warning"`` (can be run, but gives bad images) or ``"error"`` (cannot be run).
        values: What the text names.
        apply: Inputs of the node, and the values with which the message is gone; None if nothing simple helps.

    Returns:
        ``code`` and ``values`` for a translation, the English ``text``, ``level``, and ``apply`` if there is one.
    """
    values = dict(values or {})
    shown = {"code": code, "values": values, "text": MESSAGES[code].format(**values), "level": level}
    return shown if apply is None else {**shown, "apply": dict(apply)}


def misread(schedule: Schedule, measured: str | None) -> list[dict[str, Any]]:
    """Warn of a network that was found to predict something else than its output is read as.

    Args:
        schedule: The schedule.
        measured: What its MODEL was found to predict, if it was checked.
    """
    read_as = planned_output(schedule)
    if measured is None or read_as is None or measured == read_as:
        return []
    apply = {"prediction_type": measured} if measured in PREDICTION_TYPES else None
    return [message("measured_type", "warning", {"measured": measured, "prediction_type": read_as}, apply)]


def levels_note(schedule: Schedule, facts: ModelFacts) -> list[dict[str, Any]]:
    """Warn of a run whose levels are not its MODEL's, where nobody chose that: the schedule was made without a MODEL.

    Args:
        schedule: The schedule of the run.
        facts: The MODEL's.
    """
    config, levels = schedule.config, schedule.noise.levels
    if not isinstance(config, SchedulerConfig) or config.trained_betas is not None:
        return []
    if facts.kind != VARIANCE_PRESERVING or len(facts.alpha_bar) != len(levels):
        return []  # the run is refused, in words of its own
    own = facts.alpha_bar.tolist()
    farthest = max(schedule.plan.timesteps, key=lambda t: abs(levels[t] - own[t]))
    if abs(levels[farthest] - own[farthest]) < SAME_LEVEL:
        return []
    values = {"alpha_bar": f"{levels[farthest]:.4g}", "model_alpha_bar": f"{own[farthest]:.4g}"}
    return [message("other_levels", "warning", {"timestep": farthest, **values})]


def schedule_warnings(schedule: Schedule, *, spaced: bool) -> list[dict[str, Any]]:
    """List what makes a schedule bad, or impossible, to run.

    Whether a run starts too late is judged only where it starts at the first step of an evenly spaced plan: a part of
    a plan is meant to start later.

    Args:
        schedule: The schedule.
        spaced: Whether ``timestep_spacing`` chose the timesteps.
    """
    noise, config = schedule.noise, schedule.config
    if not noise.zero_terminal_snr:
        return []
    if noise.kind == VARIANCE_PRESERVING and planned_output(schedule) == "epsilon":
        apply = {"prediction_type": "v_prediction"}
        return [message("epsilon_at_zero_snr", "error", apply=apply)] if visits_zero_snr(schedule) else []
    first, last = schedule.plan.timesteps[0], len(noise) - 1
    if not spaced or schedule.plan.first != 0 or first == last:
        return []
    if noise.kind != VARIANCE_PRESERVING:
        first, last = (round(float(noise.times[t])) for t in (first, last))
    apply = {"timestep_spacing": "trailing"}
    values: dict[str, str | int] = {"spacing": config.timestep_spacing, "first": first, "last": last}
    return [message("last_step_never_visited", "warning", values, apply)]
