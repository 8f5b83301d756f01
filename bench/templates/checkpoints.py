"""Examples that need a checkpoint and ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping

from bench.templates.described import GREEN, PURPLE, YELLOW, Box, Group, Model, Template, group

__all__ = ["TEMPLATES"]

SD15 = Model(
    "v1-5-pruned-emaonly-fp16.safetensors",
    "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
)
NOOBAI_V = Model(
    "NoobAI-XL-Vpred-v1.0.safetensors",
    "https://huggingface.co/Laxhar/noobai-XL-Vpred-1.0/resolve/main/NoobAI-XL-Vpred-v1.0.safetensors",
)
LIGHTHOUSE = "a lighthouse on a cliff at night, starry sky, long exposure photograph"


def start(model: Model, positive: str, negative: str, *more: Box) -> Group:
    """Return the group with a checkpoint and its two prompts."""
    return group(
        "1  Checkpoint and prompt",
        (
            Box("model", "CheckpointLoaderSimple", {"ckpt_name": model.name}, model=model),
            Box("positive", "CLIPTextEncode", {"text": positive}, {"clip": "model.CLIP"}, "Positive prompt"),
            Box("negative", "CLIPTextEncode", {"text": negative}, {"clip": "model.CLIP"}, "Negative prompt"),
            *more,
        ),
    )


def picture() -> tuple[Box, ...]:
    """Return a picture of the user's and its latent."""
    return (
        Box("load", "LoadImage", {"image": "example.png"}),
        Box("encode", "VAEEncode", {}, {"pixels": "load.IMAGE", "vae": "model.VAE"}),
    )


def sample(latent: str, values: Mapping[str, object], schedule: str = "") -> Group:
    """Return the group with the sampler."""
    wires = {"model": "model.MODEL", "positive": "positive", "negative": "negative", "latent_image": latent}
    wires |= {"schedule": schedule} if schedule else {}
    return group("3  Sample" if schedule else "2  Sample", (Box("sample", "DDIMSample", values, wires),), color=PURPLE)


def saved(prefix: str, number: int) -> Group:
    """Return the group with the result."""
    return group(
        f"{number}  Picture",
        (
            Box("decode", "VAEDecode", {}, {"samples": "sample.latent", "vae": "model.VAE"}),
            Box("picture", "SaveImage", {"filename_prefix": prefix}, {"images": "decode"}),
        ),
        color=GREEN,
    )


def size(width: int, height: int) -> Box:
    """Return an empty latent of this size."""
    return Box("latent", "EmptyLatentImage", {"width": width, "height": height})


PROMPT = ("positive", "text", "What the picture shows")
NEGATIVE = ("negative", "text", "What it must not show")
SEED = ("sample", "seed", "Seed")

TEXT_TO_IMAGE = Template(
    "Text to image (checkpoint)",
    (
        start(SD15, LIGHTHOUSE, "blurry, low quality", size(512, 512)),
        sample("latent", {"seed": 42, "cfg": 7.5, "steps": 20}),
        saved("ddim_text_to_image", 3),
    ),
    (PROMPT, NEGATIVE, ("sample", "steps", "Steps"), ("sample", "cfg", "How firmly the prompt is followed"), SEED),
    ("picture",),
)

IMAGE_TO_IMAGE = Template(
    "Image to image (checkpoint)",
    (
        start(SD15, "an oil painting of the same scene, thick brush strokes", "blurry, low quality"),
        group("2  Picture", picture()),
        group(
            "3  Sample",
            (
                Box(
                    "sample",
                    "DDIMSample",
                    {"seed": 42, "cfg": 7.5, "steps": 20, "denoise": 0.6},
                    {"model": "model.MODEL", "positive": "positive", "negative": "negative", "latent_image": "encode"},
                ),
            ),
            color=PURPLE,
        ),
        saved("ddim_image_to_image", 4),
    ),
    (("load", "image", "The picture to start from"), PROMPT, NEGATIVE, ("sample", "denoise", "How much changes"), SEED),
    ("picture",),
)

INPAINT = Template(
    "Inpaint (checkpoint)",
    (
        start(SD15, "a small wooden boat", "blurry, low quality"),
        group(
            "2  Picture and mask",
            (
                *picture(),
                Box("mask", "SetLatentNoiseMask", {}, {"samples": "encode", "mask": "load.MASK"}),
            ),
        ),
        group(
            "3  Sample",
            (
                Box(
                    "sample",
                    "DDIMSample",
                    {"seed": 42, "cfg": 7.5, "steps": 25, "eta": 0.5},
                    {"model": "model.MODEL", "positive": "positive", "negative": "negative", "latent_image": "mask"},
                ),
            ),
            color=PURPLE,
        ),
        saved("ddim_inpaint", 4),
    ),
    (("load", "image", "The picture, with a mask"), PROMPT, NEGATIVE, SEED),
    ("picture",),
)

ZERO_SNR = Template(
    "SDXL v-prediction, zero SNR (checkpoint)",
    (
        start(NOOBAI_V, "a single candle in a pitch black room, dark", "low quality, worst quality", size(1024, 1024)),
        group(
            "2  Steps",
            (
                Box(
                    "schedule",
                    "DDIMSchedule",
                    {"steps": 28, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
                    {"model": "model.MODEL"},
                ),
            ),
            color=YELLOW,
        ),
        sample("latent", {"seed": 42, "cfg": 5.0, "guidance_rescale": 0.7}, "schedule.schedule"),
        saved("ddim_zero_snr", 4),
    ),
    (PROMPT, NEGATIVE, ("schedule", "steps", "Steps"), ("sample", "guidance_rescale", "Guidance rescale"), SEED),
    ("picture",),
)

CONFIG = """{
  "_class_name": "PNDMScheduler",
  "_diffusers_version": "0.6.0",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "num_train_timesteps": 1000,
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "trained_betas": null
}"""

FROM_CONFIG = Template(
    "Schedule from a config file (checkpoint)",
    (
        start(SD15, LIGHTHOUSE, "blurry, low quality", size(512, 512)),
        group(
            "2  Steps",
            (Box("schedule", "DDIMScheduleFromConfig", {"config": CONFIG}, {"model": "model.MODEL"}),),
            color=YELLOW,
        ),
        sample("latent", {"seed": 42, "cfg": 7.5}, "schedule.schedule"),
        saved("ddim_from_config", 4),
    ),
    (PROMPT, NEGATIVE, ("schedule", "steps", "Steps"), SEED),
    ("picture",),
)

TEMPLATES = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT, ZERO_SNR, FROM_CONFIG)
