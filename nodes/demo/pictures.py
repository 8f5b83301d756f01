"""The demo models' pictures: empty latents, pictures to edit, and the way from images to latents and back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ddim import DDIMError
from ..inputs import IMAGE, LATENT, InputTypes, choice, integer, socket, text
from ..values import Latent
from .shared import CATEGORY, SEPARATORS, SIZE, digits_of, lines_of

__all__ = ["DDIMDemoDecode", "DDIMDemoEmoji", "DDIMDemoEncode", "DDIMDemoLatent", "DDIMDemoPicture"]

SCANS = 8  # of each digit
ONE_EMOJI = "cow face"

WHOLE = "everything"
_ALL, _FIRST, _SECOND = slice(None), slice(SIZE // 2), slice(SIZE // 2, None)
PARTS = {  # rows and columns of the part that is painted again
    WHOLE: (_ALL, _ALL),
    "upper half": (_FIRST, _ALL),
    "lower half": (_SECOND, _ALL),
    "left half": (_ALL, _FIRST),
    "right half": (_ALL, _SECOND),
}


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
        from ...demo import held_out_picture  # here, so that importing the pack is fast

        labels = digits_of(digits)
        if not labels:
            raise DDIMError("digits must name at least one digit, got none")
        repeats = [labels[:i].count(label) for i, label in enumerate(labels)]
        scans = [
            held_out_picture(label, (scan + repeat) % SCANS) for label, repeat in zip(labels, repeats, strict=True)
        ]
        return (torch.stack(scans).permute(0, 2, 3, 1).contiguous(),)


class DDIMDemoEmoji:
    """Emoji that the demo model has not seen, to be inverted and edited."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Emoji that the demo model was not trained on, 32x32 pixels, in their own colours or in a tint: to invert, "
        "reconstruct, edit and interpolate. Use Load Image for your own images."
    )
    SEARCH_ALIASES = ["ddim demo", "emoji", "example picture", "load image"]
    RETURN_TYPES = (IMAGE,)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("One image per line, for DDIM Demo Encode.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        tooltip = (
            "One line per image, as in DDIM Demo Text Prompt, such as cow face in blue. The twelve names: closed "
            "umbrella, cow face, full moon with face, green book, grinning face with star eyes, large purple circle, "
            "older woman, oncoming taxi, orange heart, rabbit face, smiling cat face with heart-shaped eyes, white sun "
            "behind cloud with rain."
        )
        return {"required": {}, "optional": {"prompts": text(ONE_EMOJI, tooltip, multiline=True)}}

    def load(self, prompts: str = ONE_EMOJI) -> tuple[Tensor]:
        from ...demo import held_out_emoji  # here, so that importing the pack is fast

        lines = lines_of(prompts)
        if not lines:
            raise DDIMError("prompts must name at least one emoji, got none")
        try:
            pictures = [held_out_emoji(line) for line in lines]
        except ValueError as error:
            raise DDIMError(str(error)) from error
        return (torch.stack(pictures).permute(0, 2, 3, 1).contiguous(),)


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


def _grid(images: Tensor, columns: int) -> Tensor:
    """Lay ``(B, C, H, W)`` row by row into one image ``(1, C, rows * H, columns * W)``; missing ones are black."""
    count, channels, height, width = images.shape
    rows = math.ceil(count / columns)
    missing = images.new_zeros(rows * columns - count, channels, height, width)
    cells = torch.cat([images, missing]).reshape(rows, columns, channels, height, width)
    return cells.permute(2, 0, 3, 1, 4).reshape(1, channels, rows * height, columns * width)
