"""The result of an inversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import check_batch, check_list, check_pair, check_tensor
from ..errors import DDIMError, show
from ..noise.recorded import VarianceNoise
from ..plan import Schedule
from ..step.checks import eta_of_each_step
from ..step.equations import Eta
from ..step.levels import VARIANCE_PRESERVING

__all__ = ["Inversion", "check_inversion"]


@dataclass(frozen=True, eq=False)
class Inversion:
    """The noise of an image, with everything needed to sample the image from it again.

    Attributes:
        method: One of ``INVERSION_METHODS``.
        latent: The start of sampling, shape ``(B, ...)``.
        residual: Mean squared error of the round trip of each image, float64 on the CPU, shape ``(B,)``; NaN if it was
            not measured.
        schedule: The settings and plan that it was made with.
        eta: Eta of each step, length S.
        variance_noise: The noise of each step, shape ``(S, B, ...)``; ``variance_noise`` only.
        second_latent: The second track of ``edict``, or the sample after the first step of ``bdia``, shape
            ``(B, ...)``; None for the other methods.
        mixing: p, the mixing of the two tracks; ``edict`` only.
        seed: The seed of the recorded path; ``variance_noise`` only.
        noise_path: ``"cycle"`` or ``"edit_friendly"``; ``variance_noise`` only.
    """

    method: str
    latent: Tensor
    residual: Tensor
    schedule: Schedule
    eta: tuple[Eta, ...]
    variance_noise: VarianceNoise | None = None
    second_latent: Tensor | None = None
    mixing: float | None = None
    seed: int | None = None
    noise_path: str | None = None

    def check_fits(self, schedule: Schedule, eta: Eta | Sequence[Eta], shape: Sequence[int]) -> None:
        """Check that sampling with these settings reproduces the image.

        Args:
            schedule: The settings and plan of the sampling run.
            eta: Eta of the sampling run, one for all steps or one per step.
            shape: Shape of the sample, ``(B, ...)``.

        Raises:
            DDIMError: Naming the first of steps, timesteps, kind of model, noise levels, eta and shape that differs.
        """
        if not isinstance(schedule, Schedule):
            raise DDIMError(f"schedule must be a Schedule, got {show(schedule)}")
        own, steps = self.schedule, len(schedule.plan)
        if len(own.plan) != steps:
            raise _mismatch("steps", f"{len(own.plan)} steps", f"{steps}")
        for pair, other in zip(own.plan.pairs, schedule.plan.pairs, strict=True):
            if pair != other:
                raise _mismatch(
                    "timesteps", f"a step from {pair[0]} to {pair[1]}", f"one from {other[0]} to {other[1]}"
                )
        if own.noise.kind != schedule.noise.kind:
            raise _mismatch("model", f"a {_words(own)} model", f"a {_words(schedule)} one")
        if not torch.allclose(_numbers(own), _numbers(schedule), rtol=1e-6, atol=0.0):
            raise _mismatch("schedule", f"noise levels {_level_range(own)}", _level_range(schedule))
        etas = eta_of_each_step(eta, steps)
        if etas != self.eta:
            raise _mismatch("eta", f"eta {_summary(self.eta)}", _summary(etas))
        if tuple(check_list("shape", shape)) != tuple(self.latent.shape):
            raise _mismatch("shape", f"shape {tuple(self.latent.shape)}", f"{tuple(shape)}")


def check_inversion(inversion: Inversion) -> Inversion:
    """Return an inversion if its tensors can be calculated with.

    Raises:
        DDIMError: Otherwise.
    """
    if not isinstance(inversion, Inversion):
        raise DDIMError(f"inversion must be an Inversion, which invert or load_noise gives, got {show(inversion)}")
    shape = check_batch("latent", inversion.latent).shape
    check_tensor("residual", inversion.residual)
    if inversion.second_latent is not None:
        check_pair("second_latent", inversion.second_latent, "latent", inversion.latent)
    if inversion.variance_noise is not None:
        expected = (len(inversion.schedule.plan), *shape)
        if check_tensor("variance_noise", inversion.variance_noise).shape != expected:
            got = tuple(inversion.variance_noise.shape)
            raise DDIMError(f"variance_noise must have the shape {expected}, got {got}")
    return inversion


def _mismatch(what: str, expected: str, given: str) -> DDIMError:
    return DDIMError(
        f"the noise does not match this run: {what} must be the same as in the inversion, which used {expected}, got "
        f"{given}; use the same {what}, or invert the image again"
    )


def _words(schedule: Schedule) -> str:
    return schedule.noise.kind.replace("_", " ")


def _numbers(schedule: Schedule) -> Tensor:
    """The levels of a run as numbers, in which those of its kind of model are told apart best."""
    if schedule.noise.kind == VARIANCE_PRESERVING:
        return torch.tensor(schedule.alpha_bars)
    return torch.tensor([level.sigma for level in schedule.levels], dtype=torch.float64)


def _level_range(schedule: Schedule) -> str:
    return f"{schedule.alpha_bars[0]:.6g} to {schedule.alpha_bars[-1]:.6g}"


def _summary(etas: tuple[Eta, ...]) -> str:
    return str(etas[0]) if len(set(etas)) == 1 else "per step (" + ", ".join(str(eta) for eta in etas[:4]) + ", ...)"
