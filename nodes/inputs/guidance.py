"""The inputs of guidance."""

from __future__ import annotations

from ...ddim import GUIDANCE_MODES
from ..values import GUIDANCE_UNITS, NOISE_LEVEL_LIMIT
from .kinds import Input, choice, number

__all__ = ["GUIDANCE_INPUTS"]

GUIDANCE_INPUTS: dict[str, Input] = {
    "guidance_mode": choice(
        GUIDANCE_MODES,
        GUIDANCE_MODES[0],
        "cfg: as in KSampler. cfg++: cfg is then a number from 0 to 1 (0.6 does what 7.5 does otherwise); colours stay "
        "natural, and inversions of the same prompt come back more closely.",
        advanced=True,
    ),
    "guidance_start": number(
        0.0,
        -NOISE_LEVEL_LIMIT,
        NOISE_LEVEL_LIMIT,
        0.01,
        "Where guidance begins. Before it the positive prompt is used alone, and steps are twice as fast.",
        advanced=True,
    ),
    "guidance_end": number(
        1.0, -NOISE_LEVEL_LIMIT, NOISE_LEVEL_LIMIT, 0.01, "Where guidance ends, as for guidance_start.", advanced=True
    ),
    "guidance_unit": choice(
        tuple(GUIDANCE_UNITS),
        next(iter(GUIDANCE_UNITS)),
        "What guidance_start and guidance_end count. share of the run: from 0 to 1. log-SNR: noise levels, about -5 "
        "(noise) to 7 (clean) for Stable Diffusion; -100 is pure noise, 100 is clean.",
        advanced=True,
    ),
}
