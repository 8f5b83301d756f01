"""DDIM Interpolate: between two noises, or through several."""

from __future__ import annotations

import torch
from torch import Tensor

from ...ddim import DDIMError, slerp_path
from ..inputs import LATENT, InputTypes, inputs
from ..values import Latent, inverted_with, mark_inverted, needs_recorded_noise, without_mark

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
        method = _method_of(latent_a, latent_b)
        paths = _paths(latent_a["samples"], None if latent_b is None else latent_b["samples"])
        samples = torch.cat([slerp_path(points, frames, closed=loop) for points in paths])
        rest = {key: value for key, value in without_mark(latent_a).items() if key not in PER_IMAGE}
        latent = {**rest, "samples": samples}
        return (latent if method is None else mark_inverted(latent, method),)


def _method_of(*latents: Latent | None) -> str | None:
    """Return the method that inverted the latents of a path, which its frames then belong to; None for other noise.

    Raises:
        DDIMError: If a part of an image is not in its latent, so that no frame between would be an image.
    """
    methods = [method for latent in latents if latent is not None and (method := inverted_with(latent))]
    for method in filter(needs_recorded_noise, methods):
        raise DDIMError(
            f"a latent that was inverted with {method} holds only a part of its image, and frames between such latents "
            "are no images; invert with fixed_point"
        )
    return methods[0] if methods else None


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
