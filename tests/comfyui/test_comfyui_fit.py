"""DDIM Fit Steps inside real ComfyUI: what it reports is what sampling gives, for every kind of MODEL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.comfyui.conftest import Ref
from tests.comfyui.families import FAMILIES, conditions

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

GRID = 20
FIT = {"steps": 4, "cfg": 3.0, "seed": 3, "grid": GRID, "images": 2, "method": "accurate"}
LONG = 400  # steps of DDIM that take the place of the exact solution
KINDS = ("v_prediction", *FAMILIES)


@pytest.fixture(scope="module")
def models(worker: Any) -> Callable[[str], Any]:
    """``models(kind)``: a MODEL around the network of wavy.py."""
    made: dict[str, Any] = {}

    def model(kind: str) -> Any:
        if kind not in made:
            known = kind in FAMILIES
            (made[kind],) = (
                worker("wavy_sampled_as", **FAMILIES[kind])
                if known
                else worker("wavy_model", prediction=kind, zsnr=True)
            )
        return made[kind]

    return model


@pytest.fixture
def fit(worker: Any, calls: Any, models: Any) -> Callable[..., dict[str, Any]]:
    """``fit(kind, ...)`` gives outputs, ``ui`` and the ``progress`` that ComfyUI was told."""

    def run(kind: str, **given: Any) -> dict[str, Any]:
        latent = {"latent_image": {"samples": torch.zeros(1, 3, 8, 8)}}
        schedule, _ = calls.schedule(model=models(kind))
        inputs = {"model": models(kind), **conditions(), "schedule": schedule, **latent, **FIT, **given}
        ran = worker("watched_run", node="DDIMFitSteps", inputs=inputs)
        return {**ran, "outputs": [Ref(ref) for ref in ran["outputs"]]}

    return run


def rmse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize("kind", KINDS)
def test_the_errors_are_those_of_sampling(worker: Any, calls: Any, models: Any, fit: Any, kind: str) -> None:
    ran = fit(kind, grid=60, method="fast")
    fitted, sigmas = ran["outputs"]
    (report,) = ran["ui"]["ddim_fit"]
    shown = {each["name"]: each for each in report["schedules"]}
    plans = {"fitted": {"timesteps": report["list"]}, "trailing": {"steps": FIT["steps"]}}

    def draw(seed: int, **plan: Any) -> Tensor:
        schedule, _ = calls.schedule(model=models(kind), **plan)
        latent = {"samples": torch.zeros(2, 3, 8, 8)}
        given = {"model": models(kind), **conditions(), "schedule": schedule, "latent_image": latent}
        return calls.sample(**given, cfg=FIT["cfg"], seed=seed)

    for seed, key in ((3, "error_fitted_to"), (4, "error")):
        long = draw(seed, steps=LONG)
        for name, plan in plans.items():
            assert shown[name][key] == pytest.approx(rmse(draw(seed, **plan), long), rel=0.1), (name, key)
    pasted, pasted_sigmas = calls.schedule(model=models(kind), timesteps=report["list"])
    assert torch.equal(*(worker("attribute", value=value, path=[]) for value in (sigmas, pasted_sigmas)))
    ours, theirs = (worker("attribute", value=each, path=["plan", "timesteps"])["value"] for each in (fitted, pasted))
    assert ours == theirs and len(ours) == FIT["steps"]
    assert [note["code"] for note in report["notes"]] == ["fit_paste"]
    tables = {"ays", "ays_sdxl"} if kind in ("v_prediction", "svd", "audio") else set()
    assert set(shown) == {"fitted", "trailing", *tables}


@pytest.mark.parametrize("method", ["accurate", "fast"])
@pytest.mark.parametrize(("kind", "plans"), [("v_prediction", 4), ("sd3", 2)])
def test_the_bar_fills_once(fit: Any, kind: str, plans: int, method: str) -> None:
    progress = fit(kind, method=method)["progress"]  # newer versions leave out reports that come soon after another
    done = [value for value, _ in progress]
    (total,) = {total for _, total in progress}
    assert done == sorted(set(done)) and done[0] >= 1 and done[-1] == total
    if method == "fast":
        assert total == GRID + 2 * plans * FIT["steps"] + GRID


# In the long run, in the search, in the comparison on the fitted noises and in that on others.
@pytest.mark.parametrize(
    ("method", "at"), [("accurate", 1), ("accurate", GRID + 9), ("fast", GRID + 3), ("fast", 2 * GRID + 11)]
)
def test_cancel_ends_a_fit_with_the_model_call_it_is_in(
    worker: Any, calls: Any, models: Any, method: str, at: int
) -> None:
    schedule, _ = calls.schedule(model=models("sd3"))
    latent = {"latent_image": {"samples": torch.zeros(1, 3, 8, 8)}}
    inputs = {**conditions(), "schedule": schedule, **latent, **FIT, "cfg": 1.0, "method": method}
    told = worker("cancel_during", model=models("sd3"), call_number=at, node="DDIMFitSteps", inputs=inputs)
    assert told == {"calls": at, "ended": "InterruptProcessingException"}


@pytest.mark.parametrize(
    "latent",
    [
        {"samples": torch.zeros(1, 3, 5, 8, 8), "noise_mask": torch.ones(5, 8, 8)},
        {"samples": torch.ones(2, 3, 8, 8), "noise_mask": torch.zeros(2, 8, 8).index_fill(2, torch.arange(4), 1.0)},
        {"samples": torch.zeros(2, 3, 8, 8), "batch_index": [4, 1]},
    ],
    ids=["video", "mask", "batch_index"],
)
@pytest.mark.parametrize("kind", ["v_prediction", "sd3"])
def test_latents_of_other_forms_are_fitted(fit: Any, kind: str, latent: dict[str, Any]) -> None:
    (report,) = fit(kind, latent_image=latent)["ui"]["ddim_fit"]
    errors = [each[key] for each in report["schedules"] for key in ("error", "error_fitted_to")]
    assert all(error > 0 for error in errors)


def test_a_checkpoint_is_fitted(worker: Any, calls: Any, network: Any, conditions: Any) -> None:
    """A real U-Net with epsilon prediction and ComfyUI's scale of latents."""
    schedule, _ = calls.schedule(model=network)
    latent = {"latent_image": {"samples": torch.zeros(1, 4, 8, 8)}}
    inputs = {"model": network, **conditions, "schedule": schedule, **latent, **FIT, "method": "fast", "images": 1}
    (report,) = worker("watched_run", node="DDIMFitSteps", inputs=inputs)["ui"]["ddim_fit"]
    assert [each["name"] for each in report["schedules"]] == ["fitted", "trailing", "ays", "ays_sdxl"]
    assert report["schedules"][0]["index"][0] == 999 and all(each["error"] > 0 for each in report["schedules"])
