"""Socket types and input definitions: every name, default, range and tooltip stands here once.

A node lists the inputs it wants by name; the same name means the same thing on every node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ddim import (
    BETA_SCHEDULES,
    INVERSION_METHODS,
    NOISE_PATHS,
    PREDICTION_TYPES,
    TIMESTEP_SPACINGS,
)
from .values import FROM_SCHEDULE, NOISE_MODES, X0_PROCESSING, SamplerSettings, VarianceNoise

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
    "NOISE_PRECISIONS",
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

NOISE_PRECISIONS = ("half", "full")


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
    # inversion and noise files
    "method": choice(
        INVERSION_METHODS,
        "variance_noise",
        "ddim: plain DDIM inversion, near for many steps. fixed_point: each step refined, much nearer. edict: exact, "
        "two coupled tracks, two model calls per step. variance_noise: exact at one call per step, records the noise "
        "of every step, and is the one for edits. All but the last are sampled at eta 0.",
    ),
    "noise_path": choice(
        NOISE_PATHS,
        NOISE_PATHS[0],
        "For variance_noise. cycle (CycleDiffusion) gives noise like that of an ordinary run: free edits. "
        "edit_friendly gives larger noise that holds on to the structure of the picture.",
        **_ADVANCED,
    ),
    "refinements": integer(
        4, 0, 100, "For fixed_point: how often each step may be improved. 0 is plain ddim.", **_ADVANCED
    ),
    "noise_precision": choice(
        NOISE_PRECISIONS,
        NOISE_PRECISIONS[0],
        "For variance_noise. half: the noise is rounded so that it can be stored in half the space; the picture still "
        "comes back exactly. full: no rounding.",
        **_ADVANCED,
    ),
    "filename_prefix": text("noise/ddim", "Where the file goes in the output folder; a number is added."),
    "precision": choice(
        NOISE_PRECISIONS,
        NOISE_PRECISIONS[0],
        "half: the noise in 16 bits, half the size; loses nothing if it was inverted with noise_precision half. "
        "full: as it is.",
    ),
    # interpolation
    "latent_a": socket(LATENT, "Noises to go through, one per picture of the batch; from DDIM Invert."),
    "latent_b": socket(
        LATENT,
        "Where to go from latent_a, picture by picture. Not connected: through the pictures of latent_a in turn.",
    ),
    "frames": integer(9, 1, 4096, "How many latents, both ends included."),
    "loop": switch(False, "Go back to the first, for an endless loop; the last frame is then not the first again."),
}


def inputs(*names: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The definitions of the named inputs, in this order."""
    return {name: _INPUTS[name] for name in names}
