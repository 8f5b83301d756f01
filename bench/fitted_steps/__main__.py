"""What fitted steps gain on the demo model, on starts that they were not fitted to: ``python -m bench.fitted_steps``.

Each plan is fitted to ten starts, one per digit, and measured on others: the root mean square distance of its pictures
from those of 250 steps, and the share that an independent classifier reads as the requested digit. The network runs in
bfloat16. Prints a table and draws a plot.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddim import FIT_METHODS, DDIMScheduler, TimestepPlan, fit_timesteps, guide, make_plan, sample
from demo import UNCONDITIONAL, DemoModel, load_demo_model
from demo.draw import initial_noise, make_scheduler
from demo.judge import read_digits, train_judge

SCALES = (1.0, 2.0)
STEP_COUNTS = (4, 5, 6, 8, 10, 15, 20)
QUICK_STEP_COUNTS = (5, 10)
REQUIRED = (5, 8, 10)  # fitted plans of these counts must be as near as trailing plans of twice as many
REFERENCE_STEPS = 250
SPACINGS = ("trailing", "ays")
FIT_SEED, TEST_SEED = 1, 2
FIT_PICTURES, TEST_PICTURES = 10, 50
CLASSES = 10


@dataclass(frozen=True)
class Result:
    """Of one plan on the held-out starts.

    Attributes:
        squared: Mean squared distance of each picture from that of 250 steps, (N,).
        right: Whether each digit is read as requested, (N,) bool.
    """

    squared: Tensor
    right: Tensor

    @property
    def distance(self) -> float:
        """The root mean square distance from 250 steps."""
        return float(self.squared.mean().sqrt())

    @property
    def recognised(self) -> float:
        """The share of digits read as requested."""
        return float(self.right.float().mean())


class Pictures:
    """Starts of one seed with their labels, at one guidance scale; counts the model calls."""

    def __init__(self, model: DemoModel, count: int, seed: int, scale: float, bar: tqdm[None]) -> None:
        self.network, self.scale, self.bar = model.network, scale, bar
        self.labels, self.noise = torch.arange(count) % CLASSES, initial_noise(count, seed)

    def model(self, x: Tensor, t: Tensor) -> Tensor:
        """The guided output; without guidance the network runs once."""
        self.bar.update()
        with torch.autocast("cpu", torch.bfloat16):
            if self.scale == 1.0:
                return self.network(x, t.expand(len(x)), self.labels).float()
            both = torch.cat([self.labels, torch.full_like(self.labels, UNCONDITIONAL)])
            v_text, v_none = self.network(torch.cat([x, x]), t.expand(len(both)), both).float().chunk(2)
        return guide(v_none, v_text, self.scale)

    def drawn(self, scheduler: DDIMScheduler, plan: TimestepPlan) -> Tensor:
        """The pictures that a plan gives."""
        scheduler.set_plan(plan)
        return sample(self.model, self.noise, scheduler)


def measure(
    model: DemoModel, scale: float, counts: tuple[int, ...], pictures: int, read: Callable[[Tensor], Tensor]
) -> dict[tuple[str, int], Result]:
    """Measure every spacing, and both methods, at one guidance scale: results by name and number of steps."""
    with tqdm(desc=f"guidance {scale:g}", unit="call", leave=False) as bar:
        fit, test = (
            Pictures(model, count, seed, scale, bar)
            for count, seed in ((FIT_PICTURES, FIT_SEED), (pictures, TEST_SEED))
        )
        scheduler = make_scheduler(model, REFERENCE_STEPS)
        total = len(scheduler.noise_schedule)
        reference = test.drawn(scheduler, scheduler.plan)

        def compared(drawn: Tensor) -> Result:
            right = read(drawn.clamp(-1, 1)) == test.labels
            return Result((drawn - reference).square().mean((1, 2, 3)), right)

        def result(plan: TimestepPlan) -> Result:
            return compared(test.drawn(scheduler, plan))

        results = {("reference", REFERENCE_STEPS): compared(reference)}
        for steps in sorted({*counts, *(2 * steps for steps in counts)}):
            results["trailing", steps] = result(make_plan(steps, total, "trailing"))
        for steps in counts:
            for spacing in SPACINGS[1:]:
                results[spacing, steps] = result(make_plan(steps, total, spacing))
            for method in FIT_METHODS:
                scheduler.set_timesteps(steps)
                results[method, steps] = result(fit_timesteps(fit.model, fit.noise, scheduler, steps, method=method))
    return results


def table(results: dict[tuple[str, int], Result], counts: tuple[int, ...]) -> str:
    """Format the results of one guidance scale."""
    names = (*SPACINGS, *FIT_METHODS[::-1])
    rows = ["| steps | " + " | ".join((*names, "trailing, twice the steps")) + " |", "|---" * (len(names) + 2) + "|"]
    for steps in counts:
        found = [*(results[name, steps] for name in names), results["trailing", 2 * steps]]
        cells = [f"{result.distance:.3f} ({result.recognised:.0%})" for result in found]
        rows.append(f"| {steps} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main(quick: bool, images: Path) -> int:
    """Print the tables, draw the plot, and return exit status 1 if a requirement is not met."""
    counts, pictures = (QUICK_STEP_COUNTS, 20) if quick else (STEP_COUNTS, TEST_PICTURES)
    model, judge, missed, all_results = load_demo_model(), train_judge(), [], {}
    for scale in SCALES:
        with torch.inference_mode():
            results = measure(model, scale, counts, pictures, lambda drawn: read_digits(judge, drawn))
        share = results["reference", REFERENCE_STEPS].recognised
        print(
            f"\nguidance {scale:g}: distance from {REFERENCE_STEPS} steps on {pictures} held-out starts, and the share "
            f"read as the requested digit ({share:.0%} with {REFERENCE_STEPS} steps)\n\n{table(results, counts)}"
        )
        missed += [
            f"{steps} fitted steps as near as {2 * steps} trailing ones at guidance {scale:g}"
            for steps in REQUIRED
            if steps in counts and results["accurate", steps].distance > results["trailing", 2 * steps].distance
        ]
        all_results[scale] = {key: result.distance for key, result in results.items()}
    if not quick:
        from bench.figures.fitted_steps import save_plot  # not earlier: others measure without a plot, or matplotlib

        print(f"\nplot: {save_plot(images / 'fitted_steps.png', all_results, counts)}")
    print("\n" + ("every requirement is met" if not missed else "NOT MET: " + "; ".join(missed)))
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m bench.fitted_steps", description="Measure fitted steps.")
    parser.add_argument("--quick", action="store_true", help="fewer step counts and pictures, no plot")
    parser.add_argument("--images", type=Path, default=Path(__file__).parents[2] / "docs" / "images",
                        help="folder for the plot (default: %(default)s)")  # fmt: skip
    parsed = parser.parse_args()
    sys.exit(main(parsed.quick, parsed.images))
