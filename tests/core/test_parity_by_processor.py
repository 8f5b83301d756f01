"""``parity="diffusers"`` gives diffusers' numbers, whatever instructions torch chooses on this processor.

This runs on the kernels of the current process. ``tests/capabilities.py`` lists the values of ``ATEN_CPU_CAPABILITY``
that this machine can run it with. Delicate are the steps at which diffusers' rounding decides between a number and NaN.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim import DDIMError, DDIMInverseScheduler, DDIMScheduler, keyed_noise

diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 3, 7, 5)  # not a multiple of any vector length
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")
PROCESSING: tuple[dict[str, Any], ...] = (
    {"clip_sample": False},
    {"clip_sample": True, "clip_sample_range": 0.8},
    {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.9},
)
# A plan is refused as a whole where any of its steps is, although diffusers may be finite at another one.
OF_THE_PLAN = ("past the last of", "epsilon prediction says nothing")


def near(found: Tensor, expected: Tensor, x0: Tensor) -> bool:
    """Equal up to the rounding of the float32 coefficients and of the dtype; the terms are as large as x_0."""
    if found.dtype != expected.dtype or found.isnan().any() != expected.isnan().any():
        return False
    size = max(1.0, *(float(tensor.double().abs().max()) for tensor in (expected, x0)))
    eps = max(torch.finfo(expected.dtype).eps, torch.finfo(torch.float32).eps)
    return float((found.double() - expected.double()).abs().max()) <= 8 * eps * size


def compared(
    settings: dict[str, Any], steps: int, t: int, dtype: torch.dtype, arguments: dict[str, Any], seed: int
) -> str:
    """``equal``, ``refused`` (rightly), or what is wrong."""
    x, m, z = (keyed_noise(SHAPE, seed, i).to(dtype) for i in range(3))
    theirs = diffusers.DDIMScheduler(**settings)
    theirs.set_timesteps(steps)
    expected = theirs.step(m, t, x, variance_noise=z, **arguments)
    finite = all(bool(tensor.isfinite().all()) for tensor in expected.to_tuple())
    try:
        ours = DDIMScheduler(**settings, parity="diffusers")
        ours.set_timesteps(steps)
        found = ours.step(m, t, x, variance_noise=z, **arguments)
    except DDIMError as error:
        rightly = not finite or any(reason in str(error) for reason in OF_THE_PLAN)
        return "refused" if rightly else f"refused, but diffusers is finite: {error}"
    if not finite:
        same = found.prev_sample.isfinite() == expected.prev_sample.isfinite()
        return "equal" if bool(same.all()) else "diffusers is not finite, we are"
    for name in ("prev_sample", "pred_original_sample"):
        if not near(found[name], expected[name], expected.pred_original_sample):
            apart = float((found[name].double() - expected[name].double()).abs().max())
            return f"{name} is {apart:.3g} apart ({found[name].dtype}, {expected[name].dtype})"
    return "equal"


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_at_zero_snr_and_eta_one_exactly_those_steps_are_refused_where_diffusers_gives_nan(
    prediction_type: str, spacing: str
) -> None:
    """1 - alpha_bar - sigma^2 is then a rounding error, and its sign decides between a number and NaN."""
    settings = {"prediction_type": prediction_type, "timestep_spacing": spacing, "rescale_betas_zero_snr": True}
    settings |= {"clip_sample": False}
    wrong, refused = [], 0
    for steps in range(2, 80):
        outcome = compared(settings, steps, 999, torch.float32, {"eta": 1.0}, steps)
        refused += outcome == "refused"
        if outcome not in ("equal", "refused"):
            wrong.append(f"S={steps}: {outcome}")
    assert wrong == []
    assert refused < 70  # on some processors none is: their rounding errors are all positive


@pytest.mark.parametrize("eta", [1.05, 1.5])
def test_with_eta_above_one_exactly_those_steps_are_refused_where_diffusers_gives_nan(eta: float) -> None:
    settings = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    theirs = diffusers.DDIMScheduler(**settings)
    theirs.set_timesteps(20)
    outcomes = [compared(settings, 20, t, torch.float32, {"eta": eta}, t) for t in theirs.timesteps.tolist()]
    assert set(outcomes) == {"equal", "refused"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)  # in half precision ours keeps a state
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("eta", "processing"), [(0.0, PROCESSING[0]), (1.0, PROCESSING[1]), (0.5, PROCESSING[2])])
def test_a_whole_run_equals_that_of_diffusers(dtype, spacing: str, eta: float, processing: dict[str, Any]) -> None:
    """With the noise of one generator each, in the dtype of the model's output."""
    settings = {"timestep_spacing": spacing, "prediction_type": "v_prediction", **processing}
    results = []
    for kind, parity in ((diffusers.DDIMScheduler, {}), (DDIMScheduler, {"parity": "diffusers"})):
        scheduler, draw = kind(**settings, **parity), torch.Generator().manual_seed(3)
        scheduler.set_timesteps(16)
        x = keyed_noise(SHAPE, 1, 0).to(dtype)
        for t in scheduler.timesteps:
            x = scheduler.step((0.5 * torch.tanh(x.float())).to(dtype), t, x, eta=eta, generator=draw).prev_sample
        results.append(x)
    assert near(results[1], results[0], 16 * results[0])  # the rounding of 16 steps


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_inverse_step_equals_that_of_diffusers(dtype: torch.dtype) -> None:
    wrong, equal = [], 0
    for prediction_type, spacing, clip, to_one in itertools.product(
        PREDICTION_TYPES, ("leading", "trailing"), (False, True), (False, True)
    ):
        settings = {"prediction_type": prediction_type, "timestep_spacing": spacing, "clip_sample": clip}
        settings |= {"set_alpha_to_one": to_one}
        theirs = diffusers.DDIMInverseScheduler(**settings)
        ours = DDIMInverseScheduler(**settings, parity="diffusers")
        x, m = (keyed_noise(SHAPE, 4, i).to(dtype) for i in range(2))
        for scheduler in (theirs, ours):
            scheduler.set_timesteps(20)
        for t in (theirs.timesteps[0], theirs.timesteps[9], theirs.timesteps[-1]):
            expected = theirs.step(m, t, x)
            if not bool(expected.prev_sample.isfinite().all()):
                continue
            found = ours.step(m, t, x)
            same = near(found.prev_sample, expected.prev_sample, expected.pred_original_sample)
            equal += same
            if not same:
                wrong.append((int(t), settings))
    assert wrong == []
    assert equal > 50
