"""The values that travel on the nodes' sockets, besides the core's own Schedule, and how a run steps."""

from .inverted import inverted_with, is_noisy, mark_inverted, needs_recorded_noise, without_mark
from .recorded import RecordedNoise
from .run import (
    FROM_MODEL,
    FROM_SCHEDULE,
    GUIDANCE_UNITS,
    NOISE_LEVEL_LIMIT,
    NOISE_MODES,
    PROXIMAL_OFF,
    SHARE,
    X0_PROCESSING,
    Guidance,
    SamplerSettings,
    check_source,
)
from .sockets import Conditioning, Latent, Model

__all__ = [
    "FROM_MODEL",
    "FROM_SCHEDULE",
    "GUIDANCE_UNITS",
    "NOISE_LEVEL_LIMIT",
    "NOISE_MODES",
    "PROXIMAL_OFF",
    "SHARE",
    "X0_PROCESSING",
    "Conditioning",
    "Guidance",
    "Latent",
    "Model",
    "RecordedNoise",
    "SamplerSettings",
    "check_source",
    "inverted_with",
    "is_noisy",
    "mark_inverted",
    "needs_recorded_noise",
    "without_mark",
]
