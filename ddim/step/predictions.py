"""Conversions between x_0, epsilon and a model's own output, at a known noise level."""

from __future__ import annotations

from torch import Tensor

from ..arguments import as_real_tensor, check_pair
from ..errors import DDIMError, check_number
from ..precision import Linear, weighted_sum
from .coefficients import prediction_weights
from .levels import Level

__all__ = ["output_from_x0", "predict_epsilon", "predict_x0"]


def predict_x0(model_output: Tensor, x_t: Tensor, alpha_bar: float | Level, prediction_type: str) -> Tensor:
    """The x_0 that a model output implies: DDIM equation (9), and its counterparts for other prediction types.

    Args:
        model_output: shape ``(B, ...)``.
        x_t: the sample that the model saw, same shape.
        alpha_bar: of ``x_t``, in [0, 1], for a variance preserving model; for any model a :class:`Level`.
        prediction_type: ``"epsilon"``, ``"sample"``, ``"v_prediction"``; of flow models ``"flow_prediction"``.

    Raises:
        DDIMError: for tensors that do not fit together, an unknown type, a level outside [0, 1], or epsilon at level 0.
    """
    x0, _ = _weights(model_output, "model_output", x_t, alpha_bar, prediction_type)
    return weighted_sum(x_t, model_output, x0)


def predict_epsilon(model_output: Tensor, x_t: Tensor, alpha_bar: float | Level, prediction_type: str) -> Tensor:
    """The epsilon that a model output implies; arguments and errors as for :func:`predict_x0`."""
    _, epsilon = _weights(model_output, "model_output", x_t, alpha_bar, prediction_type)
    return weighted_sum(x_t, model_output, epsilon)


def output_from_x0(x0: Tensor, x_t: Tensor, alpha_bar: float | Level, prediction_type: str) -> Tensor:
    """The model output that implies ``x0``: the inverse of :func:`predict_x0`.

    Raises:
        DDIMError: where the output does not determine x_0 (alpha_bar of 1 for epsilon and v_prediction), and as for
            :func:`predict_x0`.
    """
    weights, _ = _weights(x0, "x0", x_t, alpha_bar, prediction_type)
    if weights.m == 0.0:
        raise DDIMError(f"a {prediction_type} output cannot be recovered from x_0 at {_named(alpha_bar)}")
    return weighted_sum(x_t, x0, Linear(-weights.x / weights.m, 1 / weights.m))


def _named(level: float | Level) -> str:
    return str(level) if isinstance(level, Level) else f"alpha_bar = {level:g}"


def _weights(
    tensor: Tensor, name: str, x_t: Tensor, level: float | Level, prediction_type: str
) -> tuple[Linear, Linear]:
    """The weights at a level, with the arguments checked."""
    check_pair(name, tensor, "x_t", x_t)
    if isinstance(level, Level):
        return prediction_weights(prediction_type, level)
    number = as_real_tensor("alpha_bar", level).item() if isinstance(level, Tensor) and level.numel() == 1 else level
    return prediction_weights(prediction_type, check_number("alpha_bar", number))
