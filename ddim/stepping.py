"""One DDIM step on tensors: the readable reference."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .coefficients import StepCoefficients
from .tensor_ops import combine, working_dtype

__all__ = ["apply_step"]


def apply_step(
    coefficients: StepCoefficients,
    sample: Tensor,
    model_output: Tensor,
    *,
    process_x0: Callable[[Tensor], Tensor] | None = None,
    use_clipped_model_output: bool = False,
    noise: Tensor | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """DDIM equation (12) with the scalars of one step.

    Args:
        coefficients: of this step.
        sample: x_t, shape ``(B, ...)``, any float dtype; not modified unless it is ``out``.
        model_output: same shape.
        process_x0: clipping or thresholding of x_0, or None.
        use_clipped_model_output: derive epsilon again from the processed x_0 (GLIDE's way).
        noise: z of equation (12), same shape; needed where ``coefficients.noise`` is not 0.
        out: where to write x_next; may be ``sample``.

    Returns:
        x_next in the sample's working dtype (float32 for half precision), and the processed x_0 where one was made.
    """
    if process_x0 is None:
        x0 = None
        result = combine(sample, model_output, coefficients.step, out=out)
    else:
        x0 = process_x0(combine(sample, model_output, coefficients.x0))
        if use_clipped_model_output:
            epsilon = combine(sample, x0, coefficients.rederived)
        else:
            epsilon = combine(sample, model_output, coefficients.epsilon)
        result = epsilon.mul_(coefficients.direction).add_(x0, alpha=coefficients.root_next)
        result = result if out is None else out.copy_(result)
    if noise is not None and coefficients.noise:
        result = result.add_(noise.to(working_dtype(sample.dtype)), alpha=coefficients.noise)
    return result, x0
