"""Edits measured: ``python -m bench.edits`` prints the table of docs/inversion.md and draws its picture.

Real scans that the demo model has not seen are turned into another digit by every method. The independent classifier
reads the result. The background is what belongs to the stroke neither before nor after.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from demo import held_out_picture
from demo.judge import find_stroke, read_digits, train_judge

from .methods import METHODS, STEPS, Prompts

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (3, 3, 1, 9, 5, 7, 0, 8, 4, 6)
TARGET = (8, 5, 7, 4, 6, 1, 6, 3, 9, 0)
NEAR = 0.1  # a pixel of [-1, 1] that moved by less is kept
INK = 0.1  # of a stroke, from 0 on paper to 1
SCALE, GAP, LABEL = 3, 4, 150


def pictures(scans: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return scans in [-1, 1] ``(B, 3, 32, 32)``, what they show and what they shall show, ``(B,)``.

    Up to eight scans of each pair, no edit is in it twice: there are eight scans of a digit.
    """
    source, target = torch.tensor(SOURCE * scans), torch.tensor(TARGET * scans)
    scan = [held_out_picture(int(digit), (i + i // 40) % 8) for i, digit in enumerate(source)]
    return torch.stack(scan) * 2 - 1, source, target


def background(before: Tensor, after: Tensor) -> Tensor:
    """Return a mask, ``(B, 1, 32, 32)``: 1 where neither picture has ink."""
    ink = torch.maximum(find_stroke(before), find_stroke(after))[:, None]
    sized = F.interpolate(ink, scale_factor=2.0)
    margin = (before.shape[-1] - sized.shape[-1]) // 2
    return (F.pad(sized, [margin] * 4) <= INK).float()


def kept_of_each(before: Tensor, after: Tensor) -> Tensor:
    """Return the share of pixels of each picture that is kept, ``(B,)``."""
    return ((after - before).abs().mean(1) < NEAR).float().mean((1, 2))


def figures(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return the mean change of the background, and the share of all pixels that is kept."""
    change, kept = (after - before).abs().mean(1, keepdim=True), background(before, after)
    return float((change * kept).sum() / kept.sum()), float(kept_of_each(before, after).mean())


def measure(scans: int) -> dict[str, Tensor]:
    """Print the table; return the pictures of every method."""
    before, source, target = pictures(scans)
    judge, shown = train_judge(), {"before": before}
    lines = []
    for name, edit in tqdm(METHODS.items(), unit="method"):
        prompts = Prompts()
        after = shown[name] = edit(prompts, before, source, target)
        done = float((read_digits(judge, after) == target).float().mean())
        moved, kept = figures(before, after)
        lines.append(f"| {name} | {done:.0%} | {moved:.3f} | {kept:.0%} | {prompts.calls} |")
    print(f"\n{len(before)} pictures, {STEPS} steps\n")
    print("| method | read as the new digit | change of the background | pixels kept | model calls |")
    print("|---" * 5 + "|")
    print("\n".join(lines))
    return shown


def sheet(shown: dict[str, Tensor], count: int = 10) -> Image.Image:
    """Draw one row of pictures for each method, with its name."""
    side = 32 * SCALE
    picture = Image.new("RGB", (LABEL + count * (side + GAP), len(shown) * (side + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, images) in enumerate(shown.items()):
        top = row * (side + GAP)
        draw.text((4, top + side // 2 - 6), name, fill="black")
        pixels = ((images[:count].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        for column, image in enumerate(pixels):
            tile = Image.fromarray(image.numpy()).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(tile, (LABEL + column * (side + GAP), top))
    return picture


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write the pictures."""
    parser = argparse.ArgumentParser("python -m bench.edits", description="Measure edits of inverted pictures.")
    parser.add_argument("--scans", type=int, default=2, help="scans of each pair of digits (default: %(default)s)")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder for the picture")
    parsed = parser.parse_args(arguments)
    shown = measure(parsed.scans)
    parsed.images.mkdir(parents=True, exist_ok=True)
    sheet(shown).save(parsed.images / "edits.png", optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
