"""Predicted x_0, computed when it is asked for: most callers of a step never do."""

from __future__ import annotations

from torch import Tensor

from .coefficients import StepCoefficients
from .errors import DDIMError
from .stepping import predicted_x0
from .x0_processing import ProcessX0

__all__ = ["LateX0"]


class LateX0:
    """x_0 for whoever asks for it later, by a call."""

    __slots__ = ("_coefficients", "_model_output", "_process_x0", "_sample", "_versions")

    def __init__(
        self, sample: Tensor, model_output: Tensor, coefficients: StepCoefficients, process_x0: ProcessX0 | None
    ) -> None:
        self._sample, self._model_output = sample, model_output
        self._coefficients, self._process_x0 = coefficients, process_x0
        self._versions = _versions(sample, model_output)

    def __call__(self) -> Tensor:
        """Compute it.

        Raises:
            DDIMError: if what it is computed from has been changed in place.
        """
        if _versions(self._sample, self._model_output) != self._versions:
            raise DDIMError(
                "x_0 is computed when pred_original_sample is first read, but sample or model_output has been changed "
                "in place since the step; read pred_original_sample before, or use return_dict=False"
            )
        x0 = predicted_x0(self._coefficients, self._sample, self._model_output, self._process_x0)
        return x0.to(self._sample.dtype)


def _versions(sample: Tensor, model_output: Tensor) -> tuple[int, int]:
    """Counts of in-place changes; inference tensors do not count theirs."""
    try:
        return sample._version, model_output._version
    except RuntimeError:
        return (
            -1 if sample.is_inference() else sample._version,
            -1 if model_output.is_inference() else model_output._version,
        )
