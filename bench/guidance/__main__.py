"""CFG, CFG++ and the guidance interval on the demo model: ``python -m bench.guidance``.

Prints the tables of docs/guidance.md, and runs the example workflow to make its picture and the editor's thumbnail. An
independent classifier reads the digits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.guidance.readings import READINGS, measured
from bench.inversion import ROOT, workflow_pictures
from ddim import (
    CFGPlusPlus,
    DDIMScheduler,
    GuidanceInterval,
    guided_model,
    invert,
    sample,
)
from demo import UNCONDITIONAL, held_out_picture, load_demo_model
from demo.draw import initial_noise, make_scheduler
from demo.judge import read_digits, train_judge

Model = Callable[[Tensor, Tensor], Tensor]

STEPS, CLASSES, SCANS, SEED = 10, 10, 5, 2
WORKFLOW = {"Guidance - CFG, CFG++, interval": ("guidance/cfg", "guidance/cfg_plus_plus", "guidance/interval")}


@dataclass(frozen=True)
class Setting:
    """One way to guide."""

    scale: float
    mode: str = "cfg"
    interval: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """In words."""
        scale = f"lambda {self.scale:g}" if self.mode == "cfg++" else f"cfg {self.scale:g}"
        within = "" if self.interval is None else f", {self.interval[0]:.0%} to {self.interval[1]:.0%} of the run"
        return f"{'CFG++, ' if self.mode == 'cfg++' else ''}{scale}{within}"


PLAIN = Setting(1.0)
SAMPLED = (PLAIN, Setting(2.0), Setting(7.5), Setting(7.5, interval=(0.2, 0.6)),
           *(Setting(scale, "cfg++") for scale in (0.2, 0.6, 1.0)))  # fmt: skip
INVERTED = (PLAIN, Setting(2.0), Setting(7.5), *(Setting(scale, "cfg++") for scale in (0.0, 0.2, 0.6)))


class Guided:
    """The demo model guided towards labels, which counts the images that the network gets."""

    def __init__(self, setting: Setting, labels: Tensor, scheduler: DDIMScheduler) -> None:
        self.network, self.rows = load_demo_model().network, 0
        active = None if setting.interval is None else GuidanceInterval(*setting.interval).on(scheduler)
        self.model = guided_model(
            self._with(labels), self._with(torch.full_like(labels, UNCONDITIONAL)), setting.scale, mode=setting.mode,
            active=active,
        )  # fmt: skip

    def _with(self, labels: Tensor) -> Model:
        def model(x: Tensor, t: Tensor) -> Tensor:
            self.rows += len(x)
            with torch.inference_mode():
                return self.network(x, t.expand(len(x)), labels)

        return model

    def __call__(self, x: Tensor, t: Tensor) -> Tensor | CFGPlusPlus:
        """The guided output, or the two of CFG++."""
        return self.model(x, t)


def sampling_table(count: int) -> list[str]:
    """How often the digit is the requested one, and how far colours leave the range of a picture."""
    judge, labels = train_judge(), torch.arange(count) % CLASSES
    lines = [
        f"{count} digits in {STEPS} steps:",
        "",
        "| guidance | network calls for a picture | read as requested | colour values out of range | contrast |",
        "|---|---|---|---|---|",
    ]
    for setting in tqdm(SAMPLED, desc="sampling"):
        scheduler = make_scheduler(load_demo_model(), STEPS)
        model = Guided(setting, labels, scheduler)
        pictures = sample(model, initial_noise(count, SEED), scheduler)
        right = (read_digits(judge, pictures) == labels).float().mean()
        outside = (pictures.abs() > 1).float().mean()
        contrast = pictures.clamp(-1, 1).flatten(1).std(1).mean()
        lines.append(f"| {setting.name} | {model.rows / count:g} | {right:.1%} | {outside:.1%} | {contrast:.2f} |")
    return lines


def inversion_table() -> list[str]:
    """The error of the round trip of real scans, with their own label as the prompt."""
    labels = torch.arange(SCANS)
    pictures = torch.stack([held_out_picture(int(label), 0) for label in labels]) * 2 - 1
    lines = [
        f"{SCANS} real scans, taken apart and put together again in {STEPS} steps with the same prompt and guidance; "
        "root mean square error:",
        "",
        "| guidance | `ddim` | `fixed_point` |",
        "|---|---|---|",
    ]
    for setting in tqdm(INVERTED, desc="inversion"):
        errors = []
        for method in ("ddim", "fixed_point"):
            scheduler = make_scheduler(load_demo_model(), STEPS)
            model = Guided(setting, labels, scheduler)
            found = invert(model, pictures, scheduler, method=method)
            errors.append(float(found.residual.mean().sqrt()))
        lines.append(f"| {setting.name} | {' | '.join(f'{error:.3f}' for error in errors)} |")
    return lines


def check_table() -> list[str]:
    """What find_prediction_type measures for the demo network in each of its readings."""
    lines = [
        "| read as | noise in the output for pure noise | output for flat pictures with noise | found |",
        "|---|---|---|---|",
    ]
    for kind in READINGS:
        found = measured(kind)
        weights = f"{found.noise_weight:.2f} noise {found.picture_weight:+.2f} picture"
        lines.append(f"| `{kind}` | {found.last_noise_weight:.2f} | {weights} | `{found.prediction_type}` |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m bench.guidance", description=__doc__)
    parser.add_argument("--count", type=int, default=30, help="digits of the first table")
    parser.add_argument("--pictures", action="store_true", help="draw the picture alone")
    parser.add_argument("--images", type=Path, default=ROOT / "docs/images")
    given = parser.parse_args(arguments)
    workflow_pictures(given.images, WORKFLOW)
    if not given.pictures:
        for table in (check_table, inversion_table, partial(sampling_table, given.count)):
            print("\n".join(table()), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
