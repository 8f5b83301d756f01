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
from .run_rules import check_kind, guided_x0, initial_noise, timestep_reader
from .sigmas import schedule_from_sigmas, schedule_sigmas, sigmas_of_levels

__all__ = [
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
    "current",
    "guided_x0",
    "initial_noise",
    "measured_prediction_type",
    "remember_measured",
    "schedule_from_sigmas",
    "schedule_sigmas",
    "sigmas_of_levels",
    "timestep_reader",
]


def current() -> Backend:
    """Return the backend of the running host: ComfyUI's if its samplers are loaded, else the embedded host's."""
    if "comfy.samplers" in sys.modules:
        from .comfyui import ComfyUIBackend

        return ComfyUIBackend()
    from .embedded import EmbeddedBackend

    return EmbeddedBackend()
