"""Nodes that write files in every way that there is."""

from __future__ import annotations

import time

import torch

from host import context

CALLS: list[str] = []  # what ran, in order, in this process


def _required(**inputs):
    return classmethod(lambda cls: {"required": inputs})


class WriteGrey:
    """A batch of pictures of one colour each."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = _required(level=("FLOAT", {"default": 0.5}), count=("INT", {"default": 1, "min": 1, "max": 8}))

    def run(self, level, count):
        CALLS.append("WriteGrey")
        shades = torch.linspace(level, level / 2, count)
        return (shades[:, None, None, None].expand(count, 6, 10, 3).clone(),)


class WriteNote:
    """Writes a text file and tells nobody."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "toy"
    INPUT_TYPES = _required(text=("STRING", {"default": "x"}), prefix=("STRING", {"default": "notes/note"}))

    def run(self, text, prefix):
        target = context.folders().save_image_path(prefix)
        taken = len(list(target.folder.glob(f"{target.name}*.txt")))
        (target.folder / f"{target.name}_{taken + 1:05}.txt").write_text(text)
        return {}


class WriteGrown:
    """Becomes a node that saves."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: {"required": {"image": ("IMAGE",)}, "hidden": {"own": "UNIQUE_ID"}})

    def run(self, image, own):
        inputs = {"images": image, "filename_prefix": "grown"}
        return {"expand": {f"{own}.1": {"class_type": "SaveImage", "inputs": inputs}}, "result": (image,)}


class WriteSteps:
    """Takes steps, and remembers how far it came."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = _required(image=("IMAGE",), steps=("INT", {"default": 1, "max": 10**6}), pause=("FLOAT", {}))

    def run(self, image, steps, pause):
        for step in range(steps):
            time.sleep(pause)
            context.progress(step + 1, steps)
        return (image,)


class WriteFail:
    """Raises."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "toy"
    INPUT_TYPES = _required(image=("IMAGE",))

    def run(self, image):
        raise ValueError("on purpose")


NODE_CLASS_MAPPINGS = {name: node for name, node in list(globals().items()) if name.startswith("Write")}
