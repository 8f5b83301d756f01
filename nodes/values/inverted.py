"""The mark on a LATENT that an inversion made, so that a node that samples from it knows what it is.

A host's nodes pass on the keys of a LATENT that they do not know: masks and slices of a batch keep the mark. Stock
samplers keep it too, on a result that is an image and no noise. The mark therefore lists the latents that it is about,
and holds for no others.
"""

from __future__ import annotations

import hashlib

from torch import Tensor

from ...ddim import DDIMError
from .recorded import RecordedNoise
from .sockets import Latent

__all__ = ["inverted_with", "is_noisy", "mark_inverted", "needs_recorded_noise", "without_mark"]

MARK = "ddim_inversion"
NEED_NOISE = ("variance_noise", "edict", "bdia")  # a part of the image is in what these methods record


def mark_inverted(latent: Latent, method: str) -> Latent:
    """Return a LATENT that says which inversion method made it.

    Args:
        latent: ``samples`` of shape ``(B, C, ...)``.
        method: One of ``INVERSION_METHODS``.
    """
    mark = {"method": method, "needs_noise": needs_recorded_noise(method), "latents": _digests(latent["samples"])}
    return {**latent, MARK: mark}


def needs_recorded_noise(method: str) -> bool:
    """Tell whether the latent of an inversion method holds only a part of the image."""
    return method in NEED_NOISE


def without_mark(latent: Latent) -> Latent:
    """Return a LATENT that no longer says that it was inverted, for what was made from it."""
    return {key: value for key, value in latent.items() if key != MARK}


def inverted_with(latent: Latent) -> str | None:
    """Return the inversion method that made a LATENT, or any one image of it; None if none did."""
    mark = latent.get(MARK)
    if not isinstance(mark, dict) or not set(_digests(latent["samples"])) & set(mark.get("latents", ())):
        return None
    return str(mark["method"])


def is_noisy(latent: Latent, recorded: RecordedNoise | None, eta: float) -> bool:
    """Tell whether a LATENT is the noise of an image, to which a run adds none.

    Args:
        latent: ``samples`` of shape ``(B, C, ...)``.
        recorded: What an inversion recorded, if it is connected.
        eta: The eta of the run.

    Raises:
        DDIMError: For a latent whose method needs what it recorded, without that; for one that comes from another
            inversion than what is connected; and for an eta at which the image cannot come back.
    """
    method = inverted_with(latent)
    if recorded is not None and recorded.method is not None:
        if method not in (None, recorded.method):
            raise DDIMError(
                f"latent_image was inverted with {method} and the inversion (variance_noise) is one with "
                f"{recorded.method}; connect both from "
                "the same DDIM Invert or DDIM Load Noise"
            )
        return True
    if method is None:
        return False
    if needs_recorded_noise(method):
        raise DDIMError(
            f"latent_image was inverted with {method}, which keeps a part of the image in the inversion "
            "(variance_noise), and that is not connected; connect it from the same DDIM Invert or DDIM Load Noise, or "
            "invert with fixed_point, which needs the latent alone"
        )
    if eta != 0:
        raise DDIMError(
            f"latent_image was inverted with {method}, which gives the image back at eta 0 only, and eta is {eta:g}; "
            "set eta to 0, or invert with variance_noise and connect its inversion"
        )
    return True


def _digests(samples: Tensor) -> list[str]:
    """Name each latent of a batch by its content, equal for equal numbers."""
    rows = samples.detach().float().cpu().contiguous()
    return [hashlib.blake2b(row.numpy().tobytes(), digest_size=12).hexdigest() for row in rows]
