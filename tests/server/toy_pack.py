"""A small node pack that runs unchanged in this host and in ComfyUI: what the protocol tests put through both."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import torch

try:
    from host.context import progress, routes
except ImportError:  # in ComfyUI
    routes = None

WEB_DIRECTORY = "./web"


def report(value, total, preview=None):
    """Progress with a preview, in either host."""
    if routes is not None:
        progress(value, total, preview)
        return
    import comfy.model_management
    import comfy.utils

    comfy.model_management.throw_exception_if_processing_interrupted()
    comfy.utils.ProgressBar(total).update_absolute(value, total, preview)


class ToyPicture:
    """A picture of one colour."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "make"
    CATEGORY = "toy"
    DESCRIPTION = "A picture of one colour."

    @classmethod
    def INPUT_TYPES(cls):
        size = ("INT", {"default": 32, "min": 8, "max": 512})
        return {
            "required": {
                "width": size,
                "height": size,
                "level": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}),
            }
        }

    def make(self, width, height, level):
        return (torch.full((1, height, width, 3), level),)


class ToySteps:
    """Passes a picture on after some steps, each with progress and a preview; notes that it ran."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "steps": ("INT", {"default": 3, "min": 1, "max": 100_000}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 60.0}),
                "mark": ("STRING", {"default": ""}),
            }
        }

    def run(self, image, steps, seconds, mark):
        from PIL import Image

        for step in range(steps):
            time.sleep(seconds)
            preview = Image.new("RGB", (16, 16), (step % 256, 80, 160))
            report(step + 1, steps, ("JPEG", preview, 512))
        if mark and "TOY_LOG" in os.environ:
            with open(os.environ["TOY_LOG"], "a") as log:
                log.write(mark + "\n")
        return (image,)


class ToyFail:
    """Always raises."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "message": ("STRING", {"default": "on purpose"})}}

    def run(self, image, message):
        raise ValueError(message)


class ToyShow:
    """Shows numbers, one of them not finite."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "toy"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("FLOAT", {"default": 1.0})}}

    def run(self, value):
        return {"ui": {"toy_numbers": [value, float("nan")]}}


if routes is not None:
    from aiohttp import web

    async def echo(request):
        """Answers with the query."""
        return web.json_response(dict(request.query))

    async def slow(request):
        """Answers after some seconds."""
        await asyncio.sleep(float(request.query["seconds"]))
        return web.Response()

    def hold_lock(seconds):
        """One long call of the interpreter's C code, which holds its lock."""
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            sum(range(2_000_000))

    async def busy(request):
        """Keeps the event loop from running, in its own thread or from another one."""
        seconds = float(request.query["seconds"])
        if request.query["where"] == "loop":
            hold_lock(seconds)
        else:
            switch = sys.getswitchinterval()
            sys.setswitchinterval(10.0)
            await asyncio.to_thread(hold_lock, seconds)
            sys.setswitchinterval(switch)
        return web.Response()

    routes.register("GET", "/toy/busy", busy)
    routes.register("GET", "/toy/echo", echo)
    routes.register("GET", "/toy/slow", slow)

NODE_CLASS_MAPPINGS = {node.__name__: node for node in (ToyPicture, ToySteps, ToyFail, ToyShow)}
NODE_DISPLAY_NAME_MAPPINGS = {"ToyPicture": "Toy Picture"}
