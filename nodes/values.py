"""The values that travel on the nodes' sockets, besides the core's own Schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from ..ddim import DDIMError, GuidanceInterval, Inversion, Schedule, check_lambda

__all__ = [
    "FROM_MODEL",
    "FROM_SCHEDULE",
    "GUIDANCE_UNITS",
    "NOISE_LEVEL_LIMIT",
    "NOISE_MODES",
    "PROXIMAL_OFF",
    "SHARE",
    "X0_PROCESSING",
    "Conditioning",
    "Guidance",
    "Latent",
    "Model",
    "RecordedNoise",
    "check_source",
    "SamplerSettings",
]

Model: TypeAlias = object  # a MODEL: opaque to the nodes, only the backend that made it looks inside
Conditioning: TypeAlias = list[list[Any]]  # CONDITIONING: [[tensor, {option: value}], ...]
Latent: TypeAlias = dict[str, Any]  # LATENT: {"samples": (B, C, ...), ...}; unknown keys are passed on

LEVEL_TOLERANCE = 1e-4  # alpha_bar values closer than this are the same level: a float32 table against float64
ETA_TOLERANCE = 1e-6

FROM_MODEL = "from model"
FROM_SCHEDULE = "from schedule"
X0_PROCESSING = (FROM_SCHEDULE, "none", "clip", "threshold")
NOISE_MODES = ("per image", "stream")
PROXIMAL_OFF = "off"
SHARE, LOG_SNR = "share of the run", "log-SNR"
GUIDANCE_UNITS = {SHARE: "share", LOG_SNR: "log_snr"}  # the core's name by that on the nodes
NOISE_LEVEL_LIMIT = 100.0  # a log-SNR at which an interval has no limit: pure noise, or a clean image


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
                "use the schedule it was made with"
            )
        for step, (expected, level) in enumerate(zip(recorded, alpha_bars, strict=True)):
            if abs(expected - level) > LEVEL_TOLERANCE:
                raise DDIMError(
                    f"variance_noise was made for another schedule: alpha_bar at step {step} was {expected:.6g} and is "
                    f"{level:.6g}; use the schedule it was made with"
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


@dataclass(frozen=True)
class Guidance:
    """How the two predictions of a step are combined, and in which steps.

    Attributes:
        mode: One of ``GUIDANCE_MODES``.
        interval: Where there is guidance; None for everywhere.
    """

    mode: str = "cfg"
    interval: GuidanceInterval | None = None

    @classmethod
    def of(cls, cfg: float, mode: str, start: float, end: float, unit: str, *, rederive: bool = False) -> Guidance:
        """Read a node's inputs.

        Args:
            cfg: The guidance scale.
            mode: One of ``GUIDANCE_MODES``.
            start: Of the interval.
            end: Of the interval.
            unit: A key of :data:`GUIDANCE_UNITS`.
            rederive: Whether epsilon is derived again from the processed x_0.

        Raises:
            DDIMError: For a cfg that is no lambda where it has to be one, or an interval that is upside down.
        """
        if mode == "cfg++":
            check_lambda(cfg)
            if rederive:
                raise DDIMError(
                    "use_clipped_model_output takes epsilon from the guided image and guidance_mode cfg++ from the "
                    "unconditional one: turn use_clipped_model_output off, or use guidance_mode cfg"
                )
        if unit == LOG_SNR:
            start, end = (math.copysign(math.inf, x) if abs(x) >= NOISE_LEVEL_LIMIT else x for x in (start, end))
        interval = GuidanceInterval(start, end, GUIDANCE_UNITS[unit])
        everywhere = unit == SHARE and (start, end) == (0.0, 1.0)
        return cls(mode, None if everywhere else interval)

    def unguided(self, schedule: Schedule) -> frozenset[int]:
        """Return the timesteps of a schedule at which the positive prompt is used alone."""
        if self.interval is None:
            return frozenset()
        return frozenset(schedule.plan.timesteps) - self.interval.timesteps(schedule)


@dataclass(frozen=True)
class SamplerSettings:
    """How a run steps: everything in DDIM that is neither the schedule nor the model.

    Attributes:
        eta: In [0, 1].
        x0_processing: One of :data:`X0_PROCESSING`.
        clip_sample_range: The limit of clipping, in model units.
        dynamic_thresholding_ratio: The quantile of dynamic thresholding.
        sample_max_value: The largest threshold, at least 1.
        use_clipped_model_output: Derive epsilon again from the processed x_0.
        noise_mode: One of :data:`NOISE_MODES`.
        variance_noise: Recorded step noise, used instead of random noise, or None.
    """

    eta: float = 0.0
    x0_processing: str = FROM_SCHEDULE
    clip_sample_range: float = 1.0
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    use_clipped_model_output: bool = False
    noise_mode: str = NOISE_MODES[0]
    variance_noise: RecordedNoise | None = None

    @property
    def inversion(self) -> Inversion | None:
        """The inversion that the latent comes from, if there is one: then the latent is already noisy."""
        return None if self.variance_noise is None else self.variance_noise.inversion


def check_source(source: Conditioning | None, proximal: str, settings: SamplerSettings, guidance: Guidance) -> None:
    """Check that the prompt of an inversion, and proximal guidance with it, have something to act on.

    Args:
        source: The prompt that the image was inverted with, or None.
        proximal: :data:`PROXIMAL_OFF`, or one of ``PROXIMAL_OPERATORS``.
        settings: How the run steps.
        guidance: In which steps the prompts are combined.

    Raises:
        DDIMError: If the run does not start from an inversion, there is no prompt, or there are steps without guidance.
    """
    if source is None and proximal == PROXIMAL_OFF:
        return
    if settings.inversion is None:
        raise DDIMError(
            "source and proximal edit an inverted image, and this run has none: connect latent and variance_noise of "
            "DDIM Invert, whatever its method, or set proximal to off and disconnect source"
        )
    if source is None:
        raise DDIMError(
            f"proximal {proximal} compares positive with the prompt that the image was inverted with: connect that to "
            "source, or set proximal to off"
        )
    if proximal != PROXIMAL_OFF and guidance.interval is not None:
        raise DDIMError(
            "proximal acts in every step, so guidance_start and guidance_end must be 0 and 1 share of the run; leave "
            "them as they are, or set proximal to off"
        )
