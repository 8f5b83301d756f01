"""Nodes small enough to know every answer. They run in this host and in ComfyUI, without change."""

from __future__ import annotations

import asyncio
import time

import torch

CALLS: list[str] = []  # what ran, in order, in this process


class _Any(str):
    """A type that every version of ComfyUI lets any output feed."""

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


def _required(**inputs):
    return {"required": inputs}


def _blocker(message):
    try:
        from comfy_execution.graph import ExecutionBlocker
    except ImportError:
        from host.context import ExecutionBlocker
    return ExecutionBlocker(message)


def _progress(total):
    try:
        import comfy.utils

        bar = comfy.utils.ProgressBar(total)
        return lambda value: bar.update_absolute(value, total)
    except ImportError:
        from host import context

        return lambda value: context.progress(value, total)


class ToyNumber:
    """A constant with every kind of widget."""

    DESCRIPTION = "Gives a number."
    RETURN_TYPES = ("FLOAT",)
    RETURN_NAMES = ("number",)
    OUTPUT_TOOLTIPS = ("The number.",)
    SEARCH_ALIASES = ["constant"]
    FUNCTION = "run"
    CATEGORY = "toy/numbers"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "value": ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.1, "tooltip": "The value."}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}),
                "mode": (["plain", "double"],),
            },
            "optional": {
                "label": ("STRING", {"default": "x", "multiline": True}),
                "negate": ("BOOLEAN", {"default": False}),
            },
        }

    def run(self, value, seed, mode, label="x", negate=False):
        CALLS.append("ToyNumber")
        value = value * 2 if mode == "double" else value
        return (-value if negate else value,)


class ToyAdd:
    RETURN_TYPES = ("FLOAT", "STRING")
    FUNCTION = "run"
    CATEGORY = "toy/numbers"
    INPUT_TYPES = classmethod(lambda cls: _required(a=("FLOAT", {"forceInput": True}), b=("FLOAT", {"default": 0.0})))

    def run(self, a, b):
        CALLS.append("ToyAdd")
        return (a + b, f"{a}+{b}")


class ToyList:
    """Gives a list of numbers."""

    RETURN_TYPES = ("FLOAT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "run"
    CATEGORY = "toy/lists"
    INPUT_TYPES = classmethod(lambda cls: _required(count=("INT", {"default": 3, "min": 0, "max": 10})))

    def run(self, count):
        return ([float(i) for i in range(count)],)


class ToySum:
    """Takes lists."""

    RETURN_TYPES = ("FLOAT",)
    INPUT_IS_LIST = True
    FUNCTION = "run"
    CATEGORY = "toy/lists"
    INPUT_TYPES = classmethod(lambda cls: _required(values=("FLOAT", {"forceInput": True}), scale=("FLOAT", {})))

    def run(self, values, scale):
        return (sum(values) * scale[0],)


class ToyShow:
    """Shows anything."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: _required(value=(_Any("*"), {})))

    def run(self, value):
        CALLS.append("ToyShow")
        return {"ui": {"text": [str(value)], "number": [value]}}


class ToyMiddle:
    """Shows something in the middle of a graph."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    HAS_INTERMEDIATE_OUTPUT = True
    INPUT_TYPES = classmethod(lambda cls: _required(value=("FLOAT", {"forceInput": True})))

    def run(self, value):
        return {"ui": {"curve": [[value, float("nan"), float("inf")]]}, "result": (value,)}


class ToyAsync:
    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: _required(value=("FLOAT", {}), seconds=("FLOAT", {"default": 0.05})))

    async def run(self, value, seconds):
        CALLS.append(f"ToyAsync {value} begins")
        await asyncio.sleep(seconds)
        CALLS.append(f"ToyAsync {value} ends")
        return (value,)


class ToySwitch:
    """Asks for one of two lazy inputs."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(
        lambda cls: _required(first=("BOOLEAN", {}), a=("FLOAT", {"lazy": True}), b=("FLOAT", {"lazy": True}))
    )

    def check_lazy_status(self, first, a, b):
        return ["a"] if first and a is None else ["b"] if not first and b is None else []

    def run(self, first, a, b):
        return (a if first else b,)


class ToyExpand:
    """Becomes two additions."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(
        lambda cls: {**_required(value=("FLOAT", {"rawLink": True})), "hidden": {"own": "UNIQUE_ID"}}
    )

    def run(self, value, own):
        first, second = f"{own}.0.0.1", f"{own}.0.0.2"
        graph = {
            first: {"class_type": "ToyAdd", "inputs": {"a": value, "b": 1.0}},
            second: {"class_type": "ToyAdd", "inputs": {"a": [first, 0], "b": 10.0}},
        }
        return {"expand": graph, "result": ([second, 0],)}


class ToyBlock:
    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: _required(message=("STRING", {"default": ""})))

    def run(self, message):
        return (_blocker(message or None),)


class ToyFail:
    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: _required(value=("FLOAT", {})))

    def run(self, value):
        raise ValueError(f"toy cannot take {value}")


class ToyClock:
    """Never the same twice."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: _required(value=("FLOAT", {})))

    @classmethod
    def IS_CHANGED(cls, value):
        return float("nan")

    def run(self, value):
        CALLS.append("ToyClock")
        return (value,)


class ToySteps:
    """Takes some steps and tells of each."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        steps = ("INT", {"default": 4, "min": 1, "max": 100000})
        return {**_required(steps=steps), "optional": {"pause": ("FLOAT", {"default": 0.0})}}

    def run(self, steps, pause=0.0):
        tell = _progress(steps)
        for step in range(steps):
            time.sleep(pause)
            tell(step + 1)
        return (float(steps),)


class ToyHidden:
    """Shows what it is given behind the scenes."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        hidden = {"prompt": "PROMPT", "extra": "EXTRA_PNGINFO", "own": "UNIQUE_ID", "graph": "DYNPROMPT"}
        return {"required": {}, "hidden": hidden}

    def run(self, prompt, extra, own, graph):
        return {"ui": {"nodes": [sorted(prompt)], "extra": [extra], "id": [own], "has": [graph.has_node(own)]}}


class ToyEven:
    """Validates its own input."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "run"
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: _required(value=("INT", {"min": 0, "max": 4}), other=("INT", {"max": 4})))

    @classmethod
    def VALIDATE_INPUTS(cls, value):
        return True if value % 2 == 0 else f"{value} is odd"

    def run(self, value, other):
        return (float(value),)


class ToyImage:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        grey, size = ("FLOAT", {"default": 0.5}), ("INT", {"default": 8, "min": 1, "max": 64})
        return _required(grey=grey, size=size, count=("INT", {"default": 1, "min": 1, "max": 4}))

    def run(self, grey, size, count):
        return (torch.full((count, size, 2 * size, 3), grey),)


class ToyLook:
    """Tells of a picture and its mask: shape, mean, corners."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "toy"
    INPUT_TYPES = classmethod(lambda cls: _required(image=("IMAGE",), mask=("MASK",)))

    def run(self, image, mask):
        seen = []
        for tensor in (image, mask):
            corners = torch.stack([tensor[:, 0, 0], tensor[:, -1, -1]]).flatten().tolist()
            seen.append([list(tensor.shape), str(tensor.dtype), [round(x, 2) for x in corners]])
        return {"ui": {"seen": seen}}


class ToyPass:
    """Hands an image and a mask on; what a bypass has to see through."""

    RETURN_TYPES = ("MASK", "IMAGE")
    FUNCTION = "run"
    CATEGORY = "toy"
    DEPRECATED = True
    EXPERIMENTAL = True
    INPUT_TYPES = classmethod(lambda cls: {**_required(image=("IMAGE",)), "optional": {"mask": ("MASK",)}})

    def run(self, image, mask=None):
        return (mask, image)


NODE_CLASS_MAPPINGS = {name: node for name, node in list(globals().items()) if name.startswith("Toy")}
NODE_DISPLAY_NAME_MAPPINGS = {"ToyNumber": "Toy Number"}
