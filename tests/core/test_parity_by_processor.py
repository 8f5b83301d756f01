"""``parity="diffusers"`` gives diffusers' numbers bit for bit, whatever instructions torch chooses on this processor.

This runs on the kernels of the current process. ``tests/capabilities.py`` lists the values of ``ATEN_CPU_CAPABILITY``
that this machine can run it with.

Bit for bit is possible because both run the same torch operations in the same order; a prediction of their rounding
holds on one processor only. ``test_against_diffusers.py`` compares up to rounding, with many more settings.
"""

from __future__ import annotations

import itertools
import random
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
BETAS: tuple[dict[str, Any], ...] = (
    {},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
)
# A plan is refused as a whole where any of its steps is, although diffusers may be finite at another one.
OF_THE_PLAN = ("past the last of", "epsilon prediction says nothing")


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().view(torch.uint8).flatten().tolist()


def same_bits(found: Tensor, expected: Tensor) -> bool:
    """Equal numbers of one dtype; the sign of a zero counts."""
    return found.dtype == expected.dtype and bits(found) == bits(expected)


def settings_of(rng: random.Random, prediction_type: str, spacing: str, processing: dict[str, Any]) -> dict[str, Any]:
    return {
        "prediction_type": prediction_type,
        "timestep_spacing": spacing,
        "rescale_betas_zero_snr": rng.random() < 0.4,
        "set_alpha_to_one": rng.random() < 0.6,
        "steps_offset": rng.choice((0, 1)),
        **processing,
        **rng.choice(BETAS),
    }


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
        return "equal" if same_bits(found.prev_sample, expected.prev_sample) else "diffusers is not finite, we are"
    for name in ("prev_sample", "pred_original_sample"):
        if not same_bits(found[name], expected[name]):
            apart = float((found[name].double() - expected[name].double()).abs().max())
            return f"{name} is {apart:.3g} apart ({found[name].dtype}, {expected[name].dtype})"
    return "equal"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("processing", PROCESSING, ids=["plain", "clipped", "thresholded"])
def test_a_step_has_the_bits_of_diffusers(dtype: torch.dtype, prediction_type: str, processing: dict[str, Any]) -> None:
    rng = random.Random(f"{dtype} {prediction_type} {processing}")
    outcomes: dict[str, int] = {}
    for spacing, eta, rederive, _ in itertools.product(SPACINGS, (0.0, 0.4, 1.0), (False, True), range(3)):
        settings = settings_of(rng, prediction_type, spacing, processing)
        theirs, steps = diffusers.DDIMScheduler(**settings), rng.randint(1, 60)
        theirs.set_timesteps(steps)
        timesteps = [t for t in theirs.timesteps.tolist() if 0 <= t < 1000]
        t = rng.choice((timesteps[0], timesteps[-1], rng.choice(timesteps)))
        arguments = {"eta": eta, "use_clipped_model_output": rederive}
        outcome = compared(settings, steps, t, dtype, arguments, rng.getrandbits(16))
        if outcome not in ("equal", "refused"):
            outcome = f"{outcome}: S={steps} t={t} {arguments} {settings}"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    wrong = [outcome for outcome in outcomes if outcome not in ("equal", "refused")]
    assert wrong == [], f"{len(wrong)} steps differ, the first: {wrong[0]}"
    assert outcomes["equal"] > 25  # most of them are compared, not refused


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
    assert 5 < refused < 70  # both outcomes are there


@pytest.mark.parametrize("eta", [1.05, 1.5])
def test_with_eta_above_one_exactly_those_steps_are_refused_where_diffusers_gives_nan(eta: float) -> None:
    settings = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    theirs = diffusers.DDIMScheduler(**settings)
    theirs.set_timesteps(20)
    outcomes = [compared(settings, 20, t, torch.float32, {"eta": eta}, t) for t in theirs.timesteps.tolist()]
    assert set(outcomes) == {"equal", "refused"}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("eta", "processing"), [(0.0, PROCESSING[0]), (1.0, PROCESSING[1]), (0.5, PROCESSING[2])])
def test_a_whole_run_has_the_bits_of_diffusers(dtype, spacing: str, eta: float, processing: dict[str, Any]) -> None:
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
    assert same_bits(results[1], results[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_inverse_step_has_the_bits_of_diffusers(dtype: torch.dtype) -> None:
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
            equal += same_bits(found.prev_sample, expected.prev_sample)
            if not same_bits(found.prev_sample, expected.prev_sample):
                wrong.append((int(t), settings))
    assert wrong == []
    assert equal > 50
