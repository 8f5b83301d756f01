"""``invert`` and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from .run import Callback, Model, Run, mean_square
from .stochastic import NOISE_PATHS, encode_variance_noise

__all__ = ["INVERSION_METHODS", "NOISE_PATHS", "invert", "model_calls", "reconstruct"]

# A refined image whose error is not this much smaller than plain inversion's has gone astray.
LEAST_GAIN = 8.0


@dataclass(frozen=True)
class _Options:
    """What the methods are told beyond model, picture and plan."""

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
    """Find the noise that the scheduler's plan turns into ``x0``.

    ======================  ===================================  ==========================================
    method                  model calls (S steps, K refinements)  sampling from the result gives
    ======================  ===================================  ==========================================
    ``ddim``                S                                    ``x0`` up to the size of the steps
    ``fixed_point``         up to (K + 2) S                      nearer, and never farther than ``ddim``
    ``edict``               2 S                                  ``x0`` to rounding, with :func:`reconstruct`
    ``variance_noise``      S                                    ``x0`` to rounding
    ======================  ===================================  ==========================================

    The first three belong to eta 0. For guidance give a guided model (:func:`ddim.guided_model`).

    Args:
        model: ``model(x_t, t)``, as for :func:`ddim.sample`. It must give the same output for the same input.
        x0: what sampling shall give, shape ``(B, ...)``; not modified. Where the scheduler holds a part of a plan, it
            is the sample at that part's end.
        scheduler: with its plan set.
        method: one of ``INVERSION_METHODS``.
        eta: as for :func:`ddim.sample`; by default 1 for ``variance_noise`` and 0 for the others.
        seed: of the path of ``variance_noise``; image i gets the same path alone or in a batch.
        callback: ``callback(i, t, x_t, x0)`` after each of S steps; inversion stops when it raises.
        refinements: K, how often ``fixed_point`` may improve each step, at least 0 (0 is ``ddim``).
        tolerance: relative error at which ``fixed_point`` stops; by default near rounding.
        mixing: p of ``edict``, in (0, 1]; by default 0.93 to the power of 50 / S.
        noise_path: ``"cycle"`` (CycleDiffusion: a path that the process itself could have taken; z is standard normal
            where the model is right) or ``"edit_friendly"`` (independent noise at every level; z is larger and
            correlated, and holds on to the picture's structure more firmly).
        noise_dtype: make the recorded noise of all steps but the last exact in this dtype (``torch.float16``), so that
            it can be stored in half the space without losing the picture.
        use_clipped_model_output: as for :func:`ddim.sample`.
        image_indices: which image of the run each row is, for the path; by default 0..B-1.
        check: measure the round trip. It costs S more model calls for ``ddim``, 2 S for ``edict``, none for
            ``variance_noise``, and 3 S for ``fixed_point``, which is compared with ``ddim`` (and more where an image
            gained little by it: then it is refined in other ways too).

    Returns:
        An :class:`Inversion`: ``.latent``, ``.variance_noise``, ``.residual`` and what the way back needs.

    Raises:
        DDIMError: before the first model call, for arguments that do not fit.
    """
    encode = _METHODS[check_choice("method", method, INVERSION_METHODS)]
    _check_picture(x0, scheduler)
    etas = _etas(method, eta, len(scheduler.plan))
    run = Run(model, scheduler, etas, x0.dtype, use_clipped_model_output, callback)
    for index in range(len(run)):
        run.coefficients(index)  # an epsilon model at zero SNR is refused here, not half way
    default_tolerance = 10 * torch.finfo(x0.dtype if x0.dtype == torch.float64 else torch.float32).eps
    options = _Options(
        seed=scheduler.unseeded_key() if seed is None else seed,
        refinements=check_integer("refinements", refinements, 0),
        tolerance=check_number("tolerance", default_tolerance if tolerance is None else tolerance, 0.0),
        mixing=check_number("mixing", default_mixing(len(run)) if mixing is None else mixing, 1e-6, 1.0),
        noise_path=check_choice("noise_path", noise_path, NOISE_PATHS),
        noise_dtype=noise_dtype,
        image_indices=image_indices,
        check=check,
    )
    with torch.no_grad():
        return encode(run, x0, options)


def reconstruct(
    model: Model,
    inversion: Inversion,
    scheduler: DDIMScheduler | None = None,
    *,
    callback: Callback | None = None,
    use_clipped_model_output: bool = False,
) -> Tensor:
    """Sample from an inversion, whatever its method: with the same model the picture, with another one an edit of it.

    Args:
        model: ``model(x_t, t)``, as for :func:`ddim.sample`.
        inversion: from :func:`invert`.
        scheduler: with its plan set; by default one with the inversion's schedule.
        callback: as for :func:`ddim.sample`.
        use_clipped_model_output: as for :func:`ddim.sample`.

    Returns:
        Shape ``(B, ...)``, in the dtype of the latent.

    Raises:
        DDIMError: if the scheduler's plan is not the inversion's.
    """
    x = inversion.latent
    scheduler = inversion.schedule.scheduler(x.device) if scheduler is None else scheduler
    inversion.check_fits(Schedule.of(scheduler), inversion.eta, x.shape)
    if inversion.second_latent is not None and inversion.mixing is not None:
        run = Run(model, scheduler, inversion.eta, x.dtype, use_clipped_model_output, callback)
        return decode_edict(run, x, inversion.second_latent, inversion.mixing)[0].to(x.dtype)
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
    """How many model calls :func:`invert` makes, for a progress bar.

    ``fixed_point`` makes fewer where it converges early, and more where an image has to be refined again.
    """
    return {
        "ddim": steps * (1 + check),
        "fixed_point": steps * ((refinements + 2 if refinements else 1) + (3 if refinements else 1) * check),
        "edict": steps * (2 + 2 * check),
        "variance_noise": steps,
    }[check_choice("method", method, INVERSION_METHODS)]


def _ddim(run: Run, x0: Tensor, options: _Options) -> Inversion:
    return _measured(run, x0, _result("ddim", run, encode_ddim(run, x0).to(x0.dtype)), options)


def _fixed_point(run: Run, x0: Tensor, options: _Options) -> Inversion:
    found = _refined(run, x0, options, SEARCHES[0])
    if not options.check or not options.refinements or _at_rounding(found.residual, x0):
        return found
    # Refining each step does not bound the error of the whole way: an image that plain inversion brings nearer is left
    # to it, and one that it brings almost as near is searched for again.
    quiet = replace(run, callback=None)
    plain = _ddim(quiet, x0, options)
    for search in SEARCHES[1:]:
        if bool((found.residual * LEAST_GAIN <= plain.residual).all()):
            break
        found = _better(found, _refined(quiet, x0, options, search))
    return _better(found, plain)


def _refined(run: Run, x0: Tensor, options: _Options, search: Search) -> Inversion:
    latent = encode_fixed_point(run, x0, options.refinements, options.tolerance, search).to(x0.dtype)
    return _measured(run, x0, _result("fixed_point", run, latent), options)


def _better(one: Inversion, other: Inversion) -> Inversion:
    """Of each image the one that comes back nearer."""
    keep = one.residual <= other.residual
    latent = torch.where(per_image(keep.to(one.latent.device), one.latent), one.latent, other.latent)
    return replace(one, latent=latent, residual=torch.where(keep, one.residual, other.residual))


def _edict(run: Run, x0: Tensor, options: _Options) -> Inversion:
    check_invertible(run)
    first, second = (track.to(x0.dtype) for track in encode_edict(run, x0, options.mixing))
    return _measured(run, x0, _result("edict", run, first, second_latent=second, mixing=options.mixing), options)


def _variance_noise(run: Run, x0: Tensor, options: _Options) -> Inversion:
    latent, noise, back = encode_variance_noise(
        run, x0, options.noise_path, options.seed, options.noise_dtype, options.image_indices
    )
    found = _result(
        "variance_noise", run, latent, variance_noise=noise, seed=options.seed, noise_path=options.noise_path
    )
    return replace(found, residual=mean_square(back - x0).cpu())


_METHODS: dict[str, Callable[[Run, Tensor, _Options], Inversion]] = {
    "ddim": _ddim,
    "fixed_point": _fixed_point,
    "edict": _edict,
    "variance_noise": _variance_noise,
}

INVERSION_METHODS: tuple[str, ...] = tuple(_METHODS)


def _result(method: str, run: Run, latent: Tensor, **rest: Any) -> Inversion:
    unknown = torch.full((len(latent),), torch.nan, dtype=torch.float64)
    return Inversion(method, latent, unknown, run.schedule, run.etas, **rest)


def _measured(run: Run, x0: Tensor, found: Inversion, options: _Options) -> Inversion:
    """The inversion with the error of its round trip, by sampling from it."""
    if not options.check:
        return found
    back = reconstruct(run.model, found, run.scheduler, use_clipped_model_output=run.use_clipped_model_output)
    return replace(found, residual=mean_square(back - x0).cpu())


def _at_rounding(residual: Tensor, x0: Tensor) -> bool:
    """Whether no image's error is above what the dtype can hold."""
    return bool((residual <= torch.finfo(x0.dtype).eps ** 2 * mean_square(x0).cpu()).all())


def _etas(method: str, eta: Eta | Sequence[Eta] | None, steps: int) -> tuple[Eta, ...]:
    stochastic = method == "variance_noise"
    etas = eta_of_each_step((1.0 if stochastic else 0.0) if eta is None else eta, steps)
    if stochastic and not any(etas):
        raise DDIMError("variance_noise records the noise of sampling with eta above 0, got eta 0; use another method")
    if not stochastic and any(etas):
        raise DDIMError(f"{method} inverts deterministic sampling, so eta must be 0; use method='variance_noise'")
    return etas


def _check_picture(x0: Tensor, scheduler: DDIMScheduler) -> None:
    if scheduler.num_inference_steps is None:
        raise DDIMError("inversion needs a plan; call scheduler.set_timesteps(num_inference_steps) first")
    if not isinstance(x0, Tensor) or not x0.is_floating_point() or x0.ndim < 2 or x0.numel() == 0:
        what = f"{x0.dtype} of shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else type(x0).__name__
        raise DDIMError(f"x0 must be a floating-point tensor of shape (B, ...) with at least one image, got {what}")
    if not bool(torch.isfinite(x0).all()):
        raise DDIMError("x0 must be finite, but it holds NaN or infinite values")
