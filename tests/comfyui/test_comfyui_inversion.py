"""Inversion on the demo model in a running ComfyUI, through its HTTP API: every method, and both ways of sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddim import INVERSION_METHODS

pytestmark = pytest.mark.comfyui

SAMPLE = {"seed": 1, "cfg": 1.0, "guidance_rescale": 0.0, "add_noise": False, "x0_processing": "from schedule",
          "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0,
          "use_clipped_model_output": False, "noise_mode": "per image"}  # fmt: skip
SAMPLER = {name: SAMPLE[name] for name in list(SAMPLE)[5:]} | {"x0_processing": "none"}
# Root mean square and largest difference in levels of 0..255 after 10 steps. Save Image cuts fractions off, so that the
# smallest error can cost a level; SIGMAS round zero SNR to ComfyUI's 4.9e-8.
LIMITS = {
    "ddim": (25, 255),
    "fixed_point": (8, 255),
    "edict": (1, 1),
    "bdia": (1, 1),
    "variance_noise": (1, 1),
    "sampler": (2, 2),
}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def shown(latent: list[Any], name: str) -> dict[str, Any]:
    """A grid of latents, saved under that name."""
    return {
        f"{name} grid": node("DDIMDemoDecode", latent=latent, columns=2, scale=1),
        f"{name} file": node("SaveImage", images=[f"{name} grid", 0], filename_prefix=f"round_trip/{name}"),
    }


def ground() -> dict[str, Any]:
    schedule = {"steps": 10, "timestep_spacing": "trailing", "denoise": 1.0, "prediction_type": "v_prediction",
                "rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
                "beta_end": 0.012, "num_train_timesteps": 1000, "set_alpha_to_one": True, "steps_offset": 0,
                "start_step": 0, "end_step": 10000, "timesteps": "", "parity": "exact"}  # fmt: skip
    return {
        "model": node("DDIMDemoModel"),
        "digits": node("DDIMDemoPrompt", digits="05"),
        "none": node("DDIMDemoPrompt", digits=""),
        "pictures": node("DDIMDemoPicture", digits="05", scan=1),
        "latents": node("DDIMDemoEncode", image=["pictures", 0]),
        "schedule": node("DDIMSchedule", model=["model", 0], **schedule),
    }


def guided() -> dict[str, Any]:
    return {"model": ["model", 0], "positive": ["digits", 0], "negative": ["none", 0]}


def inverted(method: str) -> dict[str, Any]:
    return node(
        "DDIMInvert", **guided(), latent_image=["latents", 0], schedule=["schedule", 0], method=method, seed=1, cfg=1.0,
        guidance_rescale=0.0, eta=1.0, noise_path="cycle", refinements=4, noise_precision="half",
    )  # fmt: skip


def by_sampler(*, add_noise: bool) -> dict[str, Any]:
    return {
        "ddim sampler": node("DDIMSampler", eta=1.0, variance_noise=["variance_noise", 1], **SAMPLER),
        "custom": node("SamplerCustom", **guided(), add_noise=add_noise, noise_seed=3, cfg=1.0,
                       sampler=["ddim sampler", 0], sigmas=["schedule", 1], latent_image=["variance_noise", 0]),
        **shown(["custom", 0], "sampler"),
    }  # fmt: skip


def everything() -> dict[str, Any]:
    prompt = {**ground(), **shown(["latents", 0], "original"), **by_sampler(add_noise=False)}
    for method in INVERSION_METHODS:
        eta = 1.0 if method == "variance_noise" else 0.0
        prompt[method] = inverted(method)
        prompt[f"{method} back"] = node(
            "DDIMSample", **guided(), **SAMPLE, eta=eta, latent_image=[method, 0], schedule=["schedule", 0],
            variance_noise=[method, 1],
        )  # fmt: skip
        prompt.update(shown([f"{method} back", 0], method))
    return prompt


@pytest.fixture(scope="module")
def entry(server: Any) -> dict[str, Any]:
    return server.run(everything())


def pixels(server: Any, entry: dict[str, Any], name: str) -> np.ndarray:
    (path,) = [path for path in map(Path, server.files(entry)) if path.name.startswith(f"{name}_")]
    return np.asarray(Image.open(path).convert("RGB"), np.int16)


@pytest.mark.parametrize("name", LIMITS)
def test_pictures_come_back(server: Any, entry: dict[str, Any], name: str) -> None:
    original, back = (pixels(server, entry, each) for each in ("original", name))
    apart = np.abs(back - original).astype(float)
    assert original.std() > 20
    assert (apart**2).mean() ** 0.5 <= LIMITS[name][0] and apart.max() <= LIMITS[name][1]


@pytest.mark.parametrize("method", INVERSION_METHODS)
def test_the_error_is_told_per_picture(entry: dict[str, Any], method: str) -> None:
    (report,) = entry["outputs"][method]["ddim_inversion"]
    assert report["method"] == method and len(report["round_trip_error"]) == 2
    limit = 1e-3 if method in ("edict", "bdia", "variance_noise") else 0.3
    assert all(0 <= error < limit for error in report["round_trip_error"])


def test_noise_on_top_of_inverted_noise_is_refused(server: Any) -> None:
    prompt = {**ground(), "variance_noise": inverted("variance_noise"), **by_sampler(add_noise=True)}
    entry = server.wait(server.queue(prompt))
    assert entry["status"]["status_str"] == "error"
    assert "turn add_noise off" in str(entry["status"]["messages"])
