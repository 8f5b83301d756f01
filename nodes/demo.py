"""The demo model as nodes: a prompt of digits, pictures of 32x32 pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ddim import DDIMError, SchedulerConfig
from .bridge import model_from_network
from .sockets import CONDITIONING, IMAGE, LATENT, MODEL, integer, socket, text

__all__ = ["DDIMDemoDecode", "DDIMDemoEncode", "DDIMDemoLatent", "DDIMDemoModel", "DDIMDemoPicture", "DDIMDemoPrompt"]

CATEGORY = "DDIM/demo"
SIZE = 32  # pixels per side
SCANS = 8  # of each digit
LABELS = 11  # ten digits, and "no class" for guidance


class DDIMDemoModel:
    """Loads the small diffusion model that comes with the pack."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads the small model of handwritten digits that comes with these nodes: 32x32 pixels, v-prediction, zero "
        "terminal SNR. Runs in seconds without a GPU; every sampler can use it."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "example model", "mnist"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The demo model. Its prompts come from DDIM Demo Prompt, its latents from DDIM Demo Latent.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def load(self) -> tuple[Any]:
        from ..demo import load_demo_model  # here, so that the pack imports fast

        demo = load_demo_model()
        return (model_from_network(demo.network, SchedulerConfig(**demo.scheduler_config)),)


class DDIMDemoPrompt:
    """Which digit each picture of a batch should show."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The prompt of the demo model: one digit for each picture of the batch, e.g. 0123456789. Where the batch is "
        "larger, the digits repeat. Empty is 'no digit in particular': the negative prompt of guidance."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "prompt", "class"]
    RETURN_TYPES = (CONDITIONING,)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("One row of label weights per digit.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        tooltip = "Digits 0 to 9, one per picture; spaces and commas are ignored. Empty: no digit in particular."
        return {"required": {"digits": text("0123456789", tooltip)}}

    def encode(self, digits: str) -> tuple[list]:
        labels = _labels(digits) or [LABELS - 1]
        rows = F.one_hot(torch.tensor(labels), LABELS).float()
        return ([[rows[:, None], {}]],)


class DDIMDemoLatent:
    """Where sampling with the demo model starts."""

    CATEGORY = CATEGORY
    DESCRIPTION = "An empty batch for the demo model: 32x32 pixels, three colours."
    SEARCH_ALIASES = ["ddim demo", "empty latent", "batch size"]
    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Zeros; sampling starts from noise of this size.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"batch_size": integer(10, 1, 4096, "How many pictures.")}}

    def make(self, batch_size: int) -> tuple[dict[str, Any]]:
        return ({"samples": torch.zeros(batch_size, 3, SIZE, SIZE)},)


class DDIMDemoPicture:
    """Real digits, to be inverted and edited."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Scans of handwritten digits that the demo model has never seen, 32x32 pixels: to invert, reconstruct, edit "
        "and go between. Pictures of your own come in through Load Image."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "example picture", "mnist", "load image"]
    RETURN_TYPES = (IMAGE,)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("One picture per digit, for DDIM Demo Encode.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        tooltip = (
            "Digits 0 to 9, one per picture; spaces and commas are ignored. The same digit again is its next scan."
        )
        return {
            "required": {
                "digits": text("3", tooltip),
                "scan": integer(0, 0, SCANS - 1, "Which of the eight scans of each digit comes first."),
            }
        }

    def load(self, digits: str, scan: int) -> tuple[Tensor]:
        from ..demo import held_out_picture  # here, so that the pack imports fast

        labels = _labels(digits)
        if not labels:
            raise DDIMError("digits must name at least one digit, got none")
        again = [labels[:i].count(label) for i, label in enumerate(labels)]
        chosen = [(label, (scan + more) % SCANS) for label, more in zip(labels, again, strict=True)]
        return (torch.stack([held_out_picture(*one) for one in chosen]).permute(0, 2, 3, 1).contiguous(),)


class DDIMDemoEncode:
    """Pictures to the demo model's latents."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Turns pictures into the demo model's latents: resized to 32x32, values from -1 to 1."
    SEARCH_ALIASES = ["ddim demo", "encode", "image to latent", "vae"]
    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("For image to image and inversion with the demo model.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": socket(IMAGE, "Pictures of any size; square ones keep their shape.")}}

    def encode(self, image: Tensor) -> tuple[dict[str, Any]]:
        if image.ndim != 4 or image.shape[-1] < 3:
            raise DDIMError(f"image must be (batch, height, width, 3 colours), got {tuple(image.shape)}")
        pixels = image[..., :3].permute(0, 3, 1, 2).float()
        if pixels.shape[-2:] != (SIZE, SIZE):
            pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        return ({"samples": pixels * 2 - 1},)


class DDIMDemoDecode:
    """The demo model's latents to pictures, one by one or as a grid."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Turns the demo model's latents into pictures: one each, or all in one grid, enlarged without blur so that 32 "
        "pixels can be seen."
    )
    SEARCH_ALIASES = ["ddim demo", "decode", "latent to image", "grid", "vae"]
    RETURN_TYPES = (IMAGE,)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("For Save Image and Preview Image.",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "latent": socket(LATENT, "From DDIM Sample or another sampler."),
                "columns": integer(0, 0, 100, "0: one picture per latent. Otherwise one grid with this many in a row."),
                "scale": integer(4, 1, 32, "How many times larger each pixel is drawn."),
            }
        }

    def decode(self, latent: dict[str, Any], columns: int, scale: int) -> tuple[Tensor]:
        samples = latent["samples"]
        if samples.ndim != 4 or samples.shape[1] != 3:
            raise DDIMError(
                f"latent must be the demo model's, (batch, 3, height, width), got {tuple(samples.shape)}; latents of "
                "other models need their own VAE Decode"
            )
        pictures = (samples.float() / 2 + 0.5).clamp(0, 1)
        if columns:
            pictures = _grid(pictures, columns)
        enlarged = pictures.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
        return (enlarged.permute(0, 2, 3, 1).contiguous(),)


def _labels(digits: str) -> list[int]:
    """The digits of a text.

    Raises:
        DDIMError: for anything but digits, spaces and commas.
    """
    wanted = "".join(digits.replace(",", " ").split())
    bad = sorted(set(wanted) - set("0123456789"))
    if bad:
        raise DDIMError(f"digits must be 0 to 9, spaces or commas, got {bad[0]!r} in {digits!r:.60}")
    return [int(digit) for digit in wanted]


def _grid(pictures: Tensor, columns: int) -> Tensor:
    """(B, C, H, W) to one picture (1, C, rows * H, columns * W), row by row; missing ones are black."""
    count, channels, height, width = pictures.shape
    rows = math.ceil(count / columns)
    missing = pictures.new_zeros(rows * columns - count, channels, height, width)
    laid = torch.cat([pictures, missing]).reshape(rows, columns, channels, height, width)
    return laid.permute(2, 0, 3, 1, 4).reshape(1, channels, rows * height, columns * width)
