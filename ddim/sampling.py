"""The sampling loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .coefficients import Eta, per_step
from .errors import DDIMError
from .fast_step import fast_step
from .fused import possible_on
from .guidance import Guided
from .noise_source import noise_source
from .scheduler import DDIMScheduler
from .stepping import predicted_x0
from .tensor_ops import working_dtype
from .variance_noise import VarianceNoise, add_residual

__all__ = ["sample"]

Model = Callable[[Tensor, Tensor], Tensor | Guided]
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

    The loop works in buffers of its own: ``x_t`` is lent to the model and to the callback. One that is kept (by a
    reference to the tensor, as in ``trajectory.append(x_t)``) stays as it is; of a mere view of it, keep a clone.

    Args:
        model: ``model(x_t, t)`` gives the model output, or a :class:`Guided` pair of them; ``t`` is an element of
            ``scheduler.timesteps``. It sees ``x_t`` in the dtype of ``x``; the state between steps is float32 (float64
            for float64).
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
    noise_of = noise_source(x, scheduler, seed, generator, variance_noise, image_indices)
    recorded = isinstance(variance_noise, VarianceNoise)
    state = _State(x)
    for i, (step, t) in enumerate(zip(coefficients, scheduler.timesteps, strict=True)):
        output = _checked(model(state.lent(), t), x)
        if isinstance(output, Guided) and (callback is not None or not possible_on(x.device)):
            output = output.tensor()
        output = state.widened(output)
        noise = noise_of(i) if step.noise or recorded else None
        base = state.seen if step.follows_seen else state.current
        following, x0 = fast_step(
            step,
            base,
            output,
            process_x0=scheduler.process_x0,
            use_clipped_model_output=use_clipped_model_output,
            noise=noise,
            out=state.spare_for(output),
        )
        if callback is not None:
            assert isinstance(output, Tensor)
            callback(i, t, state.seen, predicted_x0(step, base, output, scheduler.process_x0) if x0 is None else x0)
        del base  # names of the loop's own must not count as holders of a sample
        state.advance(add_residual(following, step, noise if isinstance(noise, VarianceNoise) else None))
        del following
    return state.current.to(x.dtype)


def _checked(output: Tensor | Guided, x: Tensor) -> Tensor | Guided:
    if isinstance(output, Guided):
        _checked(output.uncond, x)
        _checked(output.text, x)
    elif not isinstance(output, Tensor) or output.shape != x.shape or not output.is_floating_point():
        kind = f"{output.dtype} of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise DDIMError(f"model(x_t, t) must return a floating-point tensor of shape {tuple(x.shape)}, got {kind}")
    return output


class _State:
    """The sample between steps, in its working dtype, and the buffers that the loop writes to.

    In a steady run the loop allocates nothing: the sample before last is overwritten by the next one. It is left alone
    where somebody outside the loop may still hold it (a reference more than before it was lent), where it is the
    caller's own ``x``, and where autograd may need it.
    """

    def __init__(self, x: Tensor) -> None:
        self._own_dtype = x.dtype
        self.current = x.to(working_dtype(x.dtype))
        self._lendable = self.current is not x
        self._spare: Tensor | None = None
        self._seen: Tensor | None = None  # what the model sees of a half-precision run
        self._wide: Tensor | None = None
        self._holders = 0

    @property
    def seen(self) -> Tensor:
        """The sample as the model saw it, in the caller's dtype."""
        return self.current if self._seen is None else self._seen

    def lent(self) -> Tensor:
        """The sample for the model."""
        if self.current.dtype != self._own_dtype:
            if self._seen is None or sys.getrefcount(self._seen) != self._holders or self._tracked(self.current):
                self._seen = self.current.to(self._own_dtype)
            else:
                self._seen.copy_(self.current)
            self._holders = sys.getrefcount(self._seen)
            return self._seen
        self._holders = self._count()
        return self.current

    def _count(self) -> int:
        return sys.getrefcount(self.current)  # counted in one place: what it adds itself differs between Pythons

    def widened(self, output: Tensor | Guided) -> Tensor | Guided:
        """A model output of another dtype in the working dtype, but for kernels that widen it on their way."""
        if isinstance(output, Guided) or output.dtype == self.current.dtype:
            return output
        if self._tracked(output) or possible_on(output.device):
            return output
        if self._wide is None:
            self._wide = torch.empty_like(self.current)
        return self._wide.copy_(output)

    def spare_for(self, output: Tensor | Guided) -> Tensor | None:
        """A buffer for the next sample, if there is one that nobody needs."""
        spare = self._spare
        if spare is None or self._tracked(self.current):
            return None
        place = spare.untyped_storage().data_ptr()
        for tensor in (output.uncond, output.text) if isinstance(output, Guided) else (output,):
            if self._tracked(tensor) or tensor.untyped_storage().data_ptr() == place:  # a view of it was kept
                return None
        return spare

    def advance(self, following: Tensor) -> None:
        """Take the next sample; the current one becomes the spare where it may be overwritten."""
        kept = self._seen is None and self._count() > self._holders
        reusable = self._lendable and not kept and not self._tracked(self.current)
        self._spare = self.current if reusable else None
        self.current, self._lendable = following, True

    @staticmethod
    def _tracked(tensor: Tensor) -> bool:
        return tensor.requires_grad and torch.is_grad_enabled()
