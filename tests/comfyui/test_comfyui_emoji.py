"""The demo model of emoji in ComfyUI: the same pictures as in the embedded host, and by stock nodes too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ddim import DDIMError
from demo.emoji.tints import nearest_tint

PROMPTS = {"positive": "tiger face in blue\nrocket\nany face in green", "negative": ""}
SETTINGS = {"cfg": 2.0, "eta": 0.0, "seed": 5}


def prompts(worker: Any) -> dict[str, Any]:
    return {key: worker.node("DDIMDemoTextPrompt", prompts=lines) for key, lines in PROMPTS.items()}


@pytest.mark.parametrize("sampled_as", ["v_prediction", "flow"])
def test_words_give_the_same_pictures_in_both_hosts(worker: Any, calls: Any, pack: Any, sampled_as: str) -> None:
    model = worker.node("DDIMDemoModel", sampled_as=sampled_as, draws="emoji")
    latent = {"samples": torch.zeros(3, 3, 32, 32)}
    schedule = calls.schedule(model=model, steps=8)[0]
    there = calls.sample(model=model, **prompts(worker), schedule=schedule, latent_image=latent, **SETTINGS)
    nodes = pack.NODE_CLASS_MAPPINGS
    (own,) = nodes["DDIMDemoModel"]().load(sampled_as=sampled_as, draws="emoji")
    words = {key: nodes["DDIMDemoTextPrompt"]().encode(lines)[0] for key, lines in PROMPTS.items()}
    plan = nodes["DDIMSchedule"]().build(**{**calls.schedule_defaults(), "steps": 8}, model=own)["result"][0]
    settings = {**calls.sample_defaults(), **SETTINGS, "latent_image": latent}
    outputs = nodes["DDIMSample"]().sample(model=own, **words, schedule=plan, **settings)
    here = (outputs["result"] if isinstance(outputs, dict) else outputs)[0]["samples"]
    assert float((there - here).abs().max()) < 1e-3
    assert nearest_tint(here[[0, 2]] / 2 + 0.5) == ["blue", "green"]


def test_stock_ksampler_draws_them_too(worker: Any) -> None:
    model = worker.node("DDIMDemoModel", draws="emoji")
    drawn = worker.node(
        "KSampler", module="nodes", model=model, **prompts(worker), seed=5, steps=12, cfg=2.0, sampler_name="ddim",
        scheduler="ddim_uniform", latent_image={"samples": torch.zeros(3, 3, 32, 32)}, denoise=1.0,
    )  # fmt: skip
    assert nearest_tint(worker.samples(drawn)[[0, 2]] / 2 + 0.5) == ["blue", "green"]


def test_the_prompt_of_the_digits_is_refused(worker: Any, calls: Any) -> None:
    model = worker.node("DDIMDemoModel", draws="emoji")
    digits = worker.node("DDIMDemoPrompt", digits="3")
    given = {"positive": digits, "negative": digits, "latent_image": {"samples": torch.zeros(1, 3, 32, 32)}}
    with pytest.raises((RuntimeError, DDIMError), match="as DDIM Demo Text Prompt gives them"):
        calls.sample(model=model, schedule=calls.schedule(model=model, steps=2)[0], **given)
