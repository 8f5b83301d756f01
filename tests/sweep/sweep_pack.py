"""Nodes that do to their worker what goes wrong in a long sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from host import context


def noted(name):
    """A file beside the sweep; its folder is no part of a prompt, because prompts become parts of pictures."""
    return Path(os.environ["SWEEP_NOTES"]) / name


def note(text):
    """Append a line to the log, whole."""
    with noted("log.txt").open("a") as file:
        file.write(text + "\n")


def kill():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def work(seconds):
    """Keep one thread busy for about so much processor time, with steps."""
    end = time.thread_time() + float(seconds)
    matrix = torch.eye(64)
    while time.thread_time() < end:
        for _ in range(200):
            matrix = matrix @ matrix
        context.check_cancelled()


def wait_for(name):
    for step in range(100_000):
        if noted(name).exists():
            return
        context.progress(step % 1000, 1000)
        time.sleep(0.02)
    raise TimeoutError(name)


def fail(text):
    raise ValueError(text)


def kill_once(name):
    """End the worker, but only the first time."""
    if not noted(name).exists():
        noted(name).touch()
        kill()


def child_and_kill(text):
    """End the worker while a process that it started still runs."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    noted("child").write_text(str(child.pid))
    kill()


def steps(text):
    for step in range(int(text)):
        context.progress(step + 1, int(text))
        time.sleep(0.001)


ACTIONS = {
    "child-and-kill": child_and_kill,
    "steps": steps,
    "print": lambda text: print("x" * int(text)),
    "kill": lambda text: kill(),
    "kill-once": kill_once,
    "raise": fail,
    "wait": wait_for,
    "work": work,
    "exit": lambda text: os._exit(int(text)),
    "sleep": lambda text: time.sleep(float(text)),
}


class SweepTile:
    """A picture that depends on its seed alone."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0, "min": 0}), "size": ("INT", {"default": 8, "min": 1})}}

    def run(self, seed, size):
        return (torch.rand((1, size, size, 3), generator=torch.Generator().manual_seed(seed)),)


class SweepAct:
    """Hands a picture on, notes that it began, and does what its text says: "work 1.0", "kill-once NAME"."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        text = ("STRING", {"default": ""})
        return {"required": {"image": ("IMAGE",), "action": text, "mark": text}}

    def run(self, image, action, mark):
        note(mark)
        name, _, text = action.partition(" ")
        if name:
            ACTIONS[name](text)
        return (image,)


class SweepAfterSaving:
    """Does what its text says when a picture is in the output folder, whole, and nobody has heard of it."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        text = ("STRING", {"default": ""})
        return {"required": {"image": ("IMAGE",), "action": text}}

    @classmethod
    def IS_CHANGED(cls, image, action):
        return float("nan")

    async def run(self, image, action):
        import asyncio

        while not list(context.folders().output.rglob("*.png")):
            await asyncio.sleep(0.01)
        name, _, text = action.partition(" ")
        ACTIONS[name](text)
        return {}


class SweepRead:
    """A picture as dark as an input file is long."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "toy"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {"default": ""})}}

    def run(self, file):
        data = context.folders().resolve(file).read_bytes()
        return (torch.full((1, 4, 4, 3), len(data) / 255),)


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (SweepTile, SweepAct, SweepAfterSaving, SweepRead)}
