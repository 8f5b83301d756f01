"""The sampling loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .coefficients import Eta, per_step
from .errors import DDIMError
from .noise import generator_noise, keyed_noise
from .scheduler import DDIMScheduler
from .stepping import apply_step
from .tensor_ops import combine, working_dtype
from .variance_noise import VarianceNoise, add_residual

__all__ = ["sample"]

Model = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Tensor, Tensor], None]


def sample(
    model: Model,
    x: Tensor,
    scheduler: DDIMScheduler,
    *,
    eta: Eta | Sequence[Eta] = 0.0,
    seed: int | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    variance_noise: Tensor | None = None,
    use_clipped_model_output: bool = False,
    image_indices: Sequence[int] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Run the scheduler's plan from ``x``.

    Args:
        model: ``model(x_t, t)`` gives the model output; ``t`` is an element of ``scheduler.timesteps``. It sees
            ``x_t`` in the dtype of ``x``; the state between steps is float32 (float64 for float64).
        x: the noisy start, shape ``(B, ...)``; not modified.
        scheduler: with its plan set.
        eta: one for all steps or one per step, in [0, 1], or ``"sigma_hat"``.
        seed: of the keyed step noise; image i of step k gets the noise of (seed, i, k) alone, k counted from the
            beginning of the whole plan where the scheduler holds a part of one.
        generator: draws the step noise instead: one, or one per image.
        variance_noise: the step noise itself, shape ``(S, B, ...)``; a :class:`VarianceNoise`, as :func:`invert` gives
            it, brings the residual of a last step without noise as well.
        use_clipped_model_output: derive epsilon again from the clipped x_0.
        image_indices: which image of the run each row is, for keyed noise; by default 0..B-1.
        callback: ``callback(i, t, x_t, x0)`` after each step, with the sample before the step; sampling stops when it
            raises.

    Returns:
        The last sample, shape ``(B, ...)``, in the dtype of ``x``.

    Raises:
        DDIMError: before the first model call, for arguments that do not fit the plan.
    """
    etas = per_step(eta, len(scheduler.plan))
    coefficients = [scheduler.coefficients(i, value) for i, value in enumerate(etas)]
    noise_of = _noise_source(x, len(etas), scheduler, seed, generator, variance_noise, image_indices)
    recorded = isinstance(variance_noise, VarianceNoise)
    state = x.to(working_dtype(x.dtype))
    for i, (step, t) in enumerate(zip(coefficients, scheduler.timesteps, strict=True)):
        seen = state.to(x.dtype)
        output = model(seen, t)
        noise = noise_of(i) if step.noise or recorded else None
        following, x0 = apply_step(
            step,
            state,
            output,
            process_x0=scheduler.process_x0,
            use_clipped_model_output=use_clipped_model_output,
            noise=noise,
        )
        if callback is not None:
            callback(i, t, seen, combine(state, output, step.x0) if x0 is None else x0)
        state = add_residual(following, step, noise)
    return state.to(x.dtype)


def _noise_source(
    x: Tensor,
    steps: int,
    scheduler: DDIMScheduler,
    seed: int | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    variance_noise: Tensor | None,
    image_indices: Sequence[int] | None,
) -> Callable[[int], Tensor]:
    """A function from step index to that step's noise."""
    sources = {"seed": seed, "generator": generator, "variance_noise": variance_noise}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise DDIMError(f"give one source of step noise, got {' and '.join(given)}")
    dtype = working_dtype(x.dtype)
    if variance_noise is not None:
        expected = (steps, *x.shape)
        if tuple(variance_noise.shape) != expected:
            raise DDIMError(
                f"variance_noise must have shape {expected} (steps, *x.shape), got {tuple(variance_noise.shape)}"
            )
        return lambda i: variance_noise[i].to(device=x.device, dtype=dtype)
    if generator is not None:
        return lambda i: generator_noise(x.shape, generator, x.device, dtype)
    key = scheduler.unseeded_key() if seed is None else seed
    first = scheduler.plan.first
    return lambda i: keyed_noise(x.shape, key, first + i, image_indices, device=x.device, dtype=dtype)
