"""What an inversion gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DDIMError
from ..noise.recorded import VarianceNoise
from ..plan import Schedule
from ..step.checks import eta_of_each_step
from ..step.equations import Eta

__all__ = ["Inversion"]


@dataclass(frozen=True, eq=False)
class Inversion:
    """The noise that a picture came from, with all that it takes to come back.

    Attributes:
        method: one of ``INVERSION_METHODS``.
        latent: where sampling starts, shape ``(B, ...)``.
        residual: mean squared error of the round trip of each image, float64 on the CPU, shape ``(B,)``; NaN where it
            was not measured.
        schedule: the schedule it belongs to.
        eta: of every step, length S.
        variance_noise: noise of every step, shape ``(S, B, ...)``; ``variance_noise`` only.
        second_latent: the other track, shape ``(B, ...)``; ``edict`` only.
        mixing: p of the two tracks; ``edict`` only.
        seed: of the recorded path; ``variance_noise`` only.
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
        """Raise unless sampling with these settings comes back to the picture.

        Args:
            schedule: of the sampling run.
            eta: of the sampling run, one or one per step.
            shape: of what is sampled, ``(B, ...)``.

        Raises:
            DDIMError: naming the first of steps, timesteps, noise levels, eta and shape that differs.
        """
        mine, steps = self.schedule, len(schedule.plan)
        if len(mine.plan) != steps:
            raise DDIMError(_mismatch("steps", f"{len(mine.plan)} steps", f"{steps}"))
        if mine.plan.pairs != schedule.plan.pairs:
            differs = next(p for p in zip(mine.plan.pairs, schedule.plan.pairs, strict=True) if p[0] != p[1])
            raise DDIMError(_mismatch("timesteps", f"a step from {differs[0][0]} to {differs[0][1]}", _to(differs[1])))
        if not torch.allclose(torch.tensor(mine.alpha_bars), torch.tensor(schedule.alpha_bars), rtol=1e-6, atol=0.0):
            raise DDIMError(_mismatch("schedule", f"noise levels {_ends(mine)}", _ends(schedule)))
        wanted = eta_of_each_step(eta, steps)
        if wanted != self.eta:
            raise DDIMError(_mismatch("eta", f"eta {_brief(self.eta)}", _brief(wanted)))
        if tuple(shape) != tuple(self.latent.shape):
            raise DDIMError(_mismatch("shape", f"shape {tuple(self.latent.shape)}", f"{tuple(shape)}"))


def _mismatch(what: str, made: str, given: str) -> str:
    return (
        f"this noise does not fit the run: {what} must be those of the inversion, which was made with {made}, "
        f"got {given}; set the same {what}, or invert again"
    )


def _to(pair: tuple[int, int]) -> str:
    return f"one from {pair[0]} to {pair[1]}"


def _ends(schedule: Schedule) -> str:
    return f"{schedule.alpha_bars[0]:.6g} to {schedule.alpha_bars[-1]:.6g}"


def _brief(etas: tuple[Eta, ...]) -> str:
    return str(etas[0]) if len(set(etas)) == 1 else "per step (" + ", ".join(str(eta) for eta in etas[:4]) + ", ...)"
