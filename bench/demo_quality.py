"""Quality of the demo model's pictures, measured: ``python -m bench.demo_quality``.

An independent classifier, trained only on real scans, classifies the samples, and their mean brightness is compared
with that of the data. The same is done with leading spacing and no zero terminal SNR. Finally, few steps are compared
with many from the same initial noise. Prints tables and draws the pictures of the README and of docs/demo-model.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from bench.figures.demo_pictures import save_brightness_picture, save_steps_picture
from demo import DemoModel, load_demo_model
from demo.data import load_scans, random_pictures
from demo.draw import GUIDANCE_RESCALE, GUIDANCE_SCALE, draw_digits, initial_noise, make_scheduler
from demo.judge import held_out_accuracy, mean_brightness, read_digits, train_judge

if TYPE_CHECKING:
    from sklearn.svm import SVC

SAMPLES = 500
STEPS = 20
STEP_COUNTS = (5, 10, 20, 50, 1000)
CLASSES = 10
DATA_PICTURES = 20_000
EXTREME = 0.5  # a mean brightness beyond this (of -1..1) counts as very dark or very bright
LEAST_JUDGE_ACCURACY = 0.97
LEAST_RECOGNISED = 0.95
LARGEST_BRIGHTNESS_DISTANCE = 0.1


@dataclass(frozen=True)
class Run:
    """Samples and the digits that they should show."""

    name: str
    labels: Tensor
    pictures: Tensor


def kolmogorov_smirnov(a: Tensor, b: Tensor) -> float:
    """Largest distance between the empirical distribution functions of two sets of numbers."""
    a, b = a.double().sort().values, b.double().sort().values
    at = torch.cat([a, b])
    below_a = torch.searchsorted(a, at, right=True).double() / len(a)
    below_b = torch.searchsorted(b, at, right=True).double() / len(b)
    return (below_a - below_b).abs().max().item()


def draw(
    model: DemoModel,
    count: int,
    steps: int,
    seed: int,
    *,
    zero_snr_fix: bool = True,
    precision: torch.dtype = torch.float32,
) -> Run:
    """Draw ``count`` pictures, cycling through the classes, with a progress bar."""
    labels = torch.arange(count) % CLASSES
    scheduler = make_scheduler(model, steps, zero_snr_fix=zero_snr_fix)
    name = f"{steps} steps, {'trailing, zero SNR' if zero_snr_fix else 'leading, no zero SNR'}"
    with tqdm(total=steps, desc=name, unit="step", leave=False) as bar:
        pictures = draw_digits(
            model,
            labels,
            initial_noise(count, seed),
            scheduler,
            precision=precision,
            on_step=lambda: bar.update() and None,
        )
    return Run(name, labels, pictures)


def recognised(judge: SVC, run: Run) -> Tensor:
    """For each picture, whether it is classified as the requested digit."""
    return read_digits(judge, run.pictures) == run.labels


def quality_row(judge: SVC, run: Run, data_brightness: Tensor) -> str:
    """Format one row of the first table."""
    brightness = mean_brightness(run.pictures)
    share = recognised(judge, run).float().mean().item()
    return (
        f"| {run.name} | {share:.1%} | {kolmogorov_smirnov(brightness, data_brightness):.3f} | "
        f"{brightness.std():.3f} | {(brightness < -EXTREME).float().mean():.1%} | "
        f"{(brightness > EXTREME).float().mean():.1%} |"
    )


def data_row(data_brightness: Tensor) -> str:
    """Format the row of the data, with which the others are compared."""
    return (
        f"| real scans, rendered | - | 0 | {data_brightness.std():.3f} | "
        f"{(data_brightness < -EXTREME).float().mean():.1%} | {(data_brightness > EXTREME).float().mean():.1%} |"
    )


def steps_table(judge: SVC, runs: list[Run]) -> str:
    """Format the recognised share per class and step count, and agreement with the longest run from the same noise."""
    longest = read_digits(judge, runs[-1].pictures)
    head = "| steps | " + " | ".join(str(digit) for digit in range(CLASSES)) + " | all | same as with most steps |"
    rows = [head, "|---" * (CLASSES + 3) + "|"]
    for run in runs:
        right = recognised(judge, run).float()
        per_class = [right[run.labels == digit].mean().item() for digit in range(CLASSES)]
        same = (read_digits(judge, run.pictures) == longest).float().mean().item()
        cells = [run.name.split()[0], *(f"{share:.0%}" for share in (*per_class, right.mean().item(), same))]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def measure(model: DemoModel, judge: SVC, seed: int, per_class: int, images: Path) -> list[str]:
    """Draw everything, print the tables, save the pictures, and return the requirements that are not met."""
    data_pictures, _ = random_pictures(load_scans("held_out"), DATA_PICTURES, torch.Generator().manual_seed(seed + 1))
    data_brightness = mean_brightness(data_pictures)
    accuracy = held_out_accuracy(judge)
    print(f"the classifier is right on {accuracy:.1%} of new renderings of held-out scans\n")
    fixed, usual = (draw(model, SAMPLES, STEPS, seed, zero_snr_fix=fix) for fix in (True, False))
    print(f"{SAMPLES} samples, eta 0, CFG {GUIDANCE_SCALE}, rescale {GUIDANCE_RESCALE}, seed {seed}\n")
    print("| samples | as requested | brightness KS | brightness std | very dark | very bright |")
    print("|---|---|---|---|---|---|")
    for row in (*(quality_row(judge, run, data_brightness) for run in (fixed, usual)), data_row(data_brightness)):
        print(row)
    save_brightness_picture(images / "brightness.png", fixed.pictures, usual.pictures, data_pictures[:SAMPLES])
    runs = [draw(model, CLASSES * per_class, steps, seed, precision=torch.bfloat16) for steps in STEP_COUNTS]
    print(
        f"\n{per_class} pictures of each digit from the same initial noise: share as requested (network in bfloat16)\n"
    )
    print(steps_table(judge, runs))
    save_steps_picture(images / "steps.png", {run.name.split()[0]: run.pictures[:CLASSES] for run in runs})
    share = recognised(judge, fixed).float().mean()
    distance = kolmogorov_smirnov(mean_brightness(fixed.pictures), data_brightness)
    requirements = {
        f"classifier accuracy at least {LEAST_JUDGE_ACCURACY:.0%}": accuracy >= LEAST_JUDGE_ACCURACY,
        f"classified as requested at least {LEAST_RECOGNISED:.0%}": share >= LEAST_RECOGNISED,
        f"brightness KS at most {LARGEST_BRIGHTNESS_DISTANCE}": distance <= LARGEST_BRIGHTNESS_DISTANCE,
    }
    return [requirement for requirement, met in requirements.items() if not met]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and return exit status 1 if a requirement is not met."""
    parser = argparse.ArgumentParser("python -m bench.demo_quality", description="Measure the demo model's pictures.")
    parser.add_argument("--weights", type=Path, default=None, help="weight file (default: the project's)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial noise (default: %(default)s)")
    parser.add_argument("--per-class", type=int, default=10, help="pictures of each digit in the comparison of step "
                        "counts; its 1000 steps take most of the time (default: %(default)s)")  # fmt: skip
    parser.add_argument("--images", type=Path, default=Path(__file__).parent.parent / "docs" / "images",
                        help="folder for the pictures (default: %(default)s)")  # fmt: skip
    parsed = parser.parse_args(arguments)
    missed = measure(load_demo_model(parsed.weights), train_judge(), parsed.seed, parsed.per_class, parsed.images)
    print("\n" + ("every requirement is met" if not missed else "NOT MET: " + "; ".join(missed)))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
