"""The demo model as nodes: a prompt of digits, images of 32x32 pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ddim import DDIMError, SchedulerConfig, make_schedule
from .backend import current
from .inputs import CONDITIONING, IMAGE, LATENT, MODEL, InputTypes, choice, integer, socket, text
from .values import Conditioning, Latent, Model

__all__ = ["DDIMDemoDecode", "DDIMDemoEncode", "DDIMDemoLatent", "DDIMDemoModel", "DDIMDemoPicture", "DDIMDemoPrompt"]

CATEGORY = "DDIM/demo"
SIZE = 32  # pixels per side
SCANS = 8  # of each digit
LABELS = 11  # ten digits, and "no class" for guidance
SAMPLED_AS = ("v_prediction", "flow")

SEPARATORS = "spaces and commas are ignored"

WHOLE = "everything"
_ALL, _FIRST, _SECOND = slice(None), slice(SIZE // 2), slice(SIZE // 2, None)
PARTS = {  # rows and columns of the part that is painted again
    WHOLE: (_ALL, _ALL),
    "upper half": (_FIRST, _ALL),
    "lower half": (_SECOND, _ALL),
    "left half": (_ALL, _FIRST),
    "right half": (_ALL, _SECOND),
}


class DDIMDemoModel:
    """Loads the small diffusion model that comes with the pack."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads the small model of handwritten digits that comes with these nodes: 32x32 pixels, v-prediction, zero "
        "terminal SNR. Runs in seconds without a GPU; every sampler can use it. As a flow model it shows how Flux or "
        "SD3 behave."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "example model", "mnist"]
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The demo model. Its prompts come from DDIM Demo Prompt, its latents from DDIM Demo Latent.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        tooltip = (
            "v_prediction: as it was trained. flow: the same network behind a change of time and scale, as a flow "
            "model with the levels of SD3 at shift 1."
        )
        return {"required": {}, "optional": {"sampled_as": choice(SAMPLED_AS, SAMPLED_AS[0], tooltip)}}

    def load(self, sampled_as: str = SAMPLED_AS[0]) -> tuple[Model]:
        from ..demo import FlowNetwork, load_demo_model  # here, so that importing the pack is fast

        demo = load_demo_model()
        config = SchedulerConfig(**demo.scheduler_config)
        if sampled_as == "flow":
            alpha_bar = make_schedule(1, config).noise.alpha_bar
            return (current().flow_model_from_network(FlowNetwork(demo.network, alpha_bar)),)
        return (current().model_from_network(demo.network, config),)


class DDIMDemoPrompt:
    """The digit that each image of a batch should show."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The prompt of the demo model: one digit for each image of the batch, e.g. 0123456789. If the batch is larger, "
        "the digits repeat. Empty means no digit in particular: the negative prompt for guidance."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "prompt", "class"]
    RETURN_TYPES = (CONDITIONING,)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("One row of label weights per digit.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        tooltip = f"Digits 0 to 9, one per image; {SEPARATORS}. Empty: no digit in particular."
        return {"required": {}, "optional": {"digits": text("0123456789", tooltip)}}

    def encode(self, digits: str = "0123456789") -> tuple[Conditioning]:
        labels = _labels(digits) or [LABELS - 1]
        rows = F.one_hot(torch.tensor(labels), LABELS).float()
        return ([[rows[:, None], {}]],)


class DDIMDemoLatent:
    """An empty latent for the demo model."""

    CATEGORY = CATEGORY
    DESCRIPTION = "An empty batch for the demo model: 32x32 pixels, three colours (RGB)."
    SEARCH_ALIASES = ["ddim demo", "empty latent", "batch size"]
    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Zeros; sampling starts from noise of this size.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {"required": {}, "optional": {"batch_size": integer(10, 1, 4096, "How many images.")}}

    def make(self, batch_size: int = 10) -> tuple[Latent]:
        return ({"samples": torch.zeros(batch_size, 3, SIZE, SIZE)},)


class DDIMDemoPicture:
    """Scans of real digits, to be inverted and edited."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Scans of handwritten digits that the demo model was not trained on, 32x32 pixels: to invert, reconstruct, "
        "edit and interpolate. Use Load Image for your own images."
    )
    SEARCH_ALIASES = ["ddim demo", "digits", "example picture", "mnist", "load image"]
    RETURN_TYPES = (IMAGE,)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("One image per digit, for DDIM Demo Encode.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        tooltip = f"Digits 0 to 9, one per image; {SEPARATORS}. A repeated digit gives its next scan."
        return {
            "required": {},
            "optional": {
                "digits": text("3", tooltip),
                "scan": integer(0, 0, SCANS - 1, "Which of the eight scans of a digit comes first."),
            },
        }

    def load(self, digits: str = "3", scan: int = 0) -> tuple[Tensor]:
        from ..demo import held_out_picture  # here, so that importing the pack is fast

        labels = _labels(digits)
        if not labels:
            raise DDIMError("digits must name at least one digit, got none")
        repeats = [labels[:i].count(label) for i, label in enumerate(labels)]
        scans = [
            held_out_picture(label, (scan + repeat) % SCANS) for label, repeat in zip(labels, repeats, strict=True)
        ]
        return (torch.stack(scans).permute(0, 2, 3, 1).contiguous(),)


class DDIMDemoEncode:
    """Images to the demo model's latents."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Turns images into the demo model's latents: resized to 32x32, values from -1 to 1. Can mark a part of them "
        "for inpainting."
    )
    SEARCH_ALIASES = ["ddim demo", "encode", "image to latent", "vae"]
    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("For image to image and inversion with the demo model.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        tooltip = "Which part of each picture a sampler paints again; the rest comes back as it is."
        return {
            "required": {"image": socket(IMAGE, "Images of any size; square ones keep their shape.")},
            "optional": {"repaint": choice(tuple(PARTS), WHOLE, tooltip)},
        }

    def encode(self, image: Tensor, repaint: str = WHOLE) -> tuple[Latent]:
        if image.ndim != 4 or image.shape[-1] < 3:
            raise DDIMError(f"image must be (batch, height, width, 3 colours), got {tuple(image.shape)}")
        pixels = image[..., :3].permute(0, 3, 1, 2).float()
        if pixels.shape[-2:] != (SIZE, SIZE):
            pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        latent: Latent = {"samples": pixels * 2 - 1}
        if repaint != WHOLE:
            mask = torch.zeros(len(pixels), SIZE, SIZE)
            rows, columns = PARTS[repaint]
            mask[:, rows, columns] = 1.0
            latent["noise_mask"] = mask
        return (latent,)


class DDIMDemoDecode:
    """The demo model's latents to images, one by one or as a grid."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Turns the demo model's latents into images: one each, or all in one grid, enlarged without blur so that "
        "single pixels can be seen."
    )
    SEARCH_ALIASES = ["ddim demo", "decode", "latent to image", "grid", "vae"]
    RETURN_TYPES = (IMAGE,)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("For Save Image and Preview Image.",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        return {
            "required": {"latent": socket(LATENT, "From DDIM KSampler or another sampler.")},
            "optional": {
                "columns": integer(
                    0,
                    0,
                    100,
                    "0: one image per latent. Otherwise one grid with this many in a row, or all if there are fewer.",
                ),
                "scale": integer(4, 1, 32, "How many times larger each pixel is drawn."),
            },
        }

    def decode(self, latent: Latent, columns: int = 0, scale: int = 4) -> tuple[Tensor]:
        samples = latent["samples"]
        if samples.ndim != 4 or samples.shape[1] != 3:
            raise DDIMError(
                f"latent must be the demo model's, (batch, 3, height, width), got {tuple(samples.shape)}; latents of "
                "other models need their own VAE Decode"
            )
        images = (samples.float() / 2 + 0.5).clamp(0, 1)
        if columns:
            images = _grid(images, min(columns, len(images)))
        enlarged = images.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
        return (enlarged.permute(0, 2, 3, 1).contiguous(),)


def _labels(digits: str) -> list[int]:
    """Return the digits of a text.

    Raises:
        DDIMError: For anything but digits, spaces and commas.
    """
    characters = "".join(digits.replace(",", " ").split())
    bad = sorted(set(characters) - set("0123456789"))
    if bad:
        raise DDIMError(f"digits must be 0 to 9, spaces or commas, got {bad[0]!r} in {digits!r:.60}")
    return [int(digit) for digit in characters]


def _grid(images: Tensor, columns: int) -> Tensor:
    """Lay ``(B, C, H, W)`` row by row into one image ``(1, C, rows * H, columns * W)``; missing ones are black."""
    count, channels, height, width = images.shape
    rows = math.ceil(count / columns)
    missing = images.new_zeros(rows * columns - count, channels, height, width)
    cells = torch.cat([images, missing]).reshape(rows, columns, channels, height, width)
    return cells.permute(2, 0, 3, 1, 4).reshape(1, channels, rows * height, columns * width)
