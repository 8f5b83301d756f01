"""Socket types and input definitions: every name, default, range and tooltip stands here once.

A node lists the inputs it wants by name; the same name means the same thing on every node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..ddim import BETA_SCHEDULES, PREDICTION_TYPES, TIMESTEP_SPACINGS, DDIMError, Schedule

__all__ = [
    "CONDITIONING",
    "DDIM_SCHEDULE",
    "IMAGE",
    "LATENT",
    "MODEL",
    "SAMPLER",
    "SIGMAS",
    "VARIANCE_NOISE",
    "FROM_SCHEDULE",
    "X0_PROCESSING",
    "NOISE_MODES",
    "SamplerSettings",
    "VarianceNoise",
    "choice",
    "inputs",
    "integer",
    "number",
    "socket",
    "switch",
    "text",
]

MODEL = "MODEL"
CONDITIONING = "CONDITIONING"
LATENT = "LATENT"
IMAGE = "IMAGE"
SIGMAS = "SIGMAS"
SAMPLER = "SAMPLER"
DDIM_SCHEDULE = "DDIM_SCHEDULE"  # carries a ddim.Schedule
VARIANCE_NOISE = "VARIANCE_NOISE"  # carries a VarianceNoise

LEVEL_TOLERANCE = 1e-4  # alpha_bar closer than this is the same level: a float32 table against float64

FROM_SCHEDULE = "from schedule"
X0_PROCESSING = (FROM_SCHEDULE, "none", "clip", "threshold")
NOISE_MODES = ("per image", "stream")


@dataclass(frozen=True, eq=False)
class VarianceNoise:
    """The noise of every step of one run, and what it belongs to: the value on VARIANCE_NOISE sockets.

    Attributes:
        noise: z of DDIM equation (12), float32 CPU, shape ``(S, B, ...)``.
        schedule: the run's schedule.
        eta: the run's eta, in [0, 1].
    """

    noise: Tensor
    schedule: Schedule
    eta: float

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
        if abs(self.eta - eta) > 1e-6:
            raise DDIMError(
                f"variance_noise was made for eta {self.eta:g} and the run has eta {eta:g}; set eta to {self.eta:g}"
            )
        if tuple(self.noise.shape[1:]) != tuple(shape):
            raise DDIMError(
                f"variance_noise was made for latents of shape {tuple(self.noise.shape[1:])} and the run "
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


def socket(kind: str, tooltip: str) -> tuple[str, dict[str, Any]]:
    """An input that takes a link."""
    return kind, {"tooltip": tooltip}


def integer(default: int, low: int, high: int, tooltip: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """A whole number in ``[low, high]``."""
    return "INT", {"default": default, "min": low, "max": high, "step": 1, "tooltip": tooltip, **options}


def number(
    default: float, low: float, high: float, step: float, tooltip: str, **options: Any
) -> tuple[str, dict[str, Any]]:
    """A number in ``[low, high]``, kept as typed: the editor rounds to nothing coarser than a millionth."""
    return "FLOAT", {
        "default": default,
        "min": low,
        "max": high,
        "step": step,
        "round": 1e-6,
        "tooltip": tooltip,
        **options,
    }


def choice(options: Sequence[str], default: str, tooltip: str, **more: Any) -> tuple[list[str], dict[str, Any]]:
    """One of several names."""
    return list(options), {"default": default, "tooltip": tooltip, **more}


def switch(default: bool, tooltip: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """On or off."""
    return "BOOLEAN", {"default": default, "tooltip": tooltip, **options}


def text(default: str, tooltip: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """A line of text, or several with ``multiline=True``."""
    return "STRING", {"default": default, "tooltip": tooltip, **options}


_ADVANCED = {"advanced": True}

_INPUTS: dict[str, tuple[Any, dict[str, Any]]] = {
    # links
    "model": socket(MODEL, "The diffusion model: epsilon, v-prediction or x0 (SD1.x, SD2.x, SDXL and their like)."),
    "positive": socket(CONDITIONING, "What the picture should show."),
    "negative": socket(CONDITIONING, "What guidance moves away from; for the demo model, an empty prompt."),
    "latent_image": socket(
        LATENT,
        "Where to start: an empty latent for text to image, an encoded picture for image "
        "to image. A noise mask restricts the change to the masked area.",
    ),
    "schedule": socket(DDIM_SCHEDULE, "Which timesteps to visit, and how noisy each is: from DDIM Schedule."),
    "variance_noise": socket(
        VARIANCE_NOISE,
        "The noise of every step, from an inversion or a noise file, in place of "
        "random noise. Needs the schedule and the eta that it was made with.",
    ),
    # the plan
    "steps": integer(20, 1, 10000, "How many times the model is called. Exactly this many steps run."),
    "timestep_spacing": choice(
        TIMESTEP_SPACINGS,
        "trailing",
        "Which timesteps are visited. trailing starts at the very last one and is right for few "
        "steps and for zero SNR; leading is the original and leaves the last ones out; linspace "
        "has both ends; quad has more steps where there is little noise.",
    ),
    "denoise": number(
        1.0,
        0.01,
        1.0,
        0.01,
        "Image to image: how much of the schedule to run. 0.5 starts half way, "
        "with the same number of steps; 1.0 starts from pure noise.",
    ),
    "start_step": integer(
        0, 0, 10000, "First step to run, counted from 0, for splitting a run between samplers.", **_ADVANCED
    ),
    "end_step": integer(
        10000, 1, 10000, "Run up to this step, not including it. Above the number of steps: to the end.", **_ADVANCED
    ),
    "timesteps": text(
        "",
        "Your own timesteps, from high to low, separated by commas, e.g. 999, 750, 500, 250. In use, "
        "they replace steps, spacing and offset.",
        **_ADVANCED,
    ),
    "steps_offset": integer(
        0, 0, 9999, "Added to every timestep of leading spacing. Stable Diffusion's original code uses 1.", **_ADVANCED
    ),
    "parity": choice(
        ("exact", "diffusers"),
        "exact",
        "exact steps to the next timestep of the list. diffusers repeats that library's rounding and its "
        "guess of the next timestep, for pictures that must be made again.",
        **_ADVANCED,
    ),
    # the noise levels
    "prediction_type": choice(
        PREDICTION_TYPES,
        "epsilon",
        "What the network predicts. epsilon, the default, leaves it to the MODEL; v_prediction "
        "and sample are taken at their word, even where the MODEL was loaded as epsilon.",
    ),
    "rescale_betas_zero_snr": switch(
        False,
        "Make the last timestep pure noise (zero terminal SNR), for models trained "
        "that way. Cures washed-out tones: very dark and very bright pictures "
        "become possible. Needs v_prediction or sample.",
    ),
    "beta_schedule": choice(
        BETA_SCHEDULES,
        "scaled_linear",
        "How noise grows over the training timesteps. scaled_linear is Stable Diffusion's. With a "
        "MODEL connected, the MODEL's own levels are used.",
        **_ADVANCED,
    ),
    "beta_start": number(0.00085, 0.0, 1.0, 0.00001, "The first beta. Stable Diffusion: 0.00085.", **_ADVANCED),
    "beta_end": number(0.012, 0.0, 1.0, 0.0001, "The last beta. Stable Diffusion: 0.012.", **_ADVANCED),
    "num_train_timesteps": integer(1000, 1, 100000, "How many noise levels the model was trained with.", **_ADVANCED),
    "set_alpha_to_one": switch(
        True, "End at a clean picture. Off: end at the level of timestep 0, which leaves a trace of noise.", **_ADVANCED
    ),
    # the run
    "seed": integer(
        0,
        0,
        0xFFFFFFFFFFFFFFFF,
        "Of the initial noise (the same numbers as KSampler's) and of the step noise.",
        control_after_generate=True,
    ),
    "cfg": number(7.5, 0.0, 100.0, 0.1, "Guidance scale: 1 is the positive prompt alone, higher follows it more."),
    "guidance_rescale": number(
        0.0,
        0.0,
        1.0,
        0.01,
        "Bring the contrast that guidance adds back to the prompt's own. "
        "0.7 is right for zero SNR models with a high cfg; 0 is off.",
    ),
    "eta": number(0.0, 0.0, 1.0, 0.01, "Noise added in each step: 0 is deterministic DDIM, 1 is DDPM."),
    "add_noise": switch(
        True,
        "Off: the latent is taken as it is, already noisy, from an inversion or from the first half of a split run.",
        **_ADVANCED,
    ),
    "x0_processing": choice(
        X0_PROCESSING,
        FROM_SCHEDULE,
        "What is done to the predicted clean picture in each step. clip and threshold are for "
        "pixel models; latents want none. 'from schedule' does what the schedule's config says.",
        **_ADVANCED,
    ),
    "clip_sample_range": number(1.0, 0.0, 1000.0, 0.1, "Limit of clip.", **_ADVANCED),
    "dynamic_thresholding_ratio": number(
        0.995, 0.0, 1.0, 0.001, "threshold: share of values that stay inside.", **_ADVANCED
    ),
    "sample_max_value": number(
        1.0, 1.0, 1000.0, 0.1, "threshold: the largest limit; at 1 it is plain clipping.", **_ADVANCED
    ),
    "use_clipped_model_output": switch(
        False, "After clip or threshold, derive epsilon again from the clipped picture (GLIDE's way).", **_ADVANCED
    ),
    "noise_mode": choice(
        NOISE_MODES,
        NOISE_MODES[0],
        "Step noise, for eta above 0. 'per image': an image gets the same noise alone and in a batch, "
        "on any device. 'stream': one generator for the batch, seeded with seed + 1, as stock "
        "samplers draw on the CPU.",
        **_ADVANCED,
    ),
}


def inputs(*names: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The definitions of the named inputs, in this order."""
    return {name: _INPUTS[name] for name in names}
