"""DDIM, table 1: quality of samples against steps and eta, on the demo model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section, Setting
from bench.papers.drawing import Drawing, drawn, judge, labels
from bench.papers.features import (
    FEATURES,
    REFERENCE_PICTURES,
    accuracy,
    features,
    frechet_distance,
    held_out,
    moments,
    renderings,
)
from bench.papers.figures import Figure, bootstrapped, mean, share
from bench.papers.markdown import joined, table, verdict
from demo.judge import read_digits

__all__ = ["ETAS", "PAPER", "SECTION", "measured", "orders", "shown"]

Eta = float | Literal["sigma_hat"]

ETAS: tuple[Eta, ...] = (0.0, 0.2, 0.5, 1.0, "sigma_hat")
STEPS, QUICK_STEPS = (5, 10, 20, 50, 100), (5, 10, 20)
COUNT, QUICK_COUNT = 400, 100
SPACING = "leading"  # the paper's
REAL = {"held_out": "held-out scans", "train": "training scans"}
FLOOR_SEED = 21
MARGIN = 3  # pixels around the scans

# 2010.02502, table 1: FID of CIFAR-10 and of CelebA 64x64
PAPER_STEPS = (10, 20, 50, 100, 1000)
PAPER: dict[str, dict[Eta, tuple[float, ...]]] = {
    "CIFAR-10": {
        0.0: (13.36, 6.84, 4.67, 4.16, 4.04),
        0.2: (14.04, 7.11, 4.77, 4.25, 4.09),
        0.5: (16.66, 8.35, 5.25, 4.46, 4.29),
        1.0: (41.07, 18.36, 8.01, 5.78, 4.73),
        "sigma_hat": (367.43, 133.37, 32.72, 9.99, 3.17),
    },
    "CelebA": {
        0.0: (17.33, 13.73, 9.17, 6.53, 3.51),
        0.2: (17.66, 14.11, 9.51, 6.79, 3.64),
        0.5: (19.86, 16.06, 11.01, 8.09, 4.28),
        1.0: (33.12, 26.03, 18.48, 13.93, 5.98),
        "sigma_hat": (299.71, 183.83, 71.71, 45.20, 3.26),
    },
}


def shown(eta: Eta) -> str:
    """Return how a row is called."""
    return "sigma-hat" if eta == "sigma_hat" else f"eta {eta:g}"


def distance(pictures: Tensor) -> Figure:
    """Return the Frechet distance of pictures from renderings of the held-out scans."""
    found, reference = features(pictures), held_out()
    return bootstrapped(lambda chosen: frechet_distance(moments(found[chosen]), reference), len(found))


def noise_on_paper(pictures: Tensor) -> Tensor:
    """Return the standard deviation of each picture's margin, (N,): 0 for a real picture, whose paper is one colour."""
    margin = torch.ones(pictures.shape[-2:], dtype=torch.bool)
    margin[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    return pictures[:, :, margin].std(dim=2).mean(dim=1)


def contrast(pictures: Tensor) -> Tensor:
    """Return the standard deviation of each picture's pixels, averaged over its channels, (N,)."""
    return pictures.flatten(2).std(dim=2).mean(dim=1)


def judged(pictures: Tensor, wanted: Tensor) -> Found:
    """Return the figures of pictures that show these digits."""
    return {
        "distance": distance(pictures),
        "noise": mean(noise_on_paper(pictures)),
        "contrast": mean(contrast(pictures)),
        "read": share(read_digits(judge(), pictures) == wanted),
    }


def measured(drawing: Drawing, advance: Callable[[int], None]) -> Found:
    """Return the figures of one cell."""
    return judged(drawn(drawing, advance), labels(drawing.count))


def real(split: str, count: int, advance: Callable[[int], None]) -> Found:
    """Return the figures of as many real pictures: those of the held-out scans are the noise floor."""
    return judged(*renderings(split, count, FLOOR_SEED))


def classifier(advance: Callable[[int], None]) -> Found:
    """Measure the classifier whose features are used."""
    return {"read": share(accuracy())}


def cells(quick: bool) -> list[Cell]:
    """List a cell for each number of steps and eta, and those of the real data."""
    steps, count = (QUICK_STEPS, QUICK_COUNT) if quick else (STEPS, COUNT)
    found = [Cell(split, {"count": count}, 100, partial(real, split, count)) for split in REAL]
    found.append(Cell("classifier", {}, 100, classifier))
    for eta in ETAS:
        for s in steps:
            drawing = Drawing(s, count, eta=eta, timestep_spacing=SPACING)
            settings: dict[str, Setting] = {"count": count, "seed": drawing.seed, "spacing": SPACING}
            found.append(Cell(f"{eta}/{s}", settings, drawing.cost, partial(measured, drawing)))
    return found


def steps_of(results: Results) -> list[int]:
    """Return the numbers of steps that were measured."""
    return [s for s in STEPS if f"0.0/{s}" in results]


def orders(rows: dict[Eta, dict[int, Figure]]) -> str:
    """Say where the paper's order holds: eta 0 best, sigma-hat worst."""
    columns = {s: [row[s] for row in rows.values()] for s in rows[0.0]}
    best = {s: min(column, key=_value) for s, column in columns.items()}
    worst = {s: max(column, key=_value) for s, column in columns.items()}
    claims = (("eta 0 is best", best, rows[0.0]), ("sigma-hat is worst", worst, rows["sigma_hat"]))
    return "\n".join(f"- {_order(claim, first, row)}" for claim, first, row in claims)


def _value(figure: Figure) -> float:
    return figure.value


def _order(claim: str, first: dict[int, Figure], row: dict[int, Figure]) -> str:
    """Say at which steps a row is the first; where another is, whether their intervals overlap."""
    held: list[object] = [s for s in row if row[s] is first[s]]
    missed = [f"{s} (where the intervals overlap)" if overlap(first[s], row[s]) else s for s in row if s not in held]
    return verdict(claim, held, missed)


def overlap(a: Figure, b: Figure) -> bool:
    """Return whether two intervals overlap."""
    return bool(a.count) and a.low <= b.high and b.low <= a.high


def paper_tables(steps: tuple[int, ...] = PAPER_STEPS) -> str:
    """Format the paper's table."""
    rows = {
        f"{shown(eta)}": [f"{PAPER['CIFAR-10'][eta][i]:g} / {PAPER['CelebA'][eta][i]:g}" for i in range(len(steps))]
        for eta in ETAS
    }
    return table(["FID in the paper, CIFAR-10 / CelebA", *(f"S = {s}" for s in steps)], rows)


def rows_of(results: Results, figure: str) -> dict[Eta, dict[int, Figure]]:
    """Return one kind of figure by eta and number of steps."""
    return {eta: {s: results[f"{eta}/{s}"][figure] for s in steps_of(results)} for eta in ETAS}


def _table(results: Results, figure: str, title: str, shape: Callable[[Figure], str]) -> str:
    """Format one kind of figure."""
    rows = {shown(eta): [*map(shape, row.values())] for eta, row in rows_of(results, figure).items()}
    return table([title, *(f"S = {s}" for s in steps_of(results))], rows)


def _real(results: Results, figure: str, digits: int) -> str:
    """Say what real pictures have."""
    return (
        f"Real pictures: {joined([f'{results[split][figure].plus_minus(digits)} ({REAL[split]})' for split in REAL])}."
    )


def text(results: Results) -> str:
    """Write the section."""
    count = results["0.0/5"]["read"].count
    return f"""\
{count} pictures of the demo model in each cell, the digits 0 to 9 in turn, all cells from the same initial noise; no
guidance, zero terminal SNR as in its training, and the paper's timesteps (leading). They are compared with
{REFERENCE_PICTURES:,} renderings of the held-out scans in {FEATURES} features: the last hidden layer of a classifier of
three convolutions, trained on renderings of the training scans only. It reads
{results["classifier"]["read"].percent()} of new renderings of held-out scans.

{_table(results, "distance", "Frechet distance", lambda figure: figure.plus_minus(2))}

± is 1.96 standard deviations of 1000 bootstrap samples. {_real(results, "distance", 2)} The first is the **noise
floor**: other renderings of the same scans, as many as a cell has pictures. The second is what a model can reach that
draws its training data.

{orders(rows_of(results, "distance"))}

The classifier has seen clean pictures only, and looks at the stroke. Two plain measures stand beside it. **Noise
left**: the standard deviation within the margin of a picture, where the paper of a real picture has one colour.

{_table(results, "noise", "noise left", lambda figure: figure.plus_minus(3))}

{_real(results, "noise", 3)}

{orders(rows_of(results, "noise"))}

**Contrast**: the standard deviation of a picture's pixels.

{_table(results, "contrast", "contrast", lambda figure: figure.plus_minus(3))}

{_about_contrast(results)}

**Read as asked**, by a support vector machine that looks at the stroke; in brackets Wilson's 95 % interval. It reads
{results["held_out"]["read"].percent()} of the held-out scans.

{_table(results, "read", "read as asked", Figure.percent)}

{paper_tables()}"""


def _about_contrast(results: Results) -> str:
    """Say how pale the pictures of few steps are, and what the step noise leaves in them."""
    rows, noise = rows_of(results, "contrast"), rows_of(results, "noise")
    fewest = steps_of(results)[0]
    pale = (
        f"Few steps of this model give pale pictures: at S = {fewest} the contrast is {rows[0.0][fewest].value:.3f} "
        f"with eta 0 and {rows[1.0][fewest].value:.3f} with eta 1, in the data "
        f"{results['held_out']['contrast'].value:.3f} (sigma-hat's noise counts as contrast)."
    )
    as_clean = all(noise[1.0][s].value <= noise[0.0][s].value for s in noise[0.0])
    why = (
        "\nUnlike the paper's networks, this one leaves no more noise in a picture with eta 1 than with eta 0: what "
        "makes eta 0 the best there, less noise in few steps, does not apply here."
    )
    return pale + (why if as_clean else "")


def draw(results: Results, path: Path) -> None:
    """Plot distance and noise against the number of steps, beside the paper's."""
    ours, noise, theirs = plots.panels(["Frechet distance in features", "noise left", "the paper, FID of CIFAR-10"])
    for panel, figure in ((ours, "distance"), (noise, "noise")):
        lines = {shown(eta): row for eta, row in rows_of(results, figure).items()}
        plots.lines(panel, lines, "steps S", "")
    ours.axhline(results["held_out"]["distance"].value, color="black", lw=0.8, ls=":", label="noise floor")
    cifar = {
        shown(eta): {s: Figure(v, v, v, 0) for s, v in zip(PAPER_STEPS, PAPER["CIFAR-10"][eta], strict=True)}
        for eta in ETAS
    }
    plots.lines(theirs, cifar, "steps S", "")
    plots.save(ours, path)


SECTION = Section(
    "quality",
    "Steps and eta: DDIM, table 1",
    cells,
    text,
    draw,
    "Frechet distance and noise against steps for five etas, beside the paper's FID",
)
