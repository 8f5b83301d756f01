"""What a step may be asked for: prediction types, eta, tensors that fit together."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from ..arguments import check_list, check_tensor, describe, fits, is_usable, refuse_pair
from ..errors import DDIMError, check_choice, check_number
from .equations import PREDICTIONS, SIGMA_HAT, Eta

__all__ = [
    "PREDICTION_TYPES",
    "check_eta",
    "check_out",
    "check_prediction",
    "check_tensors",
    "eta_of_each_step",
]

# Of a variance preserving model, as in diffusers' DDIMScheduler; those of flow models are in schedule/sigma_settings.
PREDICTION_TYPES: tuple[str, ...] = ("epsilon", "sample", "v_prediction")


def check_eta(eta: Eta, *, max_eta: float = 1.0) -> Eta:
    """Return ``eta`` if it is in [0, max_eta] or ``"sigma_hat"``.

    Above 1 it is refused, not clamped: the variance would exceed what the marginals admit at some steps and not at
    others, so a clamp would silently be another sampler.

    Raises:
        DDIMError: for any other value.
    """
    if isinstance(eta, str):
        check_choice("eta", eta, (SIGMA_HAT,))
        return SIGMA_HAT
    if isinstance(eta, float) and 0.0 <= eta <= max_eta:
        return eta  # the only check that torch.compile can trace where eta is symbolic
    return check_number("eta", eta, 0.0, max_eta, why=" (0 is deterministic DDIM, 1 is DDPM) or 'sigma_hat'")


def eta_of_each_step(eta: Eta | Sequence[Eta], steps: int) -> tuple[Eta, ...]:
    """Eta of every step, from one for all or one for each, checked.

    Raises:
        DDIMError: for a wrong value, or a list that is not ``steps`` long.
    """
    if isinstance(eta, str | Real):
        return (check_eta(eta),) * steps
    values = tuple(check_eta(value) for value in check_list("eta", eta))
    if len(values) != steps:
        raise DDIMError(f"eta must be one number or one per step: {steps} expected, got {len(values)}")
    return values


def check_prediction(prediction_type: str, alpha_bar: float) -> None:
    """Check that a model output of this type determines x_0 at this level.

    Raises:
        DDIMError: for an unknown type, a level outside [0, 1], or epsilon at level 0.
    """
    check_choice("prediction_type", prediction_type, tuple(PREDICTIONS))
    if not 0.0 <= alpha_bar <= 1.0:
        raise DDIMError(
            f"alpha_bar must be in [0, 1], got {alpha_bar:g}; a beta above 1 makes the timesteps after it unusable"
        )
    if prediction_type == "epsilon" and alpha_bar == 0.0:
        raise DDIMError(
            "an epsilon prediction says nothing about x_0 where alpha_bar is 0 (zero terminal SNR); use "
            "prediction_type='v_prediction' or 'sample', or rescale_betas_zero_snr=False"
        )


def check_tensors(model_output: Tensor, sample: Tensor) -> None:
    """Check that a model output matches the sample's shape and device, and that both can be calculated with.

    Raises:
        DDIMError: otherwise.
    """
    if not is_usable(sample):
        check_tensor("sample", sample)
    if not fits(model_output, sample):
        hint = "; drop the learned variance channels" if _has_variance_channels(model_output, sample) else ""
        refuse_pair("model_output", model_output, "the sample's shape and device", sample, hint)


def _has_variance_channels(model_output: Tensor, sample: Tensor) -> bool:
    return (
        isinstance(model_output, Tensor)
        and not model_output.is_nested
        and sample.ndim > 1
        and model_output.ndim > 1
        and model_output.shape[1] == 2 * sample.shape[1]
    )


def check_out(out: Tensor, sample: Tensor, others: Sequence[Tensor | None]) -> None:
    """Check that a result can be written to ``out``.

    Args:
        out: where to write; may be ``sample`` itself.
        sample: whose shape, dtype and device the result has.
        others: tensors that are still read while the result is written; None is passed over.

    Raises:
        DDIMError: if it does not fit, overlaps what is read, or autograd would have to follow the write.
    """
    if not (
        isinstance(out, Tensor)
        and out.dtype == sample.dtype
        and out.layout is torch.strided
        and not out.is_nested
        and out.shape == sample.shape
        and out.device == sample.device
    ):
        raise DDIMError(
            f"out must have the sample's shape, dtype and device, {tuple(sample.shape)}, {sample.dtype} on "
            f"{sample.device}, got {describe(out)}"
        )
    read = [tensor for tensor in (sample, *others) if tensor is not None]
    if torch.is_grad_enabled() and (out.requires_grad or any(tensor.requires_grad for tensor in read)):
        raise DDIMError("out cannot be written where gradients are recorded; leave it out, or use torch.no_grad()")
    if out.is_inference() and not torch.is_inference_mode_enabled():
        raise DDIMError("out cannot be written outside inference mode, where it was made; pass out.clone()")
    if _has_shared_elements(out):
        raise DDIMError(f"out must have memory for each of its elements, got strides {out.stride()}; pass out.clone()")
    if any(other is not None and _overlap(out, other) for other in others):
        raise DDIMError("out must not share memory with model_output or variance_noise, which are still read")
    if out is not sample and _overlap(out, sample) and not _same_place(out, sample):
        raise DDIMError("out must be the sample itself or share no memory with it")


def _same_place(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether the memory from the first to the last element of one meets that of the other."""
    if a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr() or not a.numel() or not b.numel():
        return False
    (first_a, end_a), (first_b, end_b) = _extent(a), _extent(b)
    return first_a < end_b and first_b < end_a


def _extent(tensor: Tensor) -> tuple[int, int]:
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.data_ptr(), tensor.data_ptr() + span * tensor.element_size()


def _has_shared_elements(tensor: Tensor) -> bool:
    """Whether two elements may have one place in memory, as in an expanded tensor."""
    if tensor.is_contiguous():
        return False
    span = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride < span:
            return tensor.numel() > 0
        span += (size - 1) * stride
    return False
