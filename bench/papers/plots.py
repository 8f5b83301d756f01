"""The plots of the page. matplotlib is imported when one is drawn: the tables do not need it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import Figure

__all__ = ["COLOURS", "Line", "lines", "panels", "save"]

COLOURS = ("#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#d62728", "#17becf", "#8c564b", "#7f7f7f", "#e377c2")
Line = Mapping[int, Figure]


def panels(titles: Sequence[str], height: float = 3.6) -> Any:
    """Open a figure with one panel for each title; return the panels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    width = 3.6 * len(titles) + 0.8 if len(titles) > 1 else 6.0
    figure, axes = plt.subplots(1, len(titles), figsize=(width, height), squeeze=False, constrained_layout=True)
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.3)
    return axes[0]


def lines(panel: Any, found: Mapping[str, Line], x_label: str, y_label: str, *, log_y: bool = True) -> None:
    """Plot figures with their intervals against the number of steps, which is logarithmic."""
    ticks = sorted({x for line in found.values() for x in line})
    for (name, line), colour in zip(found.items(), COLOURS, strict=False):
        values = [figure.value for figure in line.values()]
        errors = [
            [max(0.0, figure.value - figure.low) for figure in line.values()],
            [max(0.0, figure.high - figure.value) for figure in line.values()],
        ]
        panel.errorbar(list(line), values, yerr=errors, marker="o", ms=3, lw=1.2, capsize=2, label=name, color=colour)
    panel.set_xscale("log")
    panel.set_yscale("log" if log_y else "linear")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel(x_label)
    panel.set_ylabel(y_label)


def save(panel: Any, path: Path, *, legend: bool = True) -> None:
    """Save the figure of a panel as PNG: under another name first."""
    from matplotlib import pyplot as plt

    if legend:
        panel.legend(fontsize=8)
    figure = panel.get_figure()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    figure.savefig(unfinished, dpi=100, format="png")
    plt.close(figure)
    os.replace(unfinished, path)
