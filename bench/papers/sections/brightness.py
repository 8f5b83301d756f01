"""Common Diffusion Noise Schedules, table 2 and figures: which schedules reach black and white."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

import ddim
from bench.demo_quality import kolmogorov_smirnov
from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section, Setting
from bench.papers.drawing import Drawing, drawn
from bench.papers.figures import bootstrapped, exact, spread
from bench.papers.gaussian import Gaussian, sampled
from bench.papers.markdown import table
from demo.data import load_scans, random_pictures
from demo.judge import mean_brightness

__all__ = ["SECTION", "exact_mean", "measured"]

SPACINGS = ("leading", "linspace", "trailing")
BETAS = {"plain": False, "zero SNR": True}
RESCALES = (0.0, 0.7)
GUIDANCES = (1.5, 7.5)  # the example workflow's, and the paper's
STEPS = 20
SEEDS, COUNT = (0, 1, 2), 80
QUICK_SEEDS, QUICK_COUNT = (0,), 40
EXACT_STEPS = (5, 10, 20, 50)
DATA_PICTURES, DATA_SEED = 20_000, 1
QUANTILES = 20


@cache
def data_brightness() -> Tensor:
    """Return the mean brightness of renderings of held-out scans."""
    generator = torch.Generator().manual_seed(DATA_SEED)
    return mean_brightness(random_pictures(load_scans("held_out"), DATA_PICTURES, generator)[0])


def measured(drawing: Drawing, seeds: tuple[int, ...], advance: Callable[[int], None]) -> Found:
    """Return the distribution of mean brightness of one cell: the same drawing from several seeds."""
    levels = torch.cat([mean_brightness(drawn(replace(drawing, seed=seed), advance)) for seed in seeds])
    real = data_brightness()
    distance = bootstrapped(lambda chosen: kolmogorov_smirnov(levels[chosen], real), len(levels), resamples=200)
    return {"distance": distance, "spread": spread(levels)} | {
        f"quantile/{q}": exact(float(levels.quantile(q / QUANTILES))) for q in range(QUANTILES + 1)
    }


def real(count: int, advance: Callable[[int], None]) -> Found:
    """Return the same of as many real pictures: the floor of the distance."""
    generator = torch.Generator().manual_seed(DATA_SEED + 1)
    levels = mean_brightness(random_pictures(load_scans("held_out"), count, generator)[0])
    distance = bootstrapped(lambda chosen: kolmogorov_smirnov(levels[chosen], data_brightness()), count, resamples=200)
    return {"distance": distance, "spread": spread(data_brightness())} | {
        f"quantile/{q}": exact(float(data_brightness().quantile(q / QUANTILES))) for q in range(QUANTILES + 1)
    }


def exact_mean(steps: int, spacing: str, zero_snr: bool) -> float:
    """Return the mean of what is sampled where the data are N(1, 1) and the model is exact: 1 if nothing is lost."""
    data = Gaussian(torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    scheduler = ddim.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=zero_snr,
    )
    scheduler.set_timesteps(steps)
    return float(sampled(data, scheduler).mean)


def closed_form(advance: Callable[[int], None]) -> Found:
    """Return the exact means of all schedules."""
    return {
        f"{betas}/{spacing}/{s}": exact(exact_mean(s, spacing, zero))
        for betas, zero in BETAS.items()
        for spacing in SPACINGS
        for s in EXACT_STEPS
    }


def name_of(betas: str, spacing: str, guidance: float, rescale: float) -> str:
    """Return the name of a cell."""
    return f"{betas}/{spacing}/{guidance:g}/{rescale:g}"


def cells(quick: bool) -> list[Cell]:
    """List a cell for each schedule, guidance and rescale, the real data, and the closed form."""
    seeds, count = (QUICK_SEEDS, QUICK_COUNT) if quick else (SEEDS, COUNT)
    total = len(seeds) * count
    settings: dict[str, Setting] = {"seeds": str(seeds), "count": count, "steps": STEPS}
    found = [Cell("real", {"count": total}, 50, partial(real, total)), Cell("closed form", {}, 50, closed_form)]
    for betas, spacing, guidance, rescale in product(BETAS, SPACINGS, GUIDANCES, RESCALES):
        drawing = Drawing(
            STEPS,
            count,
            guidance_scale=guidance,
            guidance_rescale=rescale,
            timestep_spacing=spacing,
            zero_snr=BETAS[betas],
        )
        name = name_of(betas, spacing, guidance, rescale)
        found.append(Cell(name, settings, len(seeds) * drawing.cost, partial(measured, drawing, seeds)))
    return found


def _tables(results: Results) -> str:
    """Format distance and deviation, one table for each guidance."""
    tables = []
    for guidance in GUIDANCES:
        rows = {}
        for betas, spacing in product(BETAS, SPACINGS):
            found = [results[name_of(betas, spacing, guidance, rescale)] for rescale in RESCALES]
            rows[f"{betas}, {spacing}"] = [
                figures[kind].plus_minus(3) for kind in ("distance", "spread") for figures in found
            ]
        columns = [f"{kind}, rescale {r:g}" for kind in ("KS distance", "deviation") for r in RESCALES]
        tables.append(table([f"guidance {guidance:g}", *columns], rows))
    return "\n\n".join(tables)


def _compared(results: Results) -> str:
    """Say for each guidance without rescale whether zero SNR with trailing timesteps beats what was usual."""
    lines = []
    for guidance in GUIDANCES:
        fixed, usual = (
            results[name_of(*schedule, guidance, 0.0)]["distance"]
            for schedule in (("zero SNR", "trailing"), ("plain", "leading"))
        )
        apart = fixed.high < usual.low or usual.high < fixed.low
        nearer = "nearer to" if fixed.value < usual.value else "further from"
        lines.append(
            f"- At guidance {guidance:g} zero SNR with trailing timesteps is {nearer} the data than plain betas with "
            f"leading ones: {fixed.value:.3f} against {usual.value:.3f}; the intervals "
            f"{'do not overlap' if apart else 'overlap'}."
        )
    return "\n".join(lines)


def text(results: Results) -> str:
    """Write the section."""
    real = results["real"]
    means = {
        f"{betas}, {spacing}": [f"{results['closed form'][f'{betas}/{spacing}/{s}'].value:.3f}" for s in EXACT_STEPS]
        for betas, spacing in product(BETAS, SPACINGS)
    }
    return f"""\
**In closed form**: data N(1, 1), exact prediction, Stable Diffusion's betas, start from N(0, 1). The mean of what is
sampled; 1 is right.

{table(["mean", *(f"S = {s}" for s in EXACT_STEPS)], means)}

**On the demo model**, whose data range from black to white paper: {real["distance"].count} pictures a cell from
several seeds, {STEPS} steps, eta 0. The distribution of their mean brightness is compared with that of
{DATA_PICTURES:,} renderings of held-out scans: the largest distance of the two distribution functions
(Kolmogorov-Smirnov), and the standard deviation (of the data: {real["spread"].value:.3f}). As many real pictures have a
distance of {real["distance"].plus_minus(3)}. ± is 1.96 bootstrap standard deviations over the pictures of all seeds.

{_tables(results)}

{_compared(results)}

The model was trained with zero terminal SNR; "plain" samples it with the levels before the rescale of the betas, as is
done where a sampler does not know of it. The colours beyond black and white that rescale is meant against are counted
in [Guidance](guidance.md).

The paper's own table 3 (Stable Diffusion 2.1 base, 50 steps, guidance 7.5, FID / inception score on COCO):
22.96 / 34.11 without the fixes and 21.66 / 36.16 with zero SNR, trailing timesteps, v-prediction and rescale 0.7."""


def draw(results: Results, path: Path) -> None:
    """Plot the means of the closed form, and the distribution functions of brightness."""
    means, shares = plots.panels(["closed form: mean of the samples", f"demo model, guidance {GUIDANCES[0]:g}"])
    lines = {
        f"{betas}, {spacing}": {s: results["closed form"][f"{betas}/{spacing}/{s}"] for s in EXACT_STEPS}
        for betas, spacing in product(BETAS, SPACINGS)
    }
    plots.lines(means, lines, "steps S", "mean (1 is right)", log_y=False)
    means.legend(fontsize=7)
    drawn = {"real pictures": results["real"]} | {
        f"{betas}, {spacing}": results[name_of(betas, spacing, GUIDANCES[0], 0.0)]
        for betas, spacing in (("plain", "leading"), ("zero SNR", "trailing"))
    }
    levels = [q / QUANTILES for q in range(QUANTILES + 1)]
    for (name, found), colour in zip(drawn.items(), ("black", plots.COLOURS[4], plots.COLOURS[0]), strict=True):
        at = [found[f"quantile/{q}"].value for q in range(QUANTILES + 1)]
        shares.plot(at, levels, label=name, color=colour)
    shares.set_xlabel("mean brightness of a picture")
    shares.set_ylabel("share of pictures below")
    plots.save(shares, path)


SECTION = Section(
    "brightness",
    "Black and white: Common Diffusion Noise Schedules",
    cells,
    text,
    draw,
    "Mean of the samples against steps for six schedules, and the distribution of the pictures' brightness",
)
