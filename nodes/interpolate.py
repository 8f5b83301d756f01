"""DDIM Interpolate: between two noises, or through several."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ddim import DDIMError, slerp_path
from .inputs import LATENT, InputTypes, inputs
from .values import Latent

__all__ = ["DDIMInterpolate"]

PER_IMAGE = ("batch_index", "noise_mask")  # keys of a LATENT about its images, which no frame is


class DDIMInterpolate:
    """Frames on the arc between noises."""

    CATEGORY = "DDIM/inversion"
    DESCRIPTION = (
        "Interpolates noises on the sphere that they lie on (slerp), so that every frame becomes an image: from "
        "latent_a to latent_b, or through the images of one batch. Sample the frames with DDIM KSampler, eta 0 and "
        "add_noise off."
    )
    SEARCH_ALIASES = ["slerp", "interpolate", "noise travel", "seed travel", "morph", "latent blend", "frames"]
    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The frames as a batch; with several pairs, one pair after the other.",)
    FUNCTION = "interpolate"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {"required": inputs("latent_a"), "optional": inputs("frames", "loop", "latent_b")}

    def interpolate(
        self, latent_a: Latent, frames: int = 9, loop: bool = False, latent_b: Latent | None = None
    ) -> tuple[Latent]:
        paths = _paths(latent_a["samples"], None if latent_b is None else latent_b["samples"])
        samples = torch.cat([slerp_path(points, frames, closed=loop) for points in paths])
        rest = {key: value for key, value in latent_a.items() if key not in PER_IMAGE}
        return ({**rest, "samples": samples},)


def _paths(a: Tensor, b: Tensor | None) -> list[Tensor]:
    """Return the points of each path, ``(P, ...)``."""
    if b is None:
        if len(a) < 2:
            raise DDIMError("a path needs at least two images in latent_a, or a latent_b to go to, got one image")
        return [a]
    if a.shape[1:] != b.shape[1:]:
        raise DDIMError(
            f"latent_a and latent_b must have the same size, got {tuple(a.shape[1:])} and {tuple(b.shape[1:])}"
        )
    if 1 not in (len(a), len(b)) and len(a) != len(b):
        raise DDIMError(
            f"latent_a and latent_b must have as many images as each other, or one of them a single one, got {len(a)} "
            f"and {len(b)}"
        )
    pairs = max(len(a), len(b))
    ends = zip(a.expand(pairs, *a.shape[1:]), b.expand(pairs, *b.shape[1:]).to(a), strict=True)
    return [torch.stack(pair) for pair in ends]
