"""What travels on the pack's own sockets, beside the core's Schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..ddim import DDIMError, Inversion, Schedule

__all__ = ["FROM_SCHEDULE", "NOISE_MODES", "X0_PROCESSING", "SamplerSettings", "VarianceNoise"]

LEVEL_TOLERANCE = 1e-4  # alpha_bar closer than this is the same level: a float32 table against float64

FROM_SCHEDULE = "from schedule"
X0_PROCESSING = (FROM_SCHEDULE, "none", "clip", "threshold")
NOISE_MODES = ("per image", "stream")


@dataclass(frozen=True, eq=False)
class VarianceNoise:
    """The noise of every step of one run, and what it belongs to: the value on VARIANCE_NOISE sockets.

    Attributes:
        noise: z of DDIM equation (12), float32 CPU, shape ``(S, B, ...)``; None from an inversion that needs none.
        schedule: the run's schedule.
        eta: the run's eta, in [0, 1].
        inversion: where it comes from, or None: what a noise file is made of, and the second track of ``edict``. Its
            ``latent`` is scaled as the host scales LATENTs, its other tensors as the model scales them.
    """

    noise: Tensor | None
    schedule: Schedule
    eta: float
    inversion: Inversion | None = None

    @classmethod
    def of(cls, inversion: Inversion) -> VarianceNoise:
        """What an inversion recorded."""
        numbers = [0.0 if isinstance(eta, str) else float(eta) for eta in inversion.eta]
        return cls(inversion.variance_noise, inversion.schedule, max(numbers), inversion)

    def check(self, alpha_bars: Sequence[float], eta: float, shape: Sequence[int]) -> None:
        """Refuse a run that is not the one this noise was made for.

        Args:
            alpha_bars: levels of the run's steps and the level after the last, S + 1 numbers.
            eta: the run's eta.
            shape: ``(B, ...)`` of the latents.

        Raises:
            DDIMError: naming what differs: steps, levels, eta or shape.
        """
        own = self.schedule.alpha_bars
        if len(own) != len(alpha_bars):
            raise DDIMError(
                f"variance_noise holds noise for {len(own) - 1} steps and the run has "
                f"{len(alpha_bars) - 1}; use the schedule it was made with"
            )
        apart = [i for i, (a, b) in enumerate(zip(own, alpha_bars, strict=True)) if abs(a - b) > LEVEL_TOLERANCE]
        if apart:
            raise DDIMError(
                f"variance_noise was made for another schedule: alpha_bar at step {apart[0]} was "
                f"{own[apart[0]]:.6g} and is {alpha_bars[apart[0]]:.6g}; use the schedule it was made with"
            )
        if self.inversion is not None and len(set(self.inversion.eta)) > 1:
            raise DDIMError("variance_noise was made with an eta of its own for each step; only ddim.sample can use it")
        if abs(self.eta - eta) > 1e-6:
            raise DDIMError(
                f"variance_noise was made for eta {self.eta:g} and the run has eta {eta:g}; set eta to {self.eta:g}"
            )
        made = None if self.noise is None else self.noise.shape[1:]
        made = made if self.inversion is None else self.inversion.latent.shape
        if made is not None and tuple(made) != tuple(shape):
            raise DDIMError(
                f"variance_noise was made for latents of shape {tuple(made)} and the run "
                f"has {tuple(shape)}; use the same size and batch"
            )


@dataclass(frozen=True)
class SamplerSettings:
    """How a run steps: everything of DDIM that is neither the schedule nor the model.

    Attributes:
        eta: in [0, 1].
        x0_processing: one of :data:`X0_PROCESSING`.
        clip_sample_range: limit of clipping, in model units.
        dynamic_thresholding_ratio: quantile of dynamic thresholding.
        sample_max_value: its cap, at least 1.
        use_clipped_model_output: derive epsilon again from the processed x_0.
        noise_mode: one of :data:`NOISE_MODES`.
        variance_noise: the step noise itself, or None.
    """

    eta: float = 0.0
    x0_processing: str = FROM_SCHEDULE
    clip_sample_range: float = 1.0
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    use_clipped_model_output: bool = False
    noise_mode: str = NOISE_MODES[0]
    variance_noise: VarianceNoise | None = None
