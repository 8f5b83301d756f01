"""The sampling loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..arguments import check_batch, check_function, describe, fits
from ..errors import DDIMError
from ..guidance.cfg import CFGPlusPlus, Guided, ModelOutput
from ..noise.source import Generators, noise_source
from ..precision import as_dtype, working_dtype
from ..scheduler.forward import ForwardScheduler
from ..step.apply import apply_step, predicted_x0
from ..step.checks import eta_of_each_step
from ..step.equations import Eta
from ..step.half_precision import steps_from_rounded_sample
from ..triton_support import kernels_run_on

__all__ = ["check_model", "check_run", "check_scheduler", "checked_output", "sample"]

Model = Callable[[Tensor, Tensor], ModelOutput]
Callback = Callable[[int, Tensor, Tensor, Tensor], None]


def sample(
    model: Model,
    x: Tensor,
    scheduler: ForwardScheduler,
    *,
    eta: Eta | Sequence[Eta] = 0.0,
    seed: int | None = None,
    generator: Generators | None = None,
    variance_noise: Tensor | None = None,
    use_clipped_model_output: bool = False,
    image_indices: Sequence[int] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Run the scheduler's plan from ``x``.

    Nothing that the model or the callback is given is written again: they may keep it, or views of it, as it is.

    Args:
        model: ``model(x_t, t)`` gives the model output, or a :class:`Guided` or :class:`CFGPlusPlus` pair of them;
            ``t`` is an element of ``scheduler.timesteps``. It gets ``x_t`` in the dtype of ``x``; the state between
            steps is float32 (float64 for float64).
        x: the noisy start, shape ``(B, ...)``; not modified, even if the model writes into its argument.
        scheduler: with its plan set.
        eta: one for all steps or one per step, in [0, 1], or ``"sigma_hat"``.
        seed: of the keyed step noise; image i of step k gets the noise of (seed, i, k) alone, with k counted from the
            beginning of the whole plan where the scheduler holds a part of one.
        generator: draws the step noise instead: one, or one per image.
        variance_noise: the step noise itself, shape ``(S, B, ...)``; a :class:`VarianceNoise`, as :func:`invert` gives
            it, brings the residual of a last step without noise as well.
        use_clipped_model_output: derive epsilon again from the clipped x_0.
        image_indices: which image of the run each row is, for keyed noise; by default 0..B-1.
        callback: ``callback(i, t, x_t, x0)`` after each step, with the sample before the step; an exception in it stops
            the run.

    Returns:
        The last sample, shape ``(B, ...)``, in the dtype of ``x``.

    Raises:
        DDIMError: before the first model call, for arguments that do not fit the plan.
    """
    check_run(model, x, scheduler)
    etas = eta_of_each_step(eta, len(scheduler.plan))
    coefficients = [scheduler.coefficients(i, value) for i, value in enumerate(etas)]
    source = noise_source(
        x,
        len(scheduler.plan),
        unseeded=scheduler.unseeded_key(),
        first=scheduler.plan.first,
        seed=seed,
        generator=generator,
        variance_noise=variance_noise,
        image_indices=image_indices,
        unused_draws=scheduler.unused_draws(etas),
    )
    state = x.to(working_dtype(x.dtype), copy=True)
    for i, (c, t) in enumerate(zip(coefficients, scheduler.timesteps, strict=True)):
        x_t = as_dtype(state, x.dtype)
        output = checked_output(model(x_t, t), x)
        if isinstance(output, Guided) and (callback is not None or not kernels_run_on(x.device)):
            output = output.tensor()
        base = x_t if steps_from_rounded_sample(c) else state
        state, x0 = apply_step(
            c,
            base,
            output,
            process_x0=scheduler.process_x0,
            use_clipped_model_output=use_clipped_model_output,
            noise=source.at(i, float(c.sigma)),
        )
        if callback is not None:
            assert not isinstance(output, Guided)
            callback(i, t, x_t, predicted_x0(c, base, output, scheduler.process_x0) if x0 is None else x0)
    return as_dtype(state, x.dtype)


def check_run(model: Model, x: Tensor, scheduler: ForwardScheduler) -> None:
    """Check what every run needs.

    Raises:
        DDIMError: unless there is a model to call, a batch to start from, and a scheduler to step with.
    """
    check_model(model, scheduler)
    check_batch("x", x)


def check_model(model: Model, scheduler: ForwardScheduler) -> None:
    """Check that there is a model to call, and a scheduler to step with.

    Raises:
        DDIMError: otherwise.
    """
    check_function("model", model)
    check_scheduler(scheduler)


def check_scheduler(scheduler: ForwardScheduler) -> None:
    """Check that there is a scheduler to step with.

    Raises:
        DDIMError: otherwise.
    """
    if not isinstance(scheduler, ForwardScheduler):
        raise DDIMError(f"scheduler must be a DDIMScheduler or a DDIMFlowScheduler, got {type(scheduler).__name__}")


def checked_output(output: ModelOutput, x: Tensor) -> ModelOutput:
    """The model's output, if it can be the output for ``x``.

    Raises:
        DDIMError: for another shape or device, or something that is not a floating-point tensor.
    """
    if isinstance(output, Guided | CFGPlusPlus):
        for tensor in output[:2]:
            checked_output(tensor, x)
    elif not fits(output, x):
        raise DDIMError(
            f"model(x_t, t) must return a floating-point tensor of shape {tuple(x.shape)} on {x.device}, got "
            f"{describe(output)}"
        )
    return output
