"""The inversion methods: functions from a trajectory, an image and options to an :class:`Inversion`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..precision import per_image
from .bdia import check_two_steps, encode_bdia
from .deterministic import SEARCHES, Search, encode_ddim, encode_fixed_point
from .edict import check_invertible, encode_edict
from .reconstruction import reconstruct
from .result import Inversion
from .stochastic import encode_variance_noise
from .trajectory import Trajectory, mean_square

__all__ = ["METHODS", "Options"]

# fixed_point searches again for images whose error it reduced by less than this factor, compared with plain inversion.
MIN_IMPROVEMENT = 8.0


@dataclass(frozen=True)
class Options:
    """Options of the methods, checked."""

    seed: int
    refinements: int
    tolerance: float
    mixing: float
    noise_path: str
    noise_dtype: torch.dtype | None
    image_indices: Sequence[int] | None
    check: bool


def _invert_ddim(trajectory: Trajectory, x0: Tensor, options: Options) -> Inversion:
    latent = encode_ddim(trajectory, x0).to(x0.dtype)
    return _with_residual(trajectory, x0, _unmeasured("ddim", trajectory, latent), options)


def _invert_fixed_point(trajectory: Trajectory, x0: Tensor, options: Options) -> Inversion:
    found = _refined(trajectory, x0, options, SEARCHES[0])
    if not options.check or not options.refinements or _is_at_rounding(found.residual, x0):
        return found
    # Refining each step does not bound the error of the whole round trip. For each image the better of this and plain
    # inversion is kept, and an image that improved little is searched for again.
    silent = replace(trajectory, callback=None)
    plain = _invert_ddim(silent, x0, options)
    for search in SEARCHES[1:]:
        if bool((found.residual * MIN_IMPROVEMENT <= plain.residual).all()):
            break
        found = _better(found, _refined(silent, x0, options, search))
    return _better(found, plain)


def _refined(trajectory: Trajectory, x0: Tensor, options: Options, search: Search) -> Inversion:
    latent = encode_fixed_point(trajectory, x0, options.refinements, options.tolerance, search).to(x0.dtype)
    return _with_residual(trajectory, x0, _unmeasured("fixed_point", trajectory, latent), options)


def _better(one: Inversion, other: Inversion) -> Inversion:
    """Return ``one``, with the latent of ``other`` for each image whose residual is smaller there."""
    keep = one.residual <= other.residual
    latent = torch.where(per_image(keep.to(one.latent.device), one.latent), one.latent, other.latent)
    return replace(one, latent=latent, residual=torch.where(keep, one.residual, other.residual))


def _invert_edict(trajectory: Trajectory, x0: Tensor, options: Options) -> Inversion:
    check_invertible(trajectory)
    first, second = (track.to(x0.dtype) for track in encode_edict(trajectory, x0, options.mixing))
    found = replace(_unmeasured("edict", trajectory, first), second_latent=second, mixing=options.mixing)
    return _with_residual(trajectory, x0, found, options)


def _invert_bdia(trajectory: Trajectory, x0: Tensor, options: Options) -> Inversion:
    check_two_steps(trajectory)
    first, second = (sample.to(x0.dtype) for sample in encode_bdia(trajectory, x0))
    found = replace(_unmeasured("bdia", trajectory, first), second_latent=second)
    return _with_residual(trajectory, x0, found, options)


def _invert_variance_noise(trajectory: Trajectory, x0: Tensor, options: Options) -> Inversion:
    latent, noise, image = encode_variance_noise(
        trajectory, x0, options.noise_path, options.seed, options.noise_dtype, options.image_indices
    )
    return replace(
        _unmeasured("variance_noise", trajectory, latent),
        variance_noise=noise,
        seed=options.seed,
        noise_path=options.noise_path,
        residual=mean_square(image - x0).cpu(),
    )


def _unmeasured(method: str, trajectory: Trajectory, latent: Tensor) -> Inversion:
    unknown = torch.full((len(latent),), torch.nan, dtype=torch.float64)
    return Inversion(method, latent, unknown, trajectory.schedule, trajectory.etas)


def _with_residual(trajectory: Trajectory, x0: Tensor, found: Inversion, options: Options) -> Inversion:
    """Measure the error of the round trip by sampling from the inversion, if ``options.check`` is set."""
    if not options.check:
        return found
    image = reconstruct(
        trajectory.model,
        found,
        trajectory.scheduler,
        use_clipped_model_output=trajectory.use_clipped_model_output,
    )
    return replace(found, residual=mean_square(image - x0).cpu())


def _is_at_rounding(residual: Tensor, x0: Tensor) -> bool:
    """Tell whether no image's error exceeds the rounding error of its dtype."""
    return bool((residual <= torch.finfo(x0.dtype).eps ** 2 * mean_square(x0).cpu()).all())


METHODS: dict[str, Callable[[Trajectory, Tensor, Options], Inversion]] = {
    "ddim": _invert_ddim,
    "fixed_point": _invert_fixed_point,
    "edict": _invert_edict,
    "variance_noise": _invert_variance_noise,
    "bdia": _invert_bdia,
}
