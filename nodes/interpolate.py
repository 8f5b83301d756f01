"""Between two noises, or through several."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ddim import DDIMError, slerp_path
from .sockets import LATENT, inputs

__all__ = ["DDIMInterpolate"]


class DDIMInterpolate:
    """Frames on the arc between noises."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Goes from noise to noise along the sphere that noise lives on (slerp), so that every frame is a picture: from "
        "latent_a to latent_b, or through the pictures of one batch. Sample the frames with DDIM Sample, eta 0 and "
        "add_noise off."
    )
    SEARCH_ALIASES = ["slerp", "interpolate", "noise travel", "seed travel", "morph", "latent blend", "frames"]
    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The frames as a batch; with several pairs, pair after pair.",)
    FUNCTION = "interpolate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": inputs("latent_a", "frames", "loop"), "optional": inputs("latent_b")}

    def interpolate(
        self, latent_a: dict[str, Any], frames: int, loop: bool, latent_b: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any]]:
        paths = _paths(latent_a["samples"], None if latent_b is None else latent_b["samples"])
        samples = torch.cat([slerp_path(points, frames, closed=loop) for points in paths])
        # What belongs to single pictures of the given batch belongs to no frame.
        rest = {key: value for key, value in latent_a.items() if key not in ("batch_index", "noise_mask")}
        return ({**rest, "samples": samples},)


def _paths(a: Tensor, b: Tensor | None) -> list[Tensor]:
    """The points of each path, (P, ...)."""
    if b is None:
        if len(a) < 2:
            raise DDIMError("a path needs at least two pictures in latent_a, or a latent_b to go to, got one picture")
        return [a]
    if a.shape[1:] != b.shape[1:]:
        raise DDIMError(
            f"latent_a and latent_b must have the same size, got {tuple(a.shape[1:])} and {tuple(b.shape[1:])}"
        )
    if 1 not in (len(a), len(b)) and len(a) != len(b):
        raise DDIMError(f"latent_a and latent_b must have as many pictures, or one of them one, got {len(a)}, {len(b)}")
    count = max(len(a), len(b))
    pairs = zip(a.expand(count, *a.shape[1:]), b.expand(count, *b.shape[1:]).to(a), strict=True)
    return [torch.stack(pair) for pair in pairs]
