"""The hosts that the nodes run in. Only this folder names ComfyUI or the embedded host."""

from __future__ import annotations

import sys

from .contract import (
    Advance,
    Backend,
    Denoised,
    FolderName,
    ModelFacts,
    RouteHandler,
    Run,
    Sampled,
    SamplingRequest,
    Work,
)
from .measured import measured_prediction_type, remember_measured
from .prediction_types import (
    EPSILON_AT_ZERO_SNR,
    check_levels,
    check_output,
    decided_output,
    left_to_model,
    planned_output,
    visits_zero_snr,
    with_output_of,
)
from .run_rules import check_kind, guided_x0, initial_noise, timestep_reader
from .sigmas import schedule_from_sigmas, schedule_sigmas, sigmas_of_levels

__all__ = [
    "EPSILON_AT_ZERO_SNR",
    "Advance",
    "Backend",
    "Denoised",
    "FolderName",
    "ModelFacts",
    "RouteHandler",
    "Run",
    "Sampled",
    "SamplingRequest",
    "Work",
    "check_kind",
    "check_levels",
    "check_output",
    "current",
    "decided_output",
    "guided_x0",
    "initial_noise",
    "left_to_model",
    "measured_prediction_type",
    "planned_output",
    "remember_measured",
    "schedule_from_sigmas",
    "schedule_sigmas",
    "sigmas_of_levels",
    "timestep_reader",
    "visits_zero_snr",
    "with_output_of",
]


def current() -> Backend:
    """Return the backend of the running host: ComfyUI's if its samplers are loaded, else the embedded host's."""
    if "comfy.samplers" in sys.modules:
        from .comfyui import ComfyUIBackend

        return ComfyUIBackend()
    from .embedded import EmbeddedBackend

    return EmbeddedBackend()
