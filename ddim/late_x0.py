"""Predicted x_0, computed when it is asked for: most callers of a step never do."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .coefficients import StepCoefficients
from .errors import DDIMError
from .stepping import predicted_x0
from .x0_processing import ProcessX0

__all__ = ["late_x0"]


def late_x0(
    sample: Tensor, model_output: Tensor, coefficients: StepCoefficients, process_x0: ProcessX0 | None
) -> Callable[[], Tensor]:
    """x_0 for whoever asks for it later."""
    versions = _versions(sample, model_output)

    def x0() -> Tensor:
        if _versions(sample, model_output) != versions:
            raise DDIMError(
                "x_0 is computed when pred_original_sample is first read, but sample or model_output has been changed "
                "in place since the step; read pred_original_sample before, or use return_dict=False"
            )
        return predicted_x0(coefficients, sample, model_output, process_x0).to(sample.dtype)

    return x0


def _versions(sample: Tensor, model_output: Tensor) -> tuple[int, int]:
    """Counts of in-place changes; inference tensors do not count theirs."""
    return (
        -1 if sample.is_inference() else sample._version,
        -1 if model_output.is_inference() else model_output._version,
    )
