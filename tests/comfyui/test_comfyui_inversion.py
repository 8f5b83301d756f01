"""Inversion on the demo model in a running ComfyUI, through its HTTP API: every method, and both ways of sampling."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddim import INVERSION_METHODS

pytestmark = pytest.mark.comfyui

SAMPLE = {"seed": 1, "cfg": 1.0}
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
    return node("DDIMInvert", **guided(), latent_image=["latents", 0], schedule=["schedule", 0], method=method, seed=1)


def by_sampler(*, add_noise: bool) -> dict[str, Any]:
    return {
        "ddim sampler": node("DDIMSampler", variance_noise=["variance_noise", 1]),
        "custom": node("SamplerCustom", **guided(), add_noise=add_noise, noise_seed=3, cfg=1.0,
                       sampler=["ddim sampler", 0], sigmas=["schedule", 1], latent_image=["variance_noise", 0]),
        **shown(["custom", 0], "sampler"),
    }  # fmt: skip


def sampled(latent: list[Any], **given: Any) -> dict[str, Any]:
    return node("DDIMSample", **guided(), **SAMPLE, latent_image=latent, **given)


def everything() -> dict[str, Any]:
    prompt = {**ground(), **shown(["latents", 0], "original"), **by_sampler(add_noise=False)}
    for method in INVERSION_METHODS:
        prompt[method] = inverted(method)
        prompt[f"{method} back"] = sampled([method, 0], variance_noise=[method, 1])  # two wires
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


def test_the_mark_of_an_inversion_goes_through_stock_nodes(server: Any) -> None:
    """A mask and a slice of the batch keep it; the method then decides about noise by itself."""
    through = {
        **ground(),
        "inverted": inverted("fixed_point"),
        "mask": node("SolidMask", value=1.0, width=32, height=32),
        "masked": node("SetLatentNoiseMask", samples=["inverted", 0], mask=["mask", 0]),
        "second": node("LatentFromBatch", samples=["masked", 0], batch_index=1, length=1),
    }
    through["digits"] = node("DDIMDemoPrompt", digits="5")
    through["pictures"] = node("DDIMDemoPicture", digits="55", scan=1)
    back = sampled(["second", 0], schedule=["schedule", 0])
    prompt = {**through, "back": back, **shown(["back", 0], "slice"), **shown(["latents", 0], "slice original")}
    entry = server.run(prompt)
    original = pixels(server, entry, "slice original")
    moved = np.abs(pixels(server, entry, "slice")[:, :32] - original[:, 32:]).astype(float)
    assert (moved**2).mean() ** 0.5 <= LIMITS["fixed_point"][0]
    refused = {**prompt, "inverted": inverted("variance_noise")}
    entry = server.wait(server.queue(refused))
    assert entry["status"]["status_str"] == "error"
    assert "inverted with variance_noise" in str(entry["status"]["messages"])


def test_what_a_stock_sampler_makes_of_an_inverted_latent_is_a_picture(server: Any) -> None:
    """KSampler keeps the keys of a LATENT on its result, which is sampled like any other picture."""
    stock = node("KSampler", **guided(), latent_image=["inverted", 0], seed=1, steps=3, cfg=1.0, sampler_name="euler",
                 scheduler="normal", denoise=1.0)  # fmt: skip
    prompt = {**ground(), "inverted": inverted("variance_noise"), "stock": stock}
    prompt |= {"again": sampled(["stock", 0], steps=4, denoise=0.5), **shown(["again", 0], "second pass")}
    assert pixels(server, server.run(prompt), "second pass").std() > 20


def test_a_strip_shows_every_step_and_a_cancelled_run_keeps_its_own(server: Any) -> None:
    film = {
        **ground(),
        "empty": node("DDIMDemoLatent", batch_size=2),
        "run": sampled(["empty", 0], steps=5),
        "strip": node("DDIMStepStrip", run_steps=["run", 2]),
        "strip file": node("SaveImage", images=["strip", 0], filename_prefix="round_trip/strip"),
    }
    strip = pixels(server, server.run(film), "strip")
    assert strip.shape == (32, 5 * 64, 3)
    prompt_id = server.queue({**film, "run": sampled(["empty", 0], steps=1000)})
    end = time.monotonic() + 120
    while time.monotonic() < end and not any(row[1] == prompt_id for row in server.get("/queue")["queue_running"]):
        time.sleep(0.05)
    time.sleep(1.5)  # of the many seconds that the run takes
    server.post("/interrupt", {})
    entry = server.wait(prompt_id)
    assert "execution_interrupted" in str(entry["status"]["messages"])
    kept = server.get("/ddim/replay/of/run")
    assert kept["partial"] is True and kept["prompt_id"] == prompt_id
    assert 0 < len(kept["frames"]) and kept["frames"][-1]["step"] < 1000
    with urllib.request.urlopen(f"{server.url}/ddim/replay/{kept['sheet']}", timeout=60) as answer:
        assert answer.read(4) == b"\x89PNG"


def test_the_editor_gets_what_the_inputs_say_of_their_effect(server: Any) -> None:
    declared = server.get("/object_info/DDIMInvert")["DDIMInvert"]["input"]["optional"]
    assert declared["noise_path"][1]["ddim_applies"] == {"method": ["variance_noise"]}
    assert declared["steps"][1]["ddim_unless_linked"] == ["schedule"]
