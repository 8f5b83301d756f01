"""A node whose picture depends on the machine that makes it, as it may with another processor or GPU."""

from __future__ import annotations

import os

import torch

from host import context


class RayTile:
    """A picture of the node's own taste, in some steps with previews."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 0, "min": 0})
        return {"required": {"seed": number, "steps": number}}

    def run(self, seed, steps):
        from PIL import Image

        for step in range(steps):
            context.progress(step + 1, steps, ("JPEG", Image.new("RGB", (900, 600)), 256))
        return (torch.full((1, 4, 4, 3), (seed % 100 + float(os.environ.get("RAY_TILE_TASTE", 0))) / 255),)


NODE_CLASS_MAPPINGS = {"RayTile": RayTile}
