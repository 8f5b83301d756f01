"""The plot of fitted steps for docs/scheduler.md."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_LINES = {
    "trailing": ("trailing", "#7f7f7f", "--"),
    "ays": ("Align Your Steps (SD 1.5)", "#1f77b4", ":"),
    "fast": ("fitted, fast", "#ff7f0e", "-"),
    "accurate": ("fitted, accurate", "#d62728", "-"),
}


def save_plot(path: Path, distances: dict[float, dict[tuple[str, int], float]], counts: tuple[int, ...]) -> Path:
    """Plot the distance from many steps against the number of steps, one panel per guidance scale.

    Args:
        path: of the PNG file.
        distances: by guidance scale, then by name and number of steps.
        counts: the numbers of steps.
    """
    figure, axes = plt.subplots(1, len(distances), figsize=(9, 3.8), sharey=True, constrained_layout=True)
    for panel, (scale, found) in zip(axes, distances.items(), strict=True):
        for name, (label, colour, style) in _LINES.items():
            values = [found[name, steps] for steps in counts]
            panel.loglog(counts, values, color=colour, ls=style, marker="o", ms=4, label=label)
        panel.set_xticks(counts, [str(steps) for steps in counts])
        panel.minorticks_off()
        panel.set(xlabel="steps", title=f"guidance {scale:g}")
        panel.grid(alpha=0.3)
    ticks = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3)
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].set_ylabel("distance from 250 steps (RMS)")
    axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    figure.savefig(unfinished, dpi=90, format="png")
    plt.close(figure)
    os.replace(unfinished, path)
    return path
