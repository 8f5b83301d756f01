"""Inputs, widgets and outputs of nodes: the pack's own as they declare them, and the few of ComfyUI that are used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from host.packs import load_pack

__all__ = ["CONTROL", "Spec", "spec_of"]

ROOT = Path(__file__).resolve().parents[2]
CONTROL = "control_after_generate"
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@dataclass(frozen=True)
class Spec:
    """What the editor knows of a class.

    Attributes:
        links: Inputs without a widget: ``{name: (type, whether it is optional)}``.
        widgets: ``{name: (type, default)}`` in the order of ``widgets_values``; with the control after a seed.
        outputs: ``{name: type}``.
        pack: The pack's id in the registry.
        width: Of the node as it opens, in both renderers.
        height: The larger of both renderers', with its title.
    """

    links: dict[str, tuple[str, bool]]
    widgets: dict[str, tuple[str, Any]]
    outputs: dict[str, str]
    pack: str
    width: int
    height: int


# Measured in both renderers, the larger of the two, with the title: (width, height). With room for what a run adds: the
# pictures of a replay, the saved picture.
_SIZES = {
    "DDIMSchedule": (340, 545), "DDIMScheduleFromConfig": (400, 520), "DDIMFitSteps": (380, 500),
    "DDIMModelSampling": (230, 110), "DDIMCheckModel": (300, 260), "DDIMSampler": (325, 190), "DDIMSample": (330, 636),
    "DDIMCFGRescale": (270, 120), "DDIMEditGuidance": (270, 200), "DDIMInvert": (330, 636), "DDIMSaveNoise": (270, 152),
    "DDIMLoadNoise": (285, 180), "DDIMInterpolate": (270, 170), "DDIMDemoModel": (270, 120),
    "DDIMDemoPrompt": (270, 124), "DDIMDemoLatent": (270, 120), "DDIMDemoPicture": (270, 152),
    "DDIMDemoTextPrompt": (300, 250), "DDIMDemoEmoji": (300, 190),
    "DDIMDemoEncode": (270, 124), "DDIMDemoDecode": (270, 150), "SaveImage": (350, 306),
    "CheckpointLoaderSimple": (320, 150), "CLIPTextEncode": (320, 190), "EmptyLatentImage": (320, 170),
    "LoadImage": (320, 400), "VAEEncode": (230, 100), "VAEDecode": (230, 100), "SetLatentNoiseMask": (230, 100),
}  # fmt: skip

_STOCK: dict[str, tuple[dict[str, tuple[str, bool]], dict[str, tuple[str, Any]], dict[str, str]]] = {
    "CheckpointLoaderSimple": ({}, {"ckpt_name": ("COMBO", "")}, {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE"}),
    "CLIPTextEncode": ({"clip": ("CLIP", False)}, {"text": ("STRING", "")}, {"CONDITIONING": "CONDITIONING"}),
    "EmptyLatentImage": (
        {},
        {"width": ("INT", 512), "height": ("INT", 512), "batch_size": ("INT", 1)},
        {"LATENT": "LATENT"},
    ),
    "LoadImage": (
        {},
        {"image": ("COMBO", "example.png"), "upload": ("IMAGEUPLOAD", "image")},
        {"IMAGE": "IMAGE", "MASK": "MASK"},
    ),
    "VAEEncode": ({"pixels": ("IMAGE", False), "vae": ("VAE", False)}, {}, {"LATENT": "LATENT"}),
    "VAEDecode": ({"samples": ("LATENT", False), "vae": ("VAE", False)}, {}, {"IMAGE": "IMAGE"}),
    "SetLatentNoiseMask": ({"samples": ("LATENT", False), "mask": ("MASK", False)}, {}, {"LATENT": "LATENT"}),
    "SaveImage": ({"images": ("IMAGE", False)}, {"filename_prefix": ("STRING", "ComfyUI")}, {"images": "IMAGE"}),
}


@lru_cache
def _pack() -> dict[str, Any]:
    return dict(load_pack(ROOT).nodes)


@lru_cache
def spec_of(kind: str) -> Spec:
    """Return what is known of a class.

    Raises:
        KeyError: For a class that is neither the pack's nor in the list here.
    """
    width, height = _SIZES[kind]
    if kind in _STOCK:
        links, widgets, outputs = _STOCK[kind]
        return Spec(links, widgets, outputs, "comfy-core", width, height)
    node = _pack()[kind]
    links, widgets = {}, {}
    for category in ("required", "optional"):
        for name, (type_, options) in node.INPUT_TYPES().get(category, {}).items():
            is_combo = isinstance(type_, list)
            if is_combo or (type_ in _WIDGETS and not options.get("forceInput")):
                default = options.get("default", type_[0] if is_combo and type_ else None)
                widgets[name] = ("COMBO" if is_combo else type_, default)
                if options.get(CONTROL):
                    widgets[CONTROL] = ("COMBO", "fixed")
            else:
                links[name] = (type_, category == "optional")
    outputs = dict(zip(getattr(node, "RETURN_NAMES", node.RETURN_TYPES), node.RETURN_TYPES, strict=True))
    return Spec(links, widgets, outputs, "ddim-nodes", width, height)
