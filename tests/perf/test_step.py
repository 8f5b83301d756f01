"""One step on tensors against the paper's equations, term by term in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ddim
from ddim.precision import Linear, weighted_sum
from ddim.step.apply import apply_step
from ddim.step.coefficients import coefficients_between
from ddim.step.equations import Levels, StepCoefficients, step_coefficients
from ddim.step.x0 import Clip, Threshold

PROCESSORS = (None, Clip(1.0), Clip(0.3), Threshold(0.995, 3.0), Threshold(0.5, 1.5))
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LEVELS = st.one_of(st.floats(1e-8, 1.0), st.sampled_from([1e-4, 0.5, 1.0]))


def tensors(seed: int, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (2, 3, 5, 7)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]


def as_the_oracle_names_it(process: Clip | Threshold | None) -> dict:
    if isinstance(process, Clip):
        return {"clip": process.limit}
    return {"threshold": (process.ratio, process.cap)} if process else {}


def of_each_image(a: float, b: float, prediction: str, eta: float | str, like: torch.Tensor) -> StepCoefficients:
    """The coefficients of the step as tensors, one row per image."""
    shape = (len(like), *[1] * (like.ndim - 1))
    at, to = (Levels.of_alpha_bar(torch.full(shape, level, dtype=torch.float64)) for level in (a, b))
    return step_coefficients(at, to, prediction, eta)


@settings(max_examples=400, deadline=None)
@given(
    a=LEVELS,
    b=LEVELS,
    prediction=st.sampled_from(ddim.PREDICTION_TYPES),
    eta=st.sampled_from([0.0, 0.3, 1.0, "sigma_hat"]),
    process=st.sampled_from(PROCESSORS),
    rederive=st.booleans(),
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    seed=st.integers(0, 1000),
    target=st.sampled_from(["new", "given", "sample"]),
    need_x0=st.booleans(),
    by_image=st.booleans(),
)
def test_a_step_is_equation_12(
    oracle, a, b, prediction, eta, process, rederive, dtypes, seed, target, need_x0, by_image
):
    if eta:
        a, b = min(a, b), max(a, b)
    (x, _, z), (_, m, _) = tensors(seed, dtypes[0]), tensors(seed, dtypes[1])
    truth = oracle.coefficients(a, b, prediction, eta)
    z = z if truth.sigma else None
    rederives = rederive and process is not None
    expected, expected_x0 = oracle.step(truth, x, m, z, **as_the_oracle_names_it(process), rederive=rederives)
    scale = oracle.size_of_terms(truth, x, m, z)
    c = of_each_image(a, b, prediction, eta, x) if by_image else coefficients_between(a, b, prediction, eta)
    working = torch.float64 if dtypes[0] == torch.float64 else torch.float32
    out = {"new": None, "given": torch.empty_like(x, dtype=working), "sample": x if x.dtype == working else None}[
        target
    ]
    untouched = [None if tensor is None or tensor is out else tensor.clone() for tensor in (x, m, z)]

    x_next, x0 = apply_step(
        c, x, m, process_x0=process, use_clipped_model_output=rederive, noise=z, need_x0=need_x0, out=out
    )

    tolerance = 1e-6 if working == torch.float32 else 1e-14
    assert x_next.dtype == working
    assert float(((x_next.double() - expected).abs() / scale).max()) < tolerance
    assert out is None or x_next is out
    if need_x0 and process is not None:
        torch.testing.assert_close(x0.double(), expected_x0, rtol=tolerance, atol=tolerance * _largest_x0(truth, x, m))
    for tensor, before in zip((x, m, z), untouched, strict=True):
        assert before is None or torch.equal(tensor, before)


def _largest_x0(truth, x: torch.Tensor, m: torch.Tensor) -> float:
    sizes = float(abs(truth.x0.x)) * x.double().abs() + float(abs(truth.x0.m)) * m.double().abs()
    return float(sizes.max())


@pytest.mark.parametrize("weights", [(0.999998, -1.6e-3), (1.000003, 2e-3), (645.2, -645.1), (3e4, -3e4 + 1)])
@pytest.mark.parametrize("out", ["new", "given", "sample"])
def test_sums_whose_factors_float32_cannot_hold_lose_nothing(weights, out):
    x, change, _ = tensors(3)
    m = x + 1e-3 * change if weights[0] > 2 else change
    exact = weights[0] * x.double() + weights[1] * m.double()
    tolerance = 1.5e-7 * float(exact.abs().max())
    target = {"new": None, "given": torch.empty_like(x), "sample": x}[out]
    result = weighted_sum(x, m, Linear(*weights), out=target)
    assert target is None or result is target
    assert float((result.double() - exact).abs().max()) < tolerance


@pytest.mark.parametrize("weights", [(0.999998, -1.6e-3), (645.2, -645.1), (0.5, 0.5), (0.0, 2.0), (2.0, 0.0)])
def test_weighted_sums_have_gradients(weights):
    x, m, _ = (tensor.double().requires_grad_() for tensor in tensors(4, shape=(2, 3)))
    torch.autograd.gradcheck(lambda x, m: weighted_sum(x, m, Linear(*weights)), (x, m))


@pytest.mark.parametrize("by_image", [False, True])
@pytest.mark.parametrize("process", PROCESSORS)
@pytest.mark.parametrize("rederive", [False, True])
@pytest.mark.parametrize("prediction", ddim.PREDICTION_TYPES)
def test_a_step_has_gradients(process, rederive, prediction, by_image):
    x, m, z = (2 * tensor.double() for tensor in tensors(5, shape=(2, 7)))
    make = of_each_image if by_image else lambda *levels_and_type, like: coefficients_between(*levels_and_type)
    c = make(0.3, 0.6, prediction, 0.7, like=x)
    options = dict(process_x0=process, use_clipped_model_output=rederive)
    inputs = tuple(tensor.requires_grad_() for tensor in (x, m, z))
    torch.autograd.gradcheck(lambda x, m, z: apply_step(c, x, m, noise=z, **options)[0], inputs)


def test_a_term_of_weight_zero_is_not_read():
    x, m, _ = tensors(6)
    assert torch.equal(weighted_sum(x, torch.full_like(m, torch.nan), Linear(2.0, 0.0)), 2 * x)
    assert torch.equal(weighted_sum(torch.full_like(x, torch.inf), m, Linear(0.0, 2.0)), 2 * m)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch runs clamp_ image by image under vmap
@pytest.mark.parametrize("process", PROCESSORS)
def test_other_layouts_and_vmap_give_the_same_numbers(process):
    x, m, _ = tensors(7, shape=(2, 4, 6, 6))
    c = coefficients_between(0.3, 0.6, "v_prediction", 0.0)
    expected, _ = apply_step(c, x, m, process_x0=process)
    by_channel = [tensor.to(memory_format=torch.channels_last) for tensor in (x, m)]
    assert not by_channel[0].is_contiguous()
    torch.testing.assert_close(apply_step(c, *by_channel, process_x0=process)[0], expected, rtol=1e-6, atol=1e-6)
    alone = torch.vmap(lambda x, m: apply_step(c, x[None], m[None], process_x0=process)[0][0])
    torch.testing.assert_close(alone(x, m), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [100, 70_000])
def test_autocast_takes_no_digits(size):
    x, m, z = tensors(8, torch.float32, (1, size))
    c = coefficients_between(0.3, 0.6, "epsilon", 1.0)
    expected = [apply_step(c, x, m, process_x0=process, noise=z)[0] for process in PROCESSORS]
    rescaled = ddim.guide(x, m, 7.5, 0.7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for process, wanted in zip(PROCESSORS, expected, strict=True):
            assert torch.equal(apply_step(c, x, m, process_x0=process, noise=z)[0], wanted)
        assert torch.equal(ddim.guide(x, m, 7.5, 0.7), rescaled)
