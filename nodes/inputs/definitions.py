"""Every input that nodes share: its type, default, range and tooltip is defined once.

A node lists its inputs by name; the same name means the same on every node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...ddim import BETA_SCHEDULES, INVERSION_METHODS, NOISE_PATHS, PREDICTION_TYPES, TIMESTEP_SPACINGS
from ..values import FROM_MODEL, FROM_SCHEDULE, NOISE_MODES, X0_PROCESSING
from .conditions import unless_linked
from .edit import EDIT_INPUTS
from .guidance import GUIDANCE_INPUTS
from .kinds import (
    CONDITIONING,
    DDIM_SCHEDULE,
    LATENT,
    MODEL,
    VARIANCE_NOISE,
    Input,
    choice,
    integer,
    number,
    socket,
    switch,
    text,
)

__all__ = ["inputs", "planned_here"]

NOISE_PRECISIONS = ("half", "full")


def inputs(*names: str) -> dict[str, Input]:
    """Return the definitions of the named inputs, in this order."""
    return {name: _INPUTS[name] for name in names}


def planned_here(*names: str, unless: Sequence[str] = ("schedule",)) -> dict[str, Input]:
    """Return inputs of a node that plans its run itself, over the MODEL's own levels, where no schedule is connected.

    Args:
        names: Of ``schedule``, ``steps``, ``timestep_spacing`` and ``denoise``.
        unless: The links of the node that bring a schedule.
    """
    found = {
        name: (kind, {**options, "tooltip": _planned(name, options)})
        for name, (kind, options) in inputs(*names).items()
    }
    links = {name: found.pop(name) for name in names if name == "schedule"}
    return {**links, **unless_linked(found, *unless)}


def _planned(name: str, options: Mapping[str, Any]) -> str:
    if name == "schedule":
        return (
            "A schedule with all its settings, from DDIM Schedule. If none is connected, the node plans its own "
            "steps over the MODEL's noise levels."
        )
    return f"{options['tooltip']} Not used if a schedule is connected."


_INPUTS: dict[str, Input] = {
    # links
    "model": socket(
        MODEL,
        "The diffusion model: epsilon, v-prediction or x0 (SD1.x, SD2.x, SDXL), flow (Flux, SD3, Wan) or EDM (SVD).",
    ),
    "positive": socket(CONDITIONING, "What the image should show."),
    "negative": socket(CONDITIONING, "What guidance moves away from; for the demo model, an empty prompt."),
    "latent_image": socket(
        LATENT,
        "Where to start: an empty latent for text to image, an encoded image for image to image. A noise mask "
        "restricts the change to the masked area.",
    ),
    "schedule": socket(DDIM_SCHEDULE, "Which timesteps to visit, and how noisy each of them is; from DDIM Schedule."),
    "variance_noise": socket(
        VARIANCE_NOISE,
        "What an inversion recorded, from DDIM Invert or a noise file. The run takes its schedule and eta from here, "
        "uses the recorded noise, and adds none to the latent.",
    ),
    # the plan
    "steps": integer(20, 1, 10000, "How many times the model is called. Exactly this many steps run."),
    "timestep_spacing": choice(
        TIMESTEP_SPACINGS,
        "trailing",
        "Which timesteps are visited. trailing starts at the very last timestep: use it for few steps and for zero "
        "SNR. leading is the original DDIM and leaves out the last timesteps. linspace includes both ends. quad takes "
        "more steps where there is little noise. ays and ays_sdxl are Align Your Steps, made for 5 to 20 steps of "
        "Stable Diffusion 1.5 and SDXL.",
    ),
    "denoise": number(
        1.0,
        0.01,
        1.0,
        0.01,
        "Image to image: how much of the schedule to run. 0.5 starts half way, with the same number of steps; 1.0 "
        "starts from pure noise.",
    ),
    "start_step": integer(
        0, 0, 10000, "First step to run, counted from 0, for splitting a run between samplers.", advanced=True
    ),
    "end_step": integer(
        10000, 1, 10000, "Stop before this step. A number above the number of steps runs to the end.", advanced=True
    ),
    "timesteps": text(
        "",
        "Your own timesteps, from high to low, separated by commas, e.g. 999, 750, 500, 250. If given, they replace "
        "steps, spacing and offset. For a flow or EDM model they count the entries of its own table, from 0.",
        advanced=True,
    ),
    "steps_offset": integer(
        0,
        0,
        9999,
        "Added to every timestep of leading spacing. Stable Diffusion's original code uses 1.",
        advanced=True,
    ),
    "parity": choice(
        ("exact", "diffusers"),
        "exact",
        "exact steps to the next timestep of the list. diffusers repeats that library's rounding and its guess of the "
        "next timestep, to reproduce existing images.",
        advanced=True,
    ),
    # the noise levels
    "prediction_type": choice(
        (FROM_MODEL, *PREDICTION_TYPES),
        FROM_MODEL,
        "What the network predicts. from model: what the MODEL of the run says, whether it is connected here or not. "
        "The others override it, for a MODEL that was loaded as the wrong type.",
    ),
    "rescale_betas_zero_snr": switch(
        False,
        "Make the last timestep pure noise (zero terminal SNR), for models trained that way. Allows very dark and very "
        "bright images instead of washed-out ones. Needs a MODEL that predicts v or x0.",
    ),
    "beta_schedule": choice(
        BETA_SCHEDULES,
        "scaled_linear",
        "How noise grows over the training timesteps. Stable Diffusion uses scaled_linear. With a MODEL connected, the "
        "MODEL's own levels are used.",
        advanced=True,
    ),
    "beta_start": number(0.00085, 0.0, 1.0, 0.00001, "The first beta. Stable Diffusion: 0.00085.", advanced=True),
    "beta_end": number(0.012, 0.0, 1.0, 0.0001, "The last beta. Stable Diffusion: 0.012.", advanced=True),
    "num_train_timesteps": integer(1000, 1, 100000, "How many noise levels the model was trained with.", advanced=True),
    "set_alpha_to_one": switch(
        True, "End at a clean image. Off: end at the level of timestep 0, which leaves a little noise.", advanced=True
    ),
    # the run
    "seed": integer(
        0,
        0,
        0xFFFFFFFFFFFFFFFF,
        "Seed of the initial noise (the same noise as KSampler's) and of the step noise.",
        control_after_generate=True,
    ),
    "cfg": number(7.5, 0.0, 100.0, 0.1, "Guidance scale: 1 uses the positive prompt alone, higher follows it more."),
    "guidance_rescale": number(
        0.0,
        0.0,
        1.0,
        0.01,
        "Reduce the contrast that guidance adds. Use 0.7 for zero SNR models with a high cfg; 0 is off.",
    ),
    "eta": number(
        0.0,
        0.0,
        1.0,
        0.01,
        "Noise added in each step: 0 is deterministic DDIM, 1 is DDPM. It works for flow models too, where "
        "stock samplers define eta differently.",
    ),
    "add_noise": switch(
        True,
        "Add the initial noise. Turn it off if the latent is noisy already, as after the first half of a "
        "split run. A latent from DDIM Invert never gets noise.",
        advanced=True,
    ),
    "x0_processing": choice(
        X0_PROCESSING,
        FROM_SCHEDULE,
        "What is done to the predicted clean image in each step. clip and threshold are for pixel models; latents need "
        "none. 'from schedule' does what the schedule's config says.",
        advanced=True,
    ),
    "clip_sample_range": number(1.0, 0.0, 1000.0, 0.1, "For clip: the limit.", advanced=True),
    "dynamic_thresholding_ratio": number(
        0.995, 0.0, 1.0, 0.001, "For threshold: the share of values that stay within the limit.", advanced=True
    ),
    "sample_max_value": number(
        1.0, 1.0, 1000.0, 0.1, "For threshold: the largest limit; at 1 it is plain clipping.", advanced=True
    ),
    "use_clipped_model_output": switch(
        False, "After clip or threshold, derive epsilon again from the clipped image (as GLIDE does).", advanced=True
    ),
    "noise_mode": choice(
        NOISE_MODES,
        NOISE_MODES[0],
        "Step noise, for eta above 0. 'per image': an image gets the same noise alone and in a batch, on any device. "
        "'stream': one generator for the batch, seeded with seed + 1, as stock samplers draw on the CPU.",
        advanced=True,
    ),
    **GUIDANCE_INPUTS,
    **EDIT_INPUTS,
    # fitting
    "grid": integer(
        60,
        2,
        1000,
        "Steps of the long run that is imitated. It is more exact than DDIM: 60 are nearer to the solution than 250 "
        "steps of DDIM. More is slower.",
        advanced=True,
    ),
    "images": integer(
        4, 1, 64, "How many noises to fit to at once. With more of them, the steps suit other seeds better."
    ),
    # inversion and noise files
    "method": choice(
        INVERSION_METHODS,
        "variance_noise",
        "variance_noise: exact, one model call per step, records the noise of every step; use it for edits. edict: "
        "exact, two coupled tracks, two model calls per step. bdia: exact, two neighbouring samples, one per step. "
        "ddim: plain DDIM inversion, close with many steps. fixed_point: each step refined, much closer.",
    ),
    "noise_path": choice(
        NOISE_PATHS,
        NOISE_PATHS[0],
        "For variance_noise. cycle (CycleDiffusion) gives noise like that of an ordinary run: free edits. "
        "edit_friendly gives larger noise that preserves the structure of the image.",
        advanced=True,
    ),
    "refinements": integer(
        4, 0, 100, "For fixed_point: how often each step may be refined. 0 is plain ddim.", advanced=True
    ),
    "noise_precision": choice(
        NOISE_PRECISIONS,
        NOISE_PRECISIONS[0],
        "For variance_noise. half: the noise is rounded so that its file can be half the size; the image still comes "
        "back exactly. full: no rounding.",
        advanced=True,
    ),
    "filename_prefix": text("noise/ddim", "Where the file goes in the output folder; a number is added."),
    "precision": choice(
        NOISE_PRECISIONS,
        NOISE_PRECISIONS[0],
        "half: 16-bit noise, half the size; lossless if it was inverted with noise_precision half. full: unchanged.",
    ),
    # interpolation
    "latent_a": socket(LATENT, "The noises to interpolate, one per image of the batch; from DDIM Invert."),
    "latent_b": socket(
        LATENT,
        "The other end, one per image of latent_a. Not connected: the path goes through the images of latent_a in "
        "turn.",
    ),
    "frames": integer(9, 1, 4096, "How many latents, including both ends."),
    "loop": switch(False, "Return to the first latent, for an endless loop; the last frame does not repeat the first."),
}
