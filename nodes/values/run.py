"""How a run steps and is guided, as a node's inputs say it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...ddim import DDIMError, GuidanceInterval, Inversion, Schedule, check_lambda
from .recorded import RecordedNoise
from .sockets import Conditioning

__all__ = [
    "FROM_MODEL",
    "FROM_SCHEDULE",
    "GUIDANCE_UNITS",
    "NOISE_LEVEL_LIMIT",
    "NOISE_MODES",
    "PROXIMAL_OFF",
    "SHARE",
    "X0_PROCESSING",
    "Guidance",
    "check_source",
    "SamplerSettings",
]

FROM_MODEL = "from model"
FROM_SCHEDULE = "from schedule"
X0_PROCESSING = (FROM_SCHEDULE, "none", "clip", "threshold")
NOISE_MODES = ("per image", "stream")
PROXIMAL_OFF = "off"
SHARE, LOG_SNR = "share of the run", "log-SNR"
GUIDANCE_UNITS = {SHARE: "share", LOG_SNR: "log_snr"}  # the core's name by that on the nodes
NOISE_LEVEL_LIMIT = 100.0  # a log-SNR at which an interval has no limit: pure noise, or a clean image


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
