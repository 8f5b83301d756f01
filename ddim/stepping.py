"""One DDIM step on tensors: the readable reference. ``fast_step.py`` holds its twin with fewer passes over memory."""

from __future__ import annotations

from torch import Tensor

from .coefficients import StepCoefficients
from .tensor_ops import combine, working_dtype
from .x0_processing import ProcessX0

__all__ = ["apply_step", "predicted_x0"]


def predicted_x0(
    coefficients: StepCoefficients, sample: Tensor, model_output: Tensor, process_x0: ProcessX0 | None = None
) -> Tensor:
    """x_0 of DDIM equation (9), or its like for the other prediction types, processed; in the working dtype."""
    x0 = combine(sample, model_output, coefficients.x0)
    return x0 if process_x0 is None else process_x0(x0)


def apply_step(
    coefficients: StepCoefficients,
    sample: Tensor,
    model_output: Tensor,
    *,
    process_x0: ProcessX0 | None = None,
    use_clipped_model_output: bool = False,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """DDIM equation (12) with the scalars of one step, term by term.

    Args:
        coefficients: of this step.
        sample: x_t, shape ``(B, ...)``, any float dtype; not modified.
        model_output: same shape.
        process_x0: clipping or thresholding of x_0, or None.
        use_clipped_model_output: derive epsilon again from the processed x_0 (GLIDE's way).
        noise: z of equation (12), same shape; needed where ``coefficients.noise`` is not 0.

    Returns:
        x_next and the processed x_0, in the sample's working dtype (float32 for half precision).
    """
    x0 = predicted_x0(coefficients, sample, model_output, process_x0)
    if use_clipped_model_output and process_x0 is not None:
        epsilon = combine(sample, x0, coefficients.rederived)
    else:
        epsilon = combine(sample, model_output, coefficients.epsilon)
    following = coefficients.root_next * x0 + coefficients.direction * epsilon
    if noise is not None:
        following = following + coefficients.noise * noise.to(working_dtype(sample.dtype))
    return following, x0
