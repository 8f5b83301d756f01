"""The fast step against the readable one, and what it costs in operators and passes over memory."""

from __future__ import annotations

import pytest
import torch
from ddim.coefficients import Linear, StepCoefficients
from ddim.fast_step import fast_step
from ddim.stepping import apply_step
from ddim.tensor_ops import combine
from ddim.x0_processing import Clip, Threshold
from hypothesis import given, settings
from hypothesis import strategies as st

import ddim

PROCESSORS = (None, Clip(1.0), Clip(0.3), Threshold(0.995, 3.0), Threshold(0.5, 1.5))
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LEVELS = st.one_of(st.floats(1e-8, 1.0), st.sampled_from([1e-4, 0.5, 1.0]))


def tensors(seed: int, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (2, 3, 5, 7)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]


def size_of_terms(step: StepCoefficients, x: torch.Tensor, m: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """The sum of the magnitudes of everything that is added up: what relative errors are relative to."""
    x0 = abs(step.x0.x) * x.abs() + abs(step.x0.m) * m.abs()
    epsilon = abs(step.epsilon.x) * x.abs() + abs(step.epsilon.m) * m.abs()
    again = abs(step.rederived.x) * x.abs() + abs(step.rederived.m) * x0
    return step.alpha_next * x0 + step.direction * (epsilon + again) + step.sigma * z.abs()


@settings(max_examples=300, deadline=None)
@given(
    a=LEVELS,
    b=LEVELS,
    prediction=st.sampled_from(ddim.PREDICTION_TYPES),
    eta=st.sampled_from([0.0, 0.3, 1.0, "sigma_hat"]),
    process=st.sampled_from(PROCESSORS),
    rederive=st.booleans(),
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    seed=st.integers(0, 1000),
    out=st.sampled_from(["new", "given", "sample"]),
)
def test_the_fast_step_equals_the_readable_one(a, b, prediction, eta, process, rederive, dtypes, seed, out):
    if eta:
        a, b = min(a, b), max(a, b)
    step = StepCoefficients.at(a, b, prediction, eta)
    x, _, z = tensors(seed, dtypes[0])
    _, m, _ = tensors(seed, dtypes[1])
    options = dict(process_x0=process, use_clipped_model_output=rederive, noise=z if step.sigma else None)
    expected, expected_x0 = apply_step(step, x, m, **options)
    scale = size_of_terms(step, x.double(), m.double(), z.double())
    whole = expected.dtype == x.dtype
    target = x if out == "sample" and whole else torch.empty_like(expected) if out == "given" else None
    untouched = [tensor.clone() for tensor in (x, m, z)]
    result, x0 = fast_step(step, x, m, out=target, **options)
    assert result.dtype == expected.dtype
    tolerance = 1e-6 if result.dtype == torch.float32 else 1e-14
    assert float(((result.double() - expected.double()).abs() / scale).max()) < tolerance
    assert x0 is None or torch.equal(x0, expected_x0)
    assert target is None or result is target
    for tensor, before in zip((x, m, z), untouched, strict=True):
        assert tensor is target or torch.equal(tensor, before)


CASES = [
    # prediction, processing, rederive, eta, operators, passes
    ("epsilon", None, False, 0.0, 2, 5),
    ("v_prediction", None, False, 0.0, 2, 5),
    ("sample", None, False, 0.0, 2, 5),
    ("epsilon", Clip(1.0), False, 0.0, 4, 10),
    ("sample", Clip(1.0), False, 0.0, 4, 10),
    ("epsilon", Clip(1.0), True, 0.0, 4, 10),
    ("v_prediction", Clip(1.0), True, 0.0, 4, 10),
    ("v_prediction", Clip(1.0), False, 0.0, 5, 13),  # epsilon holds the sample as well: one term more
    ("epsilon", None, False, 1.0, 3, 8),
    ("v_prediction", None, False, 1.0, 3, 8),
    ("epsilon", Clip(1.0), False, 1.0, 5, 13),
]


@pytest.mark.parametrize("out", ["new", "given"])
@pytest.mark.parametrize(("prediction", "process", "rederive", "eta", "operators", "passes"), CASES)
def test_a_step_costs_so_many_operators_and_passes(
    prediction, process, rederive, eta, operators, passes, out, measure_cost
):
    step = StepCoefficients.at(0.3, 0.6, prediction, eta)
    x, m, z = tensors(0)
    target = torch.empty_like(x) if out == "given" else None
    with measure_cost(x) as cost:
        fast_step(
            step, x, m, process_x0=process, use_clipped_model_output=rederive, noise=z if eta else None, out=target
        )
    assert (len(cost.operators), cost.passes) == (operators, passes)
    assert cost.new == (1 if target is None else 0)
    assert cost.host_reads == 0


@pytest.mark.parametrize("weights", [(0.999998, -1.6e-3), (1.000003, 2e-3), (645.2, -645.1), (3e4, -3e4 + 1)])
@pytest.mark.parametrize("out", ["new", "given", "sample"])
def test_sums_whose_factors_float32_cannot_hold_lose_nothing(weights, out):
    x, change, _ = tensors(3)
    m = x + 1e-3 * change if weights[0] > 2 else change
    exact = weights[0] * x.double() + weights[1] * m.double()
    tolerance = 1.5e-7 * float(exact.abs().max())
    target = {"new": None, "given": torch.empty_like(x), "sample": x}[out]
    result = combine(x, m, Linear(*weights), out=target)
    assert target is None or result is target
    assert float((result.double() - exact).abs().max()) < tolerance


@pytest.mark.parametrize("weights", [(0.999998, -1.6e-3), (645.2, -645.1), (0.5, 0.5)])
def test_such_sums_have_gradients(weights):
    x, m, _ = (tensor.double().requires_grad_() for tensor in tensors(4, shape=(2, 3)))
    torch.autograd.gradcheck(lambda x, m: combine(x, m, Linear(*weights)), (x, m))


def test_the_pieces_of_large_half_precision_tensors_make_up_the_whole():
    for kinds in ((torch.float16, torch.bfloat16), (torch.float32, torch.float16), (torch.bfloat16, torch.float32)):
        x, m = (tensors(5 + i, kind, (3, 7, 3001))[i] for i, kind in enumerate(kinds))
        expected = 0.3 * x.float() + 0.7 * m.float()
        torch.testing.assert_close(combine(x, m, Linear(0.3, 0.7)), expected)
        torch.testing.assert_close(combine(x, m, Linear(0.3, 0.7), out=torch.empty_like(expected)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("target", ["new", "given", "sample"])
def test_a_long_sum_is_one_operator_and_three_passes(dtype, target, measure_cost):
    working = torch.float64 if dtype == torch.float64 else torch.float32
    x, m, _ = (tensor.to(dtype) for tensor in tensors(6, working, (3, 4, 128, 128)))
    wide_x, wide_m = x.to(working), m.to(working)
    expected = torch.cat(
        [combine(*pair, Linear(0.3, -0.7)) for pair in zip(wide_x.split(1), wide_m.split(1), strict=True)]
    )
    out = {"new": None, "given": torch.empty_like(wide_x), "sample": x if dtype == working else wide_x}[target]
    with measure_cost(wide_x) as cost:
        result = combine(x, wide_m, Linear(0.3, -0.7), out=out)
    assert out is None or result is out
    assert result.shape == x.shape and result.dtype == working
    assert torch.equal(result, expected)
    if dtype == working:
        assert cost.operators == ["ones", "addr"] or cost.operators == ["ones", "addr.out"]
        assert cost.passes == pytest.approx(3, abs=1e-3)


def test_sums_that_autograd_follows_or_that_lie_otherwise_take_the_plain_way():
    x, m, _ = tensors(7, torch.float32, (2, 70_000))
    expected = combine(x, m, Linear(0.3, -0.7))
    tracked = x.clone().requires_grad_()
    combine(tracked, m, Linear(0.3, -0.7)).sum().backward()
    assert torch.equal(tracked.grad, torch.full_like(x, 0.3))
    strided = [tensor.t().contiguous().t() for tensor in (x, m)]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(combine(*strided, Linear(0.3, -0.7)), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.vmap(lambda a, b: combine(a, b, Linear(0.3, -0.7)))(x, m), expected)


@pytest.mark.parametrize("size", [100, 70_000])
def test_autocast_takes_no_digits(size):
    x, m, z = tensors(8, torch.float32, (1, size))
    step = StepCoefficients.at(0.3, 0.6, "epsilon", 1.0)
    expected = [fast_step(step, x, m, process, noise=z)[0] for process in PROCESSORS]
    rescaled = ddim.guide(x, m, 7.5, 0.7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for process, wanted in zip(PROCESSORS, expected, strict=True):
            assert torch.equal(fast_step(step, x, m, process, noise=z)[0], wanted)
        assert torch.equal(ddim.guide(x, m, 7.5, 0.7), rescaled)
