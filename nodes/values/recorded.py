"""The noise of the steps of one run: the value on a VARIANCE_NOISE socket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...ddim import DDIMError, Inversion, Schedule

__all__ = ["RecordedNoise"]

LEVEL_TOLERANCE = 1e-4  # alpha_bar values closer than this are the same level: a float32 table against float64
ETA_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class RecordedNoise:
    """The step noise of one run, and the run it was recorded for: the value on a VARIANCE_NOISE socket.

    Attributes:
        noise: z of DDIM equation (12), float32 CPU, shape ``(S, B, ...)``; None if the inversion method records none.
        schedule: The schedule of the run.
        eta: The eta of the run, in [0, 1].
        inversion: The inversion that recorded it, or None. It is what a noise file holds, and it carries the second
            sample of ``edict`` and ``bdia``. Its ``latent`` is scaled like the host's LATENTs, the other tensors like
            the model's.
    """

    noise: Tensor | None
    schedule: Schedule
    eta: float
    inversion: Inversion | None = None

    @property
    def latent(self) -> Tensor | None:
        """The inverted latent, ``(B, ...)``, scaled like the host's LATENTs; None if there was no inversion."""
        return None if self.inversion is None else self.inversion.latent

    @property
    def method(self) -> str | None:
        """The inversion method; None if there was no inversion."""
        return None if self.inversion is None else self.inversion.method

    @classmethod
    def from_inversion(cls, inversion: Inversion) -> RecordedNoise:
        """Wrap the noise that an inversion recorded."""
        numbers = [eta for eta in inversion.eta if not isinstance(eta, str)]
        return cls(inversion.variance_noise, inversion.schedule, max(numbers, default=0.0), inversion)

    def check(self, alpha_bars: Sequence[float], eta: float, shape: Sequence[int]) -> None:
        """Check that a run is the one this noise was recorded for.

        Args:
            alpha_bars: The levels of the run's steps and the level after the last step, S + 1 numbers.
            eta: The eta of the run.
            shape: The shape of the run's latents, ``(B, ...)``.

        Raises:
            DDIMError: If the steps, the levels, eta or the shape differ; the message says which.
        """
        self._check_levels(alpha_bars)
        self._check_eta(eta)
        self._check_shape(shape)

    def _check_levels(self, alpha_bars: Sequence[float]) -> None:
        recorded = self.schedule.alpha_bars
        if len(recorded) != len(alpha_bars):
            raise DDIMError(
                f"variance_noise holds noise for {len(recorded) - 1} steps and the run has {len(alpha_bars) - 1}; "
                "use the schedule it was made with, or connect none"
            )
        for step, (expected, level) in enumerate(zip(recorded, alpha_bars, strict=True)):
            if abs(expected - level) > LEVEL_TOLERANCE:
                raise DDIMError(
                    f"variance_noise was made for another schedule: alpha_bar at step {step} was {expected:.6g} and is "
                    f"{level:.6g}; use the schedule it was made with, or connect none"
                )

    def _check_eta(self, eta: float) -> None:
        recorded = set() if self.inversion is None else set(self.inversion.eta)
        if len(recorded) > 1 or any(isinstance(value, str) for value in recorded):
            raise DDIMError(
                "variance_noise was made with an eta that no node can set (one per step, or 'sigma_hat'); "
                "sample it with ddim.sample"
            )
        if abs(self.eta - eta) > ETA_TOLERANCE:
            raise DDIMError(
                f"variance_noise was made for eta {self.eta:g} and the run has eta {eta:g}; set eta to {self.eta:g}"
            )

    def _check_shape(self, shape: Sequence[int]) -> None:
        if self.inversion is not None:
            expected = tuple(self.inversion.latent.shape)
        elif self.noise is not None:
            expected = tuple(self.noise.shape[1:])
        else:
            return
        if expected != tuple(shape):
            raise DDIMError(
                f"variance_noise was made for latents of shape {expected} and the run has {tuple(shape)}; use the same "
                "size and batch"
            )
