"""Families of flow and EDM models: how ComfyUI samples each of them, and conditions for a network of wavy.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# As comfy.model_base puts them together; time_scale makes times from 0 to 1 matter to the network too.
FAMILIES: dict[str, dict[str, Any]] = {
    "sd3": {"schedule": "ModelSamplingDiscreteFlow", "prediction": "CONST",
            "settings": {"shift": 3.0, "multiplier": 1000}},
    "auraflow": {"schedule": "ModelSamplingDiscreteFlow", "prediction": "CONST",
                 "settings": {"shift": 1.73, "multiplier": 1.0}, "time_scale": 1000.0},
    "flux": {"schedule": "ModelSamplingFlux", "prediction": "CONST",
             "settings": {"shift": 1.15}, "time_scale": 1000.0},
    "cosmos": {"schedule": "ModelSamplingCosmosRFlow", "prediction": "COSMOS_RFLOW",
               "settings": {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 1.0}, "time_scale": 1000.0},
    "edm": {"schedule": "ModelSamplingContinuousEDM", "prediction": "EDM",
            "settings": {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}, "time_scale": 500.0},
    "svd": {"schedule": "ModelSamplingContinuousEDM", "prediction": "V_PREDICTION",
            "settings": {"sigma_min": 0.002, "sigma_max": 700.0, "sigma_data": 1.0}, "time_scale": 500.0},
    "audio": {"schedule": "ModelSamplingContinuousV", "prediction": "V_PREDICTION",
              "settings": {"sigma_min": 0.03, "sigma_max": 500.0, "sigma_data": 1.0}, "time_scale": 1000.0},
}  # fmt: skip
SCALED = {**FAMILIES["sd3"], "noise_scale": 7.5}  # only the newer ComfyUI knows noise_scale
RECTIFIED = ("sd3", "auraflow", "flux")  # ComfyUI's CONST: its ancestral sampler has steps of its own for them


def conditions(rows: int = 11) -> dict[str, Any]:
    """A positive and a negative conditioning of label weights."""
    generator = torch.Generator().manual_seed(4)
    positive, negative = torch.randn(2, 1, 1, rows, generator=generator)
    return {"positive": [[positive, {}]], "negative": [[negative, {}]]}


def etas_of_stock(sigmas: Tensor, stock_eta: float) -> list[float]:
    """Return DDIM's eta of each step that adds as much noise as ComfyUI's sample_euler_ancestral_RF.

    Args:
        sigmas: Of the run, the last 0, ``(S + 1,)``.
        stock_eta: ComfyUI's eta.
    """
    t, u = sigmas[:-2].double(), sigmas[1:-1].double()
    down = u * (1 + (u / t - 1) * stock_eta)
    stock = (u**2 - down**2 * (1 - u) ** 2 / (1 - down) ** 2).sqrt()
    largest = u * (1 - (1 - t) ** 2 * u**2 / ((1 - u) ** 2 * t**2)).sqrt()
    return [*(stock / largest).tolist(), 0.0]
