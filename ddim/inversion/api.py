"""``invert``, which finds the noise of an image, and ``reconstruct``, which samples the image from it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import DDIMError, check_choice, check_integer, check_number
from ..plan import Schedule
from ..precision import per_image
from ..sampling.loop import sample
from ..scheduler.forward import DDIMScheduler
from ..step.checks import eta_of_each_step
from ..step.equations import Eta
from .deterministic import SEARCHES, Search, encode_ddim, encode_fixed_point
from .edict import check_invertible, decode_edict, default_mixing, encode_edict
from .result import Inversion
from .stochastic import NOISE_PATHS, encode_variance_noise
from .trajectory import Callback, Model, Trajectory, mean_square

__all__ = ["INVERSION_METHODS", "NOISE_PATHS", "invert", "model_calls", "reconstruct"]

# fixed_point searches again for images whose error it reduced by less than this factor, compared with plain inversion.
MIN_IMPROVEMENT = 8.0


@dataclass(frozen=True)
class _Options:
    """Options of the methods, checked."""

    seed: int
    refinements: int
    tolerance: float
    mixing: float
    noise_path: str
    noise_dtype: torch.dtype | None
    image_indices: Sequence[int] | None
    check: bool


def invert(
    model: Model,
    x0: Tensor,
    scheduler: DDIMScheduler,
    *,
    method: str = "ddim",
    eta: Eta | Sequence[Eta] | None = None,
    seed: int | None = None,
    callback: Callback | None = None,
    refinements: int = 4,
    tolerance: float | None = None,
    mixing: float | None = None,
    noise_path: str = "cycle",
    noise_dtype: torch.dtype | None = None,
    use_clipped_model_output: bool = False,
    image_indices: Sequence[int] | None = None,
    check: bool = True,
) -> Inversion:
    """Find the noise from which the scheduler's plan samples ``x0``.

    ======================  ====================================  ================================================
    method                  model calls (S steps, K refinements)  sampling from the result gives
    ======================  ====================================  ================================================
    ``ddim``                S                                     ``x0``, with an error that shrinks with the steps
    ``fixed_point``         up to (K + 2) S                       ``x0`` more closely, never worse than ``ddim``
    ``edict``               2 S                                   ``x0`` to rounding, with :func:`reconstruct`
    ``variance_noise``      S                                     ``x0`` to rounding
    ======================  ====================================  ================================================

    The first three need eta 0. For guidance pass a guided model (:func:`ddim.guided_model`).

    Args:
        model: Called as ``model(x_t, t)``, as for :func:`ddim.sample`. It must be deterministic: the same output for
            the same input.
        x0: The image that sampling should produce, shape ``(B, ...)``; not modified. If the scheduler holds a part of a
            plan, it is the sample at the end of that part.
        scheduler: The scheduler, with its plan set.
        method: One of ``INVERSION_METHODS``.
        eta: As for :func:`ddim.sample`; by default 1 for ``variance_noise`` and 0 for the other methods.
        seed: Seed of the path of ``variance_noise``; image i gets the same path alone or in a batch.
        callback: Called as ``callback(i, t, x_t, x0)`` after each of S steps; an exception in it stops the inversion.
        refinements: K, how often ``fixed_point`` may improve each step, at least 0 (0 is ``ddim``).
        tolerance: Relative error at which ``fixed_point`` stops; by default near rounding.
        mixing: p of ``edict``, in (0, 1]; by default 0.93 to the power of 50 / S.
        noise_path: ``"cycle"`` (CycleDiffusion: a path that sampling itself could have taken; z is standard normal if
            the model is right) or ``"edit_friendly"`` (independent noise at every level; z is larger and correlated,
            and preserves more of the image's structure in edits).
        noise_dtype: Round the recorded noise of all steps but the last to this dtype (``torch.float16``), so that it
            can be stored in half the space with the same result.
        use_clipped_model_output: As for :func:`ddim.sample`.
        image_indices: Which image of the run each row is, for the path; by default 0..B-1.
        check: Measure the error of the round trip. It costs S more model calls for ``ddim``, 2 S for ``edict``, none
            for ``variance_noise``, and 3 S for ``fixed_point``, which is compared with ``ddim`` (more if an image
            improved little over ``ddim``, because it is then refined in other ways too).

    Returns:
        An :class:`Inversion` with ``.latent``, ``.variance_noise``, ``.residual`` and what :func:`reconstruct` needs.

    Raises:
        DDIMError: For invalid arguments, before the first model call.
    """
    encode = _METHODS[check_choice("method", method, INVERSION_METHODS)]
    _check_image(x0, scheduler)
    etas = _etas_for(method, eta, len(scheduler.plan))
    trajectory = Trajectory(model, scheduler, etas, x0.dtype, use_clipped_model_output, callback)
    for index in range(len(trajectory)):
        trajectory.coefficients(index)  # raises for steps without values, such as epsilon at zero SNR
    default_tolerance = 10 * torch.finfo(x0.dtype if x0.dtype == torch.float64 else torch.float32).eps
    options = _Options(
        seed=scheduler.unseeded_key() if seed is None else seed,
        refinements=check_integer("refinements", refinements, 0),
        tolerance=check_number("tolerance", default_tolerance if tolerance is None else tolerance, 0.0),
        mixing=check_number("mixing", default_mixing(len(trajectory)) if mixing is None else mixing, 1e-6, 1.0),
        noise_path=check_choice("noise_path", noise_path, NOISE_PATHS),
        noise_dtype=noise_dtype,
        image_indices=image_indices,
        check=check,
    )
    with torch.no_grad():
        return encode(trajectory, x0, options)


def reconstruct(
    model: Model,
    inversion: Inversion,
    scheduler: DDIMScheduler | None = None,
    *,
    callback: Callback | None = None,
    use_clipped_model_output: bool = False,
) -> Tensor:
    """Sample from an inversion of any method: the same model gives the image, another model an edit of it.

    Args:
        model: Called as ``model(x_t, t)``, as for :func:`ddim.sample`.
        inversion: The result of :func:`invert`.
        scheduler: A scheduler with its plan set; by default one with the inversion's schedule.
        callback: As for :func:`ddim.sample`.
        use_clipped_model_output: As for :func:`ddim.sample`.

    Returns:
        The image, shape ``(B, ...)``, in the dtype of the latent.

    Raises:
        DDIMError: If the scheduler's plan differs from the inversion's.
    """
    x = inversion.latent
    scheduler = inversion.schedule.scheduler(x.device) if scheduler is None else scheduler
    inversion.check_fits(Schedule.of(scheduler), inversion.eta, x.shape)
    if inversion.second_latent is not None and inversion.mixing is not None:
        trajectory = Trajectory(model, scheduler, inversion.eta, x.dtype, use_clipped_model_output, callback)
        return decode_edict(trajectory, x, inversion.second_latent, inversion.mixing)[0].to(x.dtype)
    return sample(
        model,
        x,
        scheduler,
        eta=inversion.eta,
        variance_noise=inversion.variance_noise,
        callback=callback,
        use_clipped_model_output=use_clipped_model_output,
    )


def model_calls(method: str, steps: int, refinements: int = 4, *, check: bool = True) -> int:
    """Return how many model calls :func:`invert` makes, for a progress bar.

    ``fixed_point`` makes fewer if it converges early, and more if an image has to be refined again.

    Args:
        method: One of ``INVERSION_METHODS``.
        steps: S, the number of steps.
        refinements: As for :func:`invert`.
        check: As for :func:`invert`.
    """
    return {
        "ddim": steps * (1 + check),
        "fixed_point": steps * ((refinements + 2 if refinements else 1) + (3 if refinements else 1) * check),
        "edict": steps * (2 + 2 * check),
        "variance_noise": steps,
    }[check_choice("method", method, INVERSION_METHODS)]


def _invert_ddim(trajectory: Trajectory, x0: Tensor, options: _Options) -> Inversion:
    latent = encode_ddim(trajectory, x0).to(x0.dtype)
    return _with_residual(trajectory, x0, _unmeasured("ddim", trajectory, latent), options)


def _invert_fixed_point(trajectory: Trajectory, x0: Tensor, options: _Options) -> Inversion:
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


def _refined(trajectory: Trajectory, x0: Tensor, options: _Options, search: Search) -> Inversion:
    latent = encode_fixed_point(trajectory, x0, options.refinements, options.tolerance, search).to(x0.dtype)
    return _with_residual(trajectory, x0, _unmeasured("fixed_point", trajectory, latent), options)


def _better(one: Inversion, other: Inversion) -> Inversion:
    """Return ``one``, with the latent of ``other`` for each image whose residual is smaller there."""
    keep = one.residual <= other.residual
    latent = torch.where(per_image(keep.to(one.latent.device), one.latent), one.latent, other.latent)
    return replace(one, latent=latent, residual=torch.where(keep, one.residual, other.residual))


def _invert_edict(trajectory: Trajectory, x0: Tensor, options: _Options) -> Inversion:
    check_invertible(trajectory)
    first, second = (track.to(x0.dtype) for track in encode_edict(trajectory, x0, options.mixing))
    found = replace(_unmeasured("edict", trajectory, first), second_latent=second, mixing=options.mixing)
    return _with_residual(trajectory, x0, found, options)


def _invert_variance_noise(trajectory: Trajectory, x0: Tensor, options: _Options) -> Inversion:
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


_METHODS: dict[str, Callable[[Trajectory, Tensor, _Options], Inversion]] = {
    "ddim": _invert_ddim,
    "fixed_point": _invert_fixed_point,
    "edict": _invert_edict,
    "variance_noise": _invert_variance_noise,
}

INVERSION_METHODS: tuple[str, ...] = tuple(_METHODS)


def _unmeasured(method: str, trajectory: Trajectory, latent: Tensor) -> Inversion:
    unknown = torch.full((len(latent),), torch.nan, dtype=torch.float64)
    return Inversion(method, latent, unknown, trajectory.schedule, trajectory.etas)


def _with_residual(trajectory: Trajectory, x0: Tensor, found: Inversion, options: _Options) -> Inversion:
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


def _etas_for(method: str, eta: Eta | Sequence[Eta] | None, steps: int) -> tuple[Eta, ...]:
    stochastic = method == "variance_noise"
    etas = eta_of_each_step((1.0 if stochastic else 0.0) if eta is None else eta, steps)
    if stochastic and not any(etas):
        raise DDIMError(
            "variance_noise needs eta above 0 in at least one step, got eta 0; set eta, or use another method"
        )
    if not stochastic and any(etas):
        raise DDIMError(
            f"{method} inverts deterministic sampling, so eta must be 0, got {eta!r:.80}; use eta=0 or "
            "method='variance_noise'"
        )
    return etas


def _check_image(x0: Tensor, scheduler: DDIMScheduler) -> None:
    if scheduler.num_inference_steps is None:
        raise DDIMError(
            "the scheduler must have a plan, got one without; call scheduler.set_timesteps(num_inference_steps) first"
        )
    if not isinstance(x0, Tensor) or not x0.is_floating_point() or x0.ndim < 2 or x0.numel() == 0:
        got = f"{x0.dtype} of shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else type(x0).__name__
        raise DDIMError(f"x0 must be a floating-point tensor of shape (B, ...) with at least one image, got {got}")
    if not bool(torch.isfinite(x0).all()):
        raise DDIMError("x0 must be finite, got NaN or infinite values; check the image or its encoder")
