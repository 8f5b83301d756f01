"""``invert``, which finds the noise of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import check_dtype, describe, is_usable
from ..errors import DDIMError, check_choice, check_integer, check_number
from ..sampling.loop import check_model
from ..scheduler.forward import ForwardScheduler
from ..step.checks import eta_of_each_step
from ..step.equations import Eta
from .edict import default_mixing
from .methods import METHODS, Options
from .reconstruction import reconstruct
from .result import Inversion
from .stochastic import NOISE_PATHS
from .trajectory import Callback, Model, Trajectory

__all__ = ["INVERSION_METHODS", "NOISE_PATHS", "invert", "model_calls", "reconstruct"]

MAX_REFINEMENTS = 1000  # of a step; it converges within a few, or not at all

INVERSION_METHODS: tuple[str, ...] = tuple(METHODS)


def invert(
    model: Model,
    x0: Tensor,
    scheduler: ForwardScheduler,
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

    Model calls for S steps and K refinements, and what sampling from the result gives:

    - ``ddim``: S calls; ``x0`` with an error that shrinks with the steps.
    - ``fixed_point``: up to (K + 2) S calls; ``x0`` more closely, never worse than ``ddim``.
    - ``edict``: 2 S calls; ``x0`` to rounding, with :func:`reconstruct`.
    - ``bdia``: S calls; ``x0`` to rounding, with :func:`reconstruct`.
    - ``variance_noise``: S calls; ``x0`` to rounding.

    All but ``variance_noise`` need eta 0. For guidance pass a guided model (:func:`ddim.guided_model`).

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
        refinements: K, how often ``fixed_point`` may improve each step, 0 to 1000 (0 is ``ddim``).
        tolerance: Relative error at which ``fixed_point`` stops; by default near rounding.
        mixing: p of ``edict``, in (0, 1]; by default 0.93 to the power of 50 / S.
        noise_path: ``"cycle"`` (CycleDiffusion: a path that sampling itself could have taken; z is standard normal if
            the model is right) or ``"edit_friendly"`` (independent noise at every level; z is larger and correlated,
            and preserves more of the image's structure in edits).
        noise_dtype: Round the recorded noise of all steps but the last to this dtype (``torch.float16``), so that it
            can be stored in half the space with the same result.
        use_clipped_model_output: As for :func:`ddim.sample`.
        image_indices: Which image of the run each row is, for the path; by default 0..B-1.
        check: Measure the error of the round trip. It costs S more model calls for ``ddim``, S - 1 for ``bdia``,
            2 S for ``edict``, none for ``variance_noise``, and 3 S for ``fixed_point``, which is compared with ``ddim``
            (more if an image improved little over ``ddim``, because it is then refined in other ways too).

    Returns:
        An :class:`Inversion` with ``.latent``, ``.variance_noise``, ``.residual`` and what :func:`reconstruct` needs.

    Raises:
        DDIMError: For invalid arguments, before the first model call.
    """
    encode = METHODS[check_choice("method", method, INVERSION_METHODS)]
    check_model(model, scheduler)
    _check_image(x0, scheduler)
    etas = _etas_for(method, eta, len(scheduler.plan))
    trajectory = Trajectory(model, scheduler, etas, x0.dtype, use_clipped_model_output, callback)
    for index in range(len(trajectory)):
        trajectory.coefficients(index)  # raises for steps without values, such as epsilon at zero SNR
    default_tolerance = 10 * torch.finfo(x0.dtype if x0.dtype == torch.float64 else torch.float32).eps
    options = Options(
        seed=scheduler.unseeded_key() if seed is None else check_integer("seed", seed, -math.inf),
        refinements=check_integer("refinements", refinements, 0, MAX_REFINEMENTS),
        tolerance=check_number("tolerance", default_tolerance if tolerance is None else tolerance, 0.0),
        mixing=check_number("mixing", default_mixing(len(trajectory)) if mixing is None else mixing, 1e-6, 1.0),
        noise_path=check_choice("noise_path", noise_path, NOISE_PATHS),
        noise_dtype=None if noise_dtype is None else check_dtype("noise_dtype", noise_dtype),
        image_indices=image_indices,
        check=check,
    )
    with torch.no_grad():
        return encode(trajectory, x0, options)


def model_calls(method: str, steps: int, refinements: int = 4, *, check: bool = True) -> int:
    """Return how many model calls :func:`invert` makes, for a progress bar.

    ``fixed_point`` makes fewer if it converges early, and more if an image has to be refined again.

    Args:
        method: One of ``INVERSION_METHODS``.
        steps: S, the number of steps.
        refinements: As for :func:`invert`.
        check: As for :func:`invert`.
    """
    steps, refinements = check_integer("steps", steps, 0), check_integer("refinements", refinements, 0)
    return {
        "ddim": steps * (1 + check),
        "fixed_point": steps * ((refinements + 2 if refinements else 1) + (3 if refinements else 1) * check),
        "edict": steps * (2 + 2 * check),
        "variance_noise": steps,
        "bdia": steps + max(steps - 1, 0) * check,
    }[check_choice("method", method, INVERSION_METHODS)]


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


def _check_image(x0: Tensor, scheduler: ForwardScheduler) -> None:
    if scheduler.num_inference_steps is None:
        raise DDIMError(
            "the scheduler must have a plan, got one without; call scheduler.set_timesteps(num_inference_steps) first"
        )
    if not is_usable(x0) or x0.ndim < 2 or x0.numel() == 0:
        raise DDIMError(
            f"x0 must be a floating-point tensor of shape (B, ...) with at least one image, got {describe(x0)}"
        )
    if not bool(torch.isfinite(x0).all()):
        raise DDIMError("x0 must be finite, got NaN or infinite values; check the image or its encoder")
