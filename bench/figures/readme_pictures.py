"""Draw the before-and-after pictures of README with the demo model: ``python -m bench.figures.readme_pictures``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from bench.figures.strips import conditional, demo, sheet
from ddim import DDIMScheduler, guided_model, invert, reconstruct
from demo import UNCONDITIONAL, held_out_picture
from demo.draw import draw_digits, initial_noise, make_scheduler
from demo.judge import mean_brightness

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTH, COLUMNS = 902, 8
CHOSEN_FROM = 80


READINGS: dict[str, dict[str, Any]] = {
    "read as an ordinary model: noise": {"prediction_type": "epsilon", "rescale_betas_zero_snr": False},
    "read as v, with the usual noise levels: darkness becomes grey": {
        "rescale_betas_zero_snr": False,
        "timestep_spacing": "leading",
    },
    "read as v, with zero SNR: the tones of the training": {},
}


def zero_snr() -> Image.Image:
    """The darkest of many pictures of a v-prediction model with zero SNR, read in three ways from the same noise."""
    labels, noise, rows = torch.arange(CHOSEN_FROM) % 10, initial_noise(CHOSEN_FROM, 1), {}
    for name, changes in READINGS.items():
        scheduler = DDIMScheduler(**{**demo().scheduler_config, **changes})
        scheduler.set_timesteps(10)
        rows[name] = draw_digits(demo(), labels, noise, scheduler)
    dark = mean_brightness(rows[name]).argsort()[:COLUMNS]
    return drawn({name: pictures[dark] for name, pictures in rows.items()})


def inversion() -> Image.Image:
    """Scans, and how they come back from the noise that two methods find."""
    labels = [0, 1, 2, 3, 4, 5, 6, 8]
    pictures = torch.stack([held_out_picture(label, 0) for label in labels]) * 2 - 1
    model, scheduler, rows = conditional(labels), make_scheduler(demo(), 20), {"real scans": pictures}
    for name, method in (("usual DDIM inversion", "ddim"), ("recorded noise", "variance_noise")):
        found = invert(model, pictures, scheduler, method=method, seed=1)
        rows[f"back after {name}, 20 steps"] = reconstruct(model, found, scheduler)
    return drawn(rows)


def edit() -> Image.Image:
    """Scans of a 3, and the same with the prompt 8."""
    pictures = torch.stack([held_out_picture(3, scan) for scan in range(COLUMNS)]) * 2 - 1
    scheduler = make_scheduler(demo(), 30)
    threes, eights, nothing = (conditional([label] * COLUMNS) for label in (3, 8, UNCONDITIONAL))
    found = invert(threes, pictures, scheduler, method="variance_noise", noise_path="edit_friendly", seed=1)
    edited = reconstruct(guided_model(eights, nothing, 2.0), found, scheduler)
    return drawn({"real scans": pictures, "the same scans with the prompt 8": edited})


def drawn(rows: dict[str, Tensor]) -> Image.Image:
    """Draw rows for the width of README."""
    return sheet(rows, width=WIDTH, most=COLUMNS).quantize(128, Image.Quantize.FASTOCTREE)


def main() -> None:
    """Draw the pictures."""
    for draw in (zero_snr, inversion, edit):
        path = FOLDER / f"readme_{draw.__name__}.png"
        draw().save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
