"""The report of an inversion: how well each image comes back.

The editor draws what is here and computes nothing: which verdict an error gets, and how long its bar is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .payloads import MAX_POINTS, finite

__all__ = ["VERDICTS", "inversion_report"]

MAX_NOTES, MAX_NOTE_LENGTH = 20, 500

# The largest error of each verdict, root mean square in latent units. They suit latents and pixels: both have
# magnitudes of about 1. Below the first no 8-bit picture changes; below the second a difference is hard to see.
VERDICTS = {"exact": 1e-3, "near": 3e-2, "far": math.inf}
SHORTEST, LONGEST = VERDICTS["exact"], 1.0  # the errors of an empty and of a full bar, on a logarithmic scale


def inversion_report(
    method: str, round_trip_error: Sequence[float], residual: Sequence[float] = (), notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Describe how well an inversion can be undone, image by image.

    Args:
        method: The name of the inversion method.
        round_trip_error: Per image, the root mean square of (image sampled back - image).
        residual: Per image, the error that the inversion itself reports; may be empty.
        notes: Sentences shown below the table.

    Returns:
        ``method``, ``images``, ``round_trip_error``, ``residual`` and ``notes``; ``verdict``, a key of
        :data:`VERDICTS`, of the worst image; and per image ``share``, the length of its bar in [0, 1], 0
        for an exact image.
    """
    return {
        "method": str(method),
        "images": len(round_trip_error),
        "round_trip_error": [finite(error, 4) for error in round_trip_error][:MAX_POINTS],
        "share": [_share(error) for error in round_trip_error][:MAX_POINTS],
        "verdict": _verdict(round_trip_error),
        "residual": [finite(value, 4) for value in residual][:MAX_POINTS],
        "notes": [str(note)[:MAX_NOTE_LENGTH] for note in notes][:MAX_NOTES],
    }


def _verdict(errors: Sequence[float]) -> str:
    """Return the verdict on the worst error; one that is no number is the worst of all."""
    worst = max((error if error == error else math.inf for error in errors), default=0.0)
    return next((name for name, limit in VERDICTS.items() if worst < limit), "far")


def _share(error: float) -> float:
    if not math.isfinite(error):
        return 1.0
    length = math.log(max(error, SHORTEST) / SHORTEST) / math.log(LONGEST / SHORTEST)
    return round(min(length, 1.0), 3)
