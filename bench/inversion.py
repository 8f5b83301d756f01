"""Accuracy of inversion, measured: ``python -m bench.inversion``.

Repeats table 2 of the DDIM paper (2010.02502) on the demo model and on a Gaussian mixture whose predictions are exact,
and compares the methods. Prints the tables of docs/inversion.md, draws its plot, and runs the example workflows to
make its pictures and the editor's thumbnails.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import ddim
from demo import UNCONDITIONAL, held_out_picture, load_demo_model
from host.cli import main as run_host

Model = Callable[[Tensor, Tensor], Tensor]

ROOT = Path(__file__).resolve().parents[1]
PAPER_STEPS = (10, 20, 50, 100, 200, 500, 1000)
PAPER_ERROR = (0.014, 0.0065, 0.0023, 0.0009, 0.0004, 0.0001, 0.0001)  # CIFAR-10, pictures scaled to [0, 1]
METHOD_STEPS = (10, 20, 50)
SCANS = 1  # scans of each digit
MODES, SHAPE, SPREAD = 6, (4, 16, 16), 0.3
Config = ddim.SchedulerConfig | ddim.SigmaConfig
SD_CONFIG = ddim.SchedulerConfig(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    timestep_spacing="trailing",
)
RAMP = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
SD3_SIGMAS = 3 * RAMP / (1 + 2 * RAMP)  # a shift of 3
FLOW_CONFIG = ddim.SigmaConfig(ddim.FLOW, tuple(SD3_SIGMAS.tolist()))
LOW, HIGH = 0.002 ** (1 / 7), 80 ** (1 / 7)  # of EDM's levels (2206.00364, equation 5)
EDM_CONFIG = ddim.SigmaConfig(ddim.VARIANCE_EXPLODING, tuple(((LOW + RAMP * (HIGH - LOW)) ** 7).tolist()))

# workflow -> the pictures that it saves, in their order on the combined picture
WORKFLOWS = {
    "Invert and reconstruct": ("inversion/original", "inversion/plain", "inversion/exact"),
    "Edit a picture - a 3 becomes an 8": ("edit/before", "edit/after"),
    "Edit a picture - keep the background": ("proximal/before", "proximal/after"),
    "Edit a picture - add and remove": ("edit_guidance/before", "edit_guidance/after"),
    "Interpolate between pictures": ("interpolation/frames",),
    "Share an inverted picture": ("shared/digits",),
    "Few steps - fitted to the model": ("fitted/trailing_5", "fitted/fitted_5", "fitted/trailing_20"),
    "Flow model - sample and edit": ("flow/sampled", "flow/before", "flow/after"),
}
GAP = 6
THUMBNAIL = 384


# -- the two models --------------------------------------------------------------------------------------------


def demo_case(scans: int = SCANS) -> tuple[Config, Model, Tensor]:
    """Return the demo model without a prompt, and real scans in [-1, 1] that it has not seen, so many of each digit."""
    demo = load_demo_model()
    pictures = [held_out_picture(digit, scan) for scan in range(scans) for digit in range(10)]

    @torch.inference_mode()
    def model(x: Tensor, t: Tensor) -> Tensor:
        return demo.network(x, t.expand(len(x)), torch.full((len(x),), UNCONDITIONAL))

    return ddim.SchedulerConfig(**demo.scheduler_config), model, torch.stack(pictures) * 2 - 1


def mixture_case(seed: int, config: Config = SD_CONFIG) -> tuple[Config, Model, Tensor]:
    """Return a mixture of Gaussians with its exact prediction, and samples from it, in float64."""
    noise = ddim.make_schedule(1, config).noise
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(MODES, math.prod(SHAPE), generator=generator, dtype=torch.float64)
    stds = SPREAD * (0.5 + torch.rand(MODES, generator=generator, dtype=torch.float64))
    chosen = torch.arange(len(means))
    z = torch.randn(len(means), math.prod(SHAPE), generator=generator, dtype=torch.float64)
    data = (means[chosen] + stds[chosen, None] * z).reshape(-1, *SHAPE)

    def model(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = noise.level_at(int(noise.index_of_times(t.reshape(1))))
        variance = (alpha * stds) ** 2 + sigma**2
        away = x.flatten(1)[:, None] - alpha * means
        log_weight = -0.5 * (away.square().sum(-1) / variance + math.prod(SHAPE) * variance.log())
        weight = torch.softmax(log_weight, 1)[..., None]
        epsilon = (weight * away / variance[:, None]).sum(1).view_as(x) * sigma
        x0 = (weight * (means + (alpha * stds**2 / variance)[:, None] * away)).sum(1).view_as(x)
        return {"epsilon": epsilon, "sample": x0, "flow_prediction": epsilon - x0}[config["prediction_type"]]

    return config, model, data


# -- figures -------------------------------------------------------------------------------------------------------


def errors(case: tuple[Config, Model, Tensor], method: str, counts: Sequence[int]) -> list[float]:
    """Mean squared round-trip error for each number of steps."""
    config, model, data = case
    found = []
    for steps in tqdm(counts, desc=method, unit="run"):
        scheduler = ddim.make_schedule(steps, config).scheduler()
        found.append(float(ddim.invert(model, data, scheduler, method=method, seed=0).residual.mean()))
    return found


def table(head: Sequence[object], rows: dict[str, Sequence[float]]) -> str:
    """Format a Markdown table."""
    lines = ["| steps | " + " | ".join(map(str, head)) + " |", "|---" * (len(head) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{value:.2g}" for value in values) + " |" for name, values in rows.items()]
    return "\n".join(lines)


def paper_table(seed: int, image: Path) -> None:
    """Print and plot table 2: plain inversion against the number of steps. Pictures in [0, 1], as in the paper."""
    shown = [error / 4 for error in errors(demo_case(), "ddim", PAPER_STEPS)]
    exact = errors(mixture_case(seed), "ddim", PAPER_STEPS)
    rows = {"demo model": shown, "Gaussian mixture": exact, "the paper (CIFAR-10)": PAPER_ERROR}
    print("\nMean squared error after plain DDIM inversion and reconstruction\n")
    print(table(PAPER_STEPS, rows))
    draw(rows, image)


def methods_table(seed: int) -> None:
    """Compare the methods on both models."""
    cases = {
        "demo model": demo_case(),
        "Gaussian mixture": mixture_case(seed),
        "Gaussian mixture, flow model": mixture_case(seed, FLOW_CONFIG),
        "Gaussian mixture, variance exploding model": mixture_case(seed, EDM_CONFIG),
    }
    for name, case in cases.items():
        print(f"\nMean squared error of the methods, {name}, {str(case[2].dtype).removeprefix('torch.')}\n")
        print(table(METHOD_STEPS, {method: errors(case, method, METHOD_STEPS) for method in ddim.INVERSION_METHODS}))


def draw(rows: dict[str, Sequence[float]], path: Path) -> None:
    """Plot the table with two logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=120)
    for (name, values), style in zip(rows.items(), ("o-", "s-", "x--"), strict=True):
        axes.loglog(PAPER_STEPS, values, style, label=name)
    axes.set_xlabel("steps S")
    axes.set_ylabel("mean squared error of the round trip")
    axes.set_xticks(PAPER_STEPS, [str(steps) for steps in PAPER_STEPS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


# -- pictures ------------------------------------------------------------------------------------------------------


def workflow_pictures(images: Path, workflows: Mapping[str, Sequence[str]] = WORKFLOWS) -> None:
    """Run each example workflow; stack its pictures, and save a thumbnail beside the workflow."""
    images.mkdir(parents=True, exist_ok=True)
    for name, saved in workflows.items():
        workflow = ROOT / "example_workflows" / f"{name}.json"
        with tempfile.TemporaryDirectory() as folder:
            if run_host(["run", str(workflow), "--output-directory", folder]) != 0:
                raise RuntimeError(f"{workflow.name} failed; its error is printed above")
            parts = [Image.open(Path(folder) / f"{part}_00001_.png").convert("RGB") for part in saved]
        sheet = stacked(parts)
        sheet.save(images / f"{name}.png", optimize=True)
        thumbnail(sheet).save(workflow.with_suffix(".jpg"), quality=88)


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Stack pictures on a white background."""
    sheet = Image.new(
        "RGB", (max(part.width for part in parts), sum(part.height + GAP for part in parts) - GAP), "white"
    )
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height + GAP
    return sheet


def thumbnail(sheet: Image.Image) -> Image.Image:
    """Cut the left part of a sheet, at most twice as wide as high, for the template browser."""
    side = min(sheet.width, sheet.height)
    return sheet.crop((0, 0, max(side, min(sheet.width, 2 * side)), side)).resize(
        (THUMBNAIL * max(side, min(sheet.width, 2 * side)) // side, THUMBNAIL), Image.Resampling.LANCZOS
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and write the pictures."""
    parser = argparse.ArgumentParser("python -m bench.inversion", description="Measure inversion.")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mixture (default: %(default)s)")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder for the pictures")
    parser.add_argument("--only", choices=("tables", "paper", "pictures"), help="run only this part")
    parsed = parser.parse_args(arguments)
    if parsed.only in (None, "tables"):
        methods_table(parsed.seed)
    if parsed.only in (None, "paper"):
        paper_table(parsed.seed, parsed.images / "inversion_table2.png")
    if parsed.only in (None, "pictures"):
        workflow_pictures(parsed.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
