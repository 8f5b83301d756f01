"""Proximal guidance and edit guidance inside real ComfyUI: their limits, what they cost, and that they stack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

MODEL_NODES = "comfy_extras.nodes_model_advanced"


def apart(result: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((result - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module", params=["epsilon", "zero SNR", "flow"])
def case(request: pytest.FixtureRequest, worker: Any, network: Any, calls: Any, conditions: Any) -> dict[str, Any]:
    """An inversion by plain DDIM, and what DDIMSample needs beside it."""
    model = {
        "epsilon": lambda: network,
        "zero SNR": lambda: worker("add_levels", model=network, prediction="v_prediction", zsnr=True)[0],
        "flow": lambda: worker.node("ModelSamplingSD3", MODEL_NODES, model=network, shift=3.0),
    }[request.param]()
    schedule, _ = calls.schedule(model=model, steps=4)
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.5
    latent, noise, _ = worker.node(
        "DDIMInvert", model=model, schedule=schedule, **conditions, latent_image={"samples": picture}, method="ddim",
        seed=1, cfg=1.0, guidance_rescale=0.0, eta=0.0, noise_path="cycle", refinements=0, noise_precision="full",
    )  # fmt: skip
    given = {"model": model, "schedule": schedule, "latent_image": {"samples": worker.samples(latent)}}
    return {**given, "add_noise": False, "variance_noise": noise}


def edited(worker: Any, model: Any, prompt: Any, weight: float, threshold: float, warm_up: float = 0.0) -> Any:
    return worker.node(
        "DDIMEditGuidance", model=model, edit=prompt, edit_weight=weight, edit_threshold=threshold, warm_up=warm_up
    )


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_limits_of_proximal_guidance(calls: Any, case: Any, conditions: Any, cfg: float) -> None:
    positive, source = conditions["positive"], conditions["negative"]
    given = {**case, "positive": positive, "negative": positive, "source": source, "cfg": cfg}
    hard = calls.sample(**given, proximal="hard", proximal_quantile=0.0)
    assert apart(hard, calls.sample(**given)) < 2e-4
    alone = calls.sample(**{**case, "positive": source, "negative": source}, cfg=1.0)
    assert apart(calls.sample(**given, proximal="soft", proximal_quantile=1.0), alone) < 2e-4
    between = calls.sample(**given, proximal="soft", proximal_quantile=0.7)
    assert apart(between, alone) > 1e-3 and apart(between, hard) > 1e-3


def test_the_limits_of_edit_guidance(worker: Any, calls: Any, case: Any, conditions: Any) -> None:
    """At cfg 1 e_0 is the positive prompt's: without a mask and with weight 1 the edit prompt alone is left."""
    nothing, wanted = conditions["positive"], conditions["negative"]
    given = {**case, "positive": nothing, "negative": nothing, "cfg": 1.0}
    plain = calls.sample(**given)
    alone = calls.sample(**{**given, "positive": wanted})

    def sample(*settings: float, **more: Any) -> Tensor:
        return calls.sample(**{**given, "model": edited(worker, case["model"], wanted, *settings), **more})

    assert apart(sample(1.0, 0.0), alone) < 2e-4
    assert apart(sample(0.0, 0.5), plain) < 1e-6
    assert apart(sample(1.0, 0.0, 1.0), plain) < 1e-6
    part = sample(1.0, 0.7)
    assert apart(part, plain) > 1e-3 and apart(part, alone) > 1e-3
    guided = calls.sample(**{**given, "positive": wanted, "cfg": 3.0})
    assert apart(sample(3.0, 0.0, negative=nothing), guided) < 2e-4


def test_edits_stack_and_each_costs_one_evaluation(worker: Any, calls: Any, case: Any, conditions: Any) -> None:
    nothing, wanted = conditions["positive"], conditions["negative"]
    one = edited(worker, case["model"], wanted, 2.0, 0.0)
    both = edited(worker, one, wanted, -2.0, 0.0)
    given = {**case, "positive": nothing, "negative": nothing, "cfg": 1.0}
    plain = calls.sample(**given)
    assert apart(calls.sample(**{**given, "model": both}), plain) < 2e-4
    assert apart(calls.sample(**{**given, "model": one}), plain) > 1e-3
    rescaled = worker.node("DDIMCFGRescale", model=one, guidance_rescale=0.7)
    assert bool(calls.sample(**{**given, "model": rescaled}).isfinite().all())
    inputs = {**calls.sample_defaults(), **given, "model": both}
    assert sum(worker("rows_of_network", model=both, node="DDIMSample", inputs=inputs)["rows"]) == 3 * 4


def test_proximal_guidance_without_an_inversion_is_refused(calls: Any, case: Any, conditions: Any) -> None:
    given = {**case, **conditions, "source": conditions["negative"], "proximal": "soft", "variance_noise": None}
    with pytest.raises(RuntimeError, match="DDIMError.*this run has none"):
        calls.sample(**given)
