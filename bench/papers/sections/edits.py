"""CycleDiffusion, edit-friendly DDPM, EDICT and others: edits that succeed against pixels that are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.edits.__main__ import kept_of_each, pictures
from bench.edits.methods import METHODS as MEASURED_BEFORE
from bench.edits.methods import STEPS, Edit, Prompts
from bench.papers import plots
from bench.papers.cells import Cell, Found, Results, Section
from bench.papers.drawing import judge
from bench.papers.figures import exact, mean, share
from bench.papers.markdown import joined, table
from demo.judge import read_digits

__all__ = ["SECTION"]

SCANS, QUICK_SCANS = 8, 1  # of each pair of digits
CALLS = 150  # of a method, about
METHODS = MEASURED_BEFORE | {"variance_noise, cycle": Edit("variance_noise", 2.0, noise_path="cycle")}
PAPERS = {
    "ddim": "plain DDIM inversion (2010.02502)",
    "fixed_point": "fixed-point inversion",
    "edict": "EDICT (2211.12446)",
    "bdia": "BDIA (2307.10829)",
    "variance_noise": "edit-friendly DDPM (2304.06140)",
    "ddim, NPI": "negative-prompt inversion",
    "ddim, ProxNPI": "ProxNPI (2306.05414)",
    "ddim, ProxNPI (hard)": "ProxNPI, hard threshold",
    "variance_noise, LEDITS++": "LEDITS++ (2311.16711)",
    "variance_noise, cycle": "CycleDiffusion (2210.05559)",
}


def measured(method: str, scans: int, advance: Callable[[int], None]) -> Found:
    """Return the figures of one method."""
    before, source, target = pictures(scans)
    prompts = Prompts()
    after = METHODS[method](prompts, before, source, target)
    advance(len(before) * prompts.calls)
    right = read_digits(judge(), after.clamp(-1, 1)) == target
    kept = kept_of_each(before, after)
    return {"read": share(right), "kept": mean(kept), "calls": exact(prompts.calls)}


def cells(quick: bool) -> list[Cell]:
    """List a cell for each method."""
    scans = QUICK_SCANS if quick else SCANS
    return [
        Cell(name, {"scans": scans, "steps": STEPS}, 10 * scans * CALLS, partial(measured, name, scans))
        for name in METHODS
    ]


def text(results: Results) -> str:
    """Write the section."""
    rows = {
        PAPERS[name]: [
            f"`{name}`",
            found["read"].percent(),
            f"{100 * found['kept'].value:.0f} ± {100 * (found['kept'].high - found['kept'].low) / 2:.0f} %",
            f"{found['calls'].value:.0f}",
        ]
        for name, found in results.items()
    }
    count = next(iter(results.values()))["read"].count
    return f"""\
{count} edits of real scans that the demo model has not seen: inverted with the prompt of the digit that they show, and
sampled with that of another digit; {STEPS} steps. "Read": the independent classifier reads the new digit (Wilson's
95 % interval). "Kept": pixels that moved by less than 0.1 of [-1, 1] (± 1.96 bootstrap standard deviations).

{table(["method of", "here", "read as the new digit", "pixels kept", "model calls"], rows)}

{_not_beaten(results)} No table of the papers has these columns; their figures are of other data and measures, and
CycleDiffusion's own tables were not at hand."""


def _not_beaten(results: Results) -> str:
    """Name the methods that no other one beats in both columns."""

    def beaten(a: Found) -> bool:
        return any(
            b is not a and b["read"].value >= a["read"].value and b["kept"].value >= a["kept"].value
            for b in results.values()
        )

    names = [PAPERS[name] for name, found in results.items() if not beaten(found)]
    return f"No other method is read more often and keeps more pixels than {joined(names)}."


def draw(results: Results, path: Path) -> None:
    """Plot edits that succeed against pixels kept."""
    (panel,) = plots.panels(["edits of unseen scans"], height=4.4)
    for (name, found), colour in zip(results.items(), (*plots.COLOURS, "black"), strict=False):
        x, y = found["kept"], found["read"]
        panel.errorbar(
            100 * x.value,
            100 * y.value,
            xerr=100 * (x.high - x.low) / 2,
            yerr=[[100 * (y.value - min(y.low, y.value))], [100 * (max(y.high, y.value) - y.value)]],
            marker="o",
            ms=5,
            capsize=2,
            color=colour,
            label=PAPERS[name],
        )
    panel.set_xlabel("pixels kept, %")
    panel.set_ylabel("read as the new digit, %")
    panel.legend(fontsize=7, loc="lower left", bbox_to_anchor=(1.0, 0.0))
    plots.save(panel, path, legend=False)


SECTION = Section(
    "edits",
    "Edits: success against pixels kept",
    cells,
    text,
    draw,
    "Share of edits read as the new digit against pixels kept, with intervals",
)
