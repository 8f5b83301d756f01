"""Draw the square picture of every example: ``python -m bench.templates.thumbnails``.

Examples with the demo model show what they give when they run. The others cannot run here: they show a ball in noise
that stands for what they do, and say that they need a checkpoint.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import host.context
from bench.figures.brand import NIGHT, PALE, WHITE, draw_ball, noised, sphere
from host.execution.executor import Executor
from host.folders import default_folders
from host.packs import Registry, load_pack
from host.validation import validate
from host.workflows import read_workflow

ROOT = Path(__file__).resolve().parents[2]
SIDE, LABEL, EDGE = 400, 26, 8
DIGIT, SCALE = 32, 3  # a picture of the demo model, and how much DDIM Demo Decode enlarges it
CHECKPOINT = " (checkpoint)"
COLUMNS = {"Interpolate between pictures": (0, 3, 5, 8)}  # of the frames; elsewhere the first pictures


def results_of(path: Path, registry: Registry) -> dict[str, np.ndarray]:
    """Run an example.

    Returns:
        For each picture of App mode, by the title of its node, the digits (rows, columns, 32, 32, 3) in 0..255.
    """
    workflow = json.loads(path.read_text(encoding="utf-8"))
    titles = {node["id"]: node.get("title", "") for node in workflow["nodes"]}
    checked = validate(read_workflow(path, registry).prompt, registry)
    if checked.error is not None:
        raise ValueError(f"{path.name}: {checked}")
    result = Executor(registry).run(
        checked.prompt, path.stem, checked.outputs, {}, lambda *event: None, threading.Event()
    )
    if result.status != "success":
        raise RuntimeError(f"{path.name}: {result}")
    found = {}
    for number in workflow["extra"]["linearData"]["outputs"]:
        (image,) = result.outputs[str(number)]["images"]
        folder = host.context.folders().of_type(image["type"])
        found[titles[number]] = _digits(Image.open(folder / image["subfolder"] / image["filename"]))
    return found


def _digits(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image.convert("RGB"))[::SCALE, ::SCALE]
    rows, columns = (each // DIGIT for each in pixels.shape[:2])
    return pixels.reshape(rows, DIGIT, columns, DIGIT, 3).transpose(0, 2, 1, 3, 4)


def of_results(name: str, results: dict[str, np.ndarray]) -> Image.Image:
    """Return one band for each result, with its title: what stands in the same place has the same noise or source."""
    image = Image.new("RGB", (SIDE, SIDE), NIGHT)
    draw = ImageDraw.Draw(image)
    band, label = SIDE / len(results), LABEL if len(results) > 1 else 0
    for number, (title, digits) in enumerate(results.items()):
        columns, rows = _shape(digits.shape[0] * digits.shape[1], len(results))
        chosen = digits.reshape(-1, *digits.shape[2:])[: rows * columns]
        if name in COLUMNS:
            chosen = digits[:, COLUMNS[name]].reshape(-1, *digits.shape[2:])
            rows, columns = len(digits), len(COLUMNS[name])
        side = int(min((SIDE - EDGE) / columns, (band - label - EDGE) / rows))
        left, top = (SIDE - side * columns) / 2, number * band + label + (band - label - side * rows) / 2
        for place, digit in enumerate(chosen):
            tile = Image.fromarray(digit).resize((side - 4, side - 4), Image.Resampling.NEAREST)
            image.paste(tile, (round(left + side * (place % columns)) + 2, round(top + side * (place // columns)) + 2))
        if label:
            draw.text((left + 2, number * band + 6), title, WHITE, _font("bold", 17))
    return image


def _shape(count: int, bands: int) -> tuple[int, int]:
    """Return columns and rows of a band: as large as their number allows."""
    if bands == 1:
        columns = min(4, max(1, round(count**0.5 + 0.4)))
        return columns, min(4, -(-count // columns))
    return (4, 2) if bands == 2 and count >= 8 else (4, 1)


def _across(shape: Callable[[Tensor], Tensor]) -> Callable[[int], Tensor]:
    return lambda cells: shape(torch.linspace(-1, 1, cells)).clamp(0, 1).expand(cells, cells)


def _lower_half(cells: int) -> Tensor:
    rows = torch.linspace(-1, 1, cells)
    return (rows < 0.05).float()[:, None].expand(cells, cells)


# How much of the ball is left, from 0 (noise) to 1, by what the example does.
SYMBOLS: dict[str, Callable[[int], Tensor]] = {
    "Text to image": _across(lambda x: (x + 1) * 0.9 - 0.25),
    "Image to image": _across(lambda x: 1 - 1.1 * torch.exp(-((x / 0.35) ** 2))),
    "Inpaint": _lower_half,
    "SDXL v-prediction, zero SNR": _across(torch.ones_like),
    "Schedule from a config file": _across(lambda x: ((x + 1) * 2.5).floor() / 4),
}


def of_checkpoint(name: str) -> Image.Image:
    """Return the ball, the name and what the example needs."""
    finer = 3
    image = Image.new("RGB", (SIDE * finer, SIDE * finer), NIGHT)
    draw = ImageDraw.Draw(image)
    if "zero SNR" in name:  # what a dark picture becomes without it, and with it
        draw.rectangle((0, 0, SIDE * finer / 2, 285 * finer), fill=(96, 96, 100))
        draw.rectangle((SIDE * finer / 2, 0, SIDE * finer, 285 * finer), fill=(0, 0, 0))
    ball = noised(sphere(15), SYMBOLS[name](15), seed=5)
    draw_ball(draw, ball, ((SIDE - 240) / 2 * finer, 24 * finer), 240 * finer)
    middle = SIDE / 2 * finer
    draw.text((middle, 325 * finer), name, WHITE, _font("bold", 22 * finer), anchor="mm")
    draw.text((middle, 362 * finer), "needs a checkpoint", PALE, _font("regular", 17 * finer), anchor="mm")
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _font(style: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont(f"DejaVu Sans:{style}"), size)


def main() -> None:
    """Draw them all, beside their examples."""
    registry = load_pack(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        host.context.use_folders(default_folders(Path(folder)))
        for path in sorted((ROOT / "example_workflows").glob("*.json")):
            name = path.stem
            needs = name.endswith(CHECKPOINT)
            image = (
                of_checkpoint(name.removesuffix(CHECKPOINT)) if needs else of_results(name, results_of(path, registry))
            )
            image.save(path.with_suffix(".jpg"), quality=88, optimize=True)
            print(name)


if __name__ == "__main__":
    main()
