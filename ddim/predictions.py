"""Conversions between x_0, epsilon and a model's own output, at a known noise level."""

from __future__ import annotations

from torch import Tensor

from .coefficients import prediction
from .errors import DDIMError
from .tensor_ops import combine

__all__ = ["output_from_x0", "predict_epsilon", "predict_x0"]


def predict_x0(model_output: Tensor, x_t: Tensor, alpha_bar: float, prediction_type: str) -> Tensor:
    """x_0 that a model output implies: DDIM equation (9), or its like for the other prediction types.

    Args:
        model_output: shape ``(B, ...)``.
        x_t: the sample that the model saw, same shape.
        alpha_bar: level of ``x_t``, in [0, 1].
        prediction_type: ``"epsilon"``, ``"sample"`` or ``"v_prediction"``.
    """
    return combine(x_t, model_output, prediction(prediction_type, alpha_bar).x0)


def predict_epsilon(model_output: Tensor, x_t: Tensor, alpha_bar: float, prediction_type: str) -> Tensor:
    """Epsilon that a model output implies; arguments as for :func:`predict_x0`."""
    return combine(x_t, model_output, prediction(prediction_type, alpha_bar).epsilon)


def output_from_x0(x0: Tensor, x_t: Tensor, alpha_bar: float, prediction_type: str) -> Tensor:
    """The model output that implies ``x0``: the inverse of :func:`predict_x0`.

    Raises:
        DDIMError: where the output does not determine x_0 (alpha_bar of 1 for epsilon and v_prediction).
    """
    weights = prediction(prediction_type, alpha_bar).x0
    if weights.m == 0.0:
        raise DDIMError(f"a {prediction_type} output cannot be recovered from x_0 at alpha_bar = {alpha_bar:g}")
    return combine(x_t, x0, type(weights)(-weights.x / weights.m, 1 / weights.m))
