"""How the pictures of the help pages look: 300 pixels wide when they are shown, on a light or a dark ground."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from PIL import Image

from bench.figures.strips import WIDTH

__all__ = ["BLUE", "DOTS", "GREEN", "GREY", "ORANGE", "axes_of", "colours", "plotted", "set_style"]

# Colours that are readable on white and on black; a help page is 300 pixels wide, and a picture twice as many.
BLUE, ORANGE, GREEN, GREY = "#3d86e0", "#dd7a2a", "#3f9a55", "#808080"
DOTS = 200  # of a plot, per inch


def set_style() -> None:
    """Set matplotlib up."""
    matplotlib.use("Agg")
    plt.rc("font", size=9)
    plt.rc("text", color=GREY)
    plt.rc("axes", titlesize=9, titlecolor=GREY, labelcolor=GREY, edgecolor=GREY)
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("xtick", color=GREY)
    plt.rc("ytick", color=GREY)
    plt.rc("legend", fontsize=9)


def axes_of(columns: int, height: float, **options: Any) -> Any:
    """Open a figure of the width of a help page, and return its axes."""
    return plt.subplots(1, columns, figsize=(WIDTH / DOTS, height), squeeze=False, **options)[1][0]


def plotted() -> Image.Image:
    """Return the open figure as a picture."""
    buffer = io.BytesIO()
    plt.tight_layout(pad=0.3)
    plt.savefig(buffer, dpi=DOTS, transparent=True)
    plt.close("all")
    return Image.open(buffer).convert("RGBA")


def colours(picture: Image.Image) -> Image.Image:
    """Return the picture with at most 128 colours, so that its file is small."""
    return picture.quantize(128, Image.Quantize.FASTOCTREE)
