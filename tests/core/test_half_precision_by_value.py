"""The float32 state of a half-precision loop is recognised by value.

In ``x = scheduler.step(model(x, t), t, x).prev_sample`` the caller sees half precision, and the scheduler keeps the
float32 numbers that ``x`` was rounded from. What counts is the numbers that come back, element by element: where the
sample equals the rounded state, the state is used; where it differs, the caller changed it, and the sample is used. How
the sample came back (the same tensor, a copy, a view, through another framework) and how it was changed cannot matter.

Several runs on one scheduler: each finds its own state, so that a run gives the same bits alone and interleaved with
another one.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from ddim import DDIMScheduler, keyed_noise

# Of torch's own pickling, before 2.6.
pytestmark = pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")

HALF = (torch.float16, torch.bfloat16)
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
SHAPE = (2, 4, 8, 8)
STEPS = 12
Model = Callable[[Tensor, Tensor], Tensor]


def model(x: Tensor, t: Tensor) -> Tensor:
    """Works element by element, so that what happens to one element tells nothing of another."""
    return (0.8 * torch.tanh(x.float())).to(x.dtype)


def planned(steps: int = STEPS, **settings) -> DDIMScheduler:
    scheduler = DDIMScheduler(**(SD | settings))
    scheduler.set_timesteps(steps)
    return scheduler


def start(dtype: torch.dtype, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return keyed_noise(shape, seed, 0).to(dtype)


def steps_of(
    scheduler: DDIMScheduler, x: Tensor, hand_back: Callable[[Tensor], Tensor] = lambda x: x
) -> Iterator[Tensor]:
    """Every sample of a run; ``hand_back`` is what the caller does with each before the next step."""
    for t in scheduler.timesteps:
        x = hand_back(scheduler.step(model(x, t), t, x).prev_sample)
        yield x


def last(samples: Iterator[Tensor]) -> Tensor:
    *_, x = samples
    return x


def rms(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


def half_ulp(x: Tensor) -> Tensor:
    """How far a number that rounds to ``x`` can be from it."""
    exponent = torch.frexp(x.double()).exponent.double()
    return torch.finfo(x.dtype).eps * 2.0 ** (exponent - 1) / 2 + torch.finfo(x.dtype).smallest_normal


# -- copies: the same numbers in another tensor ----------------------------------------------------------------------

COPIES: dict[str, Callable[[Tensor], Tensor]] = {
    "clone": lambda x: x.clone(),
    "detach": lambda x: x.detach(),
    "view": lambda x: x.view(-1).view(x.shape),
    "float and back": lambda x: x.float().to(x.dtype),
    "another layout": lambda x: x.to(memory_format=torch.channels_last),
    "not contiguous": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "concatenated": lambda x: torch.cat([x[:1], x[1:]]),
    "pickled": lambda x: pickle.loads(pickle.dumps(x)),
    "bits": lambda x: x.view(torch.int16).clone().view(x.dtype),
}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("copy_of", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("inference", [False, True], ids=["", "inference_mode"])
def test_a_loop_that_copies_gives_the_same_bits(dtype: torch.dtype, copy_of, inference: bool) -> None:
    with torch.inference_mode(inference):
        expected = last(steps_of(planned(), start(dtype)))
        assert torch.equal(last(steps_of(planned(), start(dtype), copy_of)), expected)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("settings", [{"clip_sample": True}, {"thresholding": True, "sample_max_value": 1.5}], ids=str)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_loop_that_copies_gives_the_same_bits_on_every_path(dtype: torch.dtype, settings: dict, eta: float) -> None:
    """Clipped, thresholded, with noise, with the output written in place."""

    def run(hand_back: Callable[[Tensor], Tensor], in_place: bool) -> Tensor:
        scheduler, x, draw = planned(**settings), start(dtype), torch.Generator().manual_seed(1)
        for t in scheduler.timesteps:
            output, out = model(x, t), x if in_place else None
            x = hand_back(scheduler.step(output, t, x, eta=eta, generator=draw, return_dict=False, out=out)[0])
        return x

    expected = run(lambda x: x, False)
    assert torch.equal(run(lambda x: x.clone(), False), expected)
    assert torch.equal(run(lambda x: x, True), expected)
    assert torch.equal(run(lambda x: x.clone(), True), expected)


def exact_model(six_modes, scheduler: DDIMScheduler) -> Model:
    levels = scheduler.noise_schedule.alpha_bar.tolist()
    return lambda x, t: six_modes.output(x, levels[int(t)], "epsilon").to(x.dtype)


def test_a_thousand_float16_steps_with_copies_stay_near_float64(six_modes) -> None:
    """Rounded at each step the same loop ends 0.17 away. Against a float64 run, and a perfect model."""
    scheduler = planned(1000)
    perfect = exact_model(six_modes, scheduler)
    x = start(torch.float16, 4, (32, 16))
    exact, plain, copied = x.double(), x, x
    for t in scheduler.timesteps:
        exact = scheduler.step(perfect(exact, t), t, exact).prev_sample
    for t in scheduler.timesteps:
        copied = scheduler.step(perfect(copied, t), t, copied).prev_sample.clone()
    scheduler.set_timesteps(1000)
    for t in scheduler.timesteps:
        plain = scheduler.step(perfect(plain, t), t, plain).prev_sample
    assert rms(copied - exact) < 5e-4
    assert torch.equal(copied, plain)


# -- changes: other numbers, in the same tensor or another -----------------------------------------------------------


def through_data(x: Tensor) -> None:
    x.data.mul_(0.5)


def through_numpy(x: Tensor) -> None:
    array = x.numpy() if x.dtype == torch.float16 else x.view(torch.int16).numpy()
    array[...] = (x.float() * 0.5).to(x.dtype).view(torch.int16).numpy().view(array.dtype)


def through_a_view(x: Tensor) -> None:
    x.detach().view(-1).mul_(0.5)


def through_dlpack(x: Tensor) -> None:
    torch.from_dlpack(x).mul_(0.5)


CHANGES = [through_data, through_numpy, through_a_view, through_dlpack, lambda x: x.mul_(0.5)]


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("change", CHANGES, ids=["data", "numpy", "view", "dlpack", "in place"])
@pytest.mark.parametrize("inference", [False, True], ids=["", "inference_mode"])
def test_a_changed_sample_is_taken_as_it_is(dtype: torch.dtype, change, inference: bool) -> None:
    """The step is that of the new numbers: to the bit as without a state, and to half precision as in float64."""
    with torch.inference_mode(inference):
        scheduler = planned()
        t, t_next = scheduler.timesteps[:2]
        x = scheduler.step(model(start(dtype), t), t, start(dtype)).prev_sample
        change(x)
        output = model(x, t_next)
        found = scheduler.step(output, t_next, x).prev_sample
        assert torch.equal(found, planned().step(output, int(t_next), x.clone()).prev_sample)
        exact = epsilon_step(scheduler, int(t_next), x, output)
        assert bool(((found.double() - exact).abs() <= half_ulp(found) * 1.01 + 1e-6).all())


def epsilon_step(scheduler: DDIMScheduler, t: int, x: Tensor, epsilon: Tensor) -> Tensor:
    """DDIM equation (12) with eta 0, in float64."""
    level, level_next = levels_around(scheduler, t)
    x0 = (x.double() - math.sqrt(1 - level) * epsilon.double()) / math.sqrt(level)
    return math.sqrt(level_next) * x0 + math.sqrt(1 - level_next) * epsilon.double()


def levels_around(scheduler: DDIMScheduler, t: int) -> tuple[float, float]:
    betas = torch.linspace(math.sqrt(SD["beta_start"]), math.sqrt(SD["beta_end"]), 1000, dtype=torch.float64) ** 2
    table = torch.cumprod(1 - betas, 0).tolist()
    t_next = dict(scheduler.plan.pairs)[t]
    return table[t], table[t_next] if t_next >= 0 else 1.0


def blended(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    return mask * known + (1 - mask) * x


def selected(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.bool(), known, x)


def pasted(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    x[mask.bool()] = known[mask.bool()]
    return x


def pasted_through_data(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    x.data[mask.bool()] = known[mask.bool()]
    return x


def pasted_through_numpy(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    x.view(torch.int16).numpy()[mask.bool().numpy()] = known.view(torch.int16).numpy()[mask.bool().numpy()]
    return x


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("blend", [blended, selected, pasted, pasted_through_data, pasted_through_numpy])
def test_inpainting_takes_the_mask_from_the_sample_and_the_rest_from_the_state(dtype: torch.dtype, blend) -> None:
    """At every step: outside the mask the bits of a run without a mask, inside it those of a run without a state."""
    mask = torch.zeros(SHAPE, dtype=dtype)
    mask[..., 2:6, 1:5] = 1
    inside = mask.bool()
    known = 10 + start(dtype, 9)  # changes its sign at every step, so that it never equals a state by chance
    free, painted = planned(), planned()
    x_free = x = start(dtype)
    for t in free.timesteps:
        x_free = free.step(model(x_free, t), t, x_free).prev_sample
        output = model(x, t)
        stateless = planned().step(output, int(t), x.clone()).prev_sample
        following = painted.step(output, t, x).prev_sample
        assert torch.equal(following[~inside], x_free[~inside])
        assert torch.equal(following[inside], stateless[inside])
        known = -known
        x = blend(following, known, mask)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_numbers_that_are_no_numbers_stay_where_they_are(dtype: torch.dtype) -> None:
    """NaN equals nothing, and infinity is no rounding error: neither spreads, neither is healed."""
    clean, scheduler = planned(), planned()
    t, t_next = scheduler.timesteps[:2]
    x_clean = clean.step(model(start(dtype), t), t, start(dtype)).prev_sample
    x = scheduler.step(model(start(dtype), t), t, start(dtype)).prev_sample
    x.data[0, 0, 0, 0], x.data[1, 0, 0, 0] = torch.nan, torch.inf
    bad = ~x.isfinite()
    found = scheduler.step(model(x, t_next), t_next, x).prev_sample
    expected = clean.step(model(x_clean, t_next), t_next, x_clean).prev_sample
    assert torch.equal(~found.isfinite(), bad)
    assert torch.equal(found[~bad], expected[~bad])


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_step_taken_twice_gives_the_same_bits(dtype: torch.dtype) -> None:
    """As for a preview, or by a method that tries a step before it takes it."""
    scheduler, x = planned(), start(dtype)
    for t in scheduler.timesteps:
        output = model(x, t)
        tried = scheduler.step(output, t, x).prev_sample
        following = scheduler.step(output, t, x).prev_sample
        assert torch.equal(tried, following)
        x = following
    assert torch.equal(x, alone(start(dtype))[-1])


# -- several runs on one scheduler -----------------------------------------------------------------------------------
# One remembered state is not enough here: the run in between would overwrite it, and the first run would go on from a
# rounded sample. That is no wrong result, but one that depends on what else the scheduler did. Remembering a few states
# is enough, if those go first that a run has already stepped from: a run that waits then keeps its own.


def alone(x: Tensor, steps: int = STEPS) -> list[Tensor]:
    return list(steps_of(planned(steps), x))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("copied", [False, True], ids=["", "copied"])
def test_two_runs_that_take_turns_give_the_bits_of_each_alone(dtype: torch.dtype, copied: bool) -> None:
    scheduler, hand_back = planned(), (lambda x: x.clone()) if copied else (lambda x: x)
    first, second = start(dtype, 0), start(dtype, 1)
    runs = zip(steps_of(scheduler, first, hand_back), steps_of(scheduler, second, hand_back), strict=True)
    expected = zip(alone(first), alone(second), strict=True)
    for (a, b), (a_alone, b_alone) in zip(runs, expected, strict=True):
        assert torch.equal(a, a_alone)
        assert torch.equal(b, b_alone)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("pause", [1, STEPS // 2, STEPS - 1])
def test_a_run_that_pauses_for_another_one_gives_the_bits_of_each_alone(dtype: torch.dtype, pause: int) -> None:
    """The second run goes through every timestep, past the one where the first waits."""
    scheduler = planned()
    first, second = steps_of(scheduler, start(dtype, 0)), steps_of(scheduler, start(dtype, 1))
    begun = [next(first) for _ in range(pause)]
    between = list(second)
    rest = list(first)
    assert_all_equal(between, alone(start(dtype, 1)))
    assert_all_equal([*begun, *rest], alone(start(dtype, 0)))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_two_runs_of_different_shape_give_the_bits_of_each_alone(dtype: torch.dtype) -> None:
    scheduler = planned()
    small, large = start(dtype, 0, (1, 3, 5)), start(dtype, 1)
    runs = list(zip(steps_of(scheduler, small), steps_of(scheduler, large), strict=True))
    assert_all_equal([a for a, _ in runs], alone(small))
    assert_all_equal([b for _, b in runs], alone(large))


def assert_all_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    differing = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if not torch.equal(a, b)]
    assert differing == [], f"samples {differing} of {len(expected)} differ from those of the run alone"


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_many_runs_that_take_turns_stay_near_float64(dtype: torch.dtype) -> None:
    """More runs than any scheduler remembers: each may be rounded at every step, and none takes from another."""
    scheduler = planned(10)
    samples = [start(dtype, seed) for seed in range(7)]
    exact, largest = [x.double() for x in samples], 0.0
    for t in scheduler.timesteps:
        largest = max(largest, *(float(x.abs().max()) for x in samples))
        samples = [scheduler.step(model(x, t), t, x).prev_sample for x in samples]
    for t in scheduler.timesteps:
        exact = [scheduler.step(model(x, t), t, x).prev_sample for x in exact]
    for x, y in zip(samples, exact, strict=True):
        assert float((x.double() - y).abs().max()) <= worst_rounding(scheduler, dtype, largest)


def worst_rounding(scheduler: DDIMScheduler, dtype: torch.dtype, largest: float) -> float:
    """How far a run of :func:`model` can end from float64 if every sample and every output is rounded once."""
    of_sample, of_output = (float(half_ulp(torch.tensor(size, dtype=dtype))) for size in (largest, 0.8))
    error = of_sample  # of the start
    for t in scheduler.timesteps.tolist():
        level, level_next = levels_around(scheduler, t)
        of_x = math.sqrt(level_next / level)
        of_m = math.sqrt(1 - level_next) - of_x * math.sqrt(1 - level)  # negative, as is every change of the output
        error = max(of_x, 0.8 * abs(of_m) - of_x) * error + abs(of_m) * of_output + of_sample
    return error


# Holds before the rewrite too, where a state was found by the identity of its tensor. By value a sample may equal
# another run's rounded state in some elements by chance: what it takes then differs by less than the rounding itself.
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_state_of_another_run_moves_an_element_by_no_more_than_its_rounding(dtype: torch.dtype) -> None:
    scheduler = planned()
    t, t_next = scheduler.timesteps[:2]
    others = scheduler.step(model(start(dtype), t), t, start(dtype)).prev_sample
    mine = start(dtype, 5)
    mine[:, ::2] = others[:, ::2]  # half of all elements coincide
    output = model(mine, t_next)
    found = scheduler.step(output, t_next, mine).prev_sample
    expected = planned().step(output, int(t_next), mine).prev_sample
    level, level_next = levels_around(scheduler, int(t_next))
    allowed = math.sqrt(level_next / level) * half_ulp(mine) + 2 * half_ulp(expected)
    assert bool(((found.double() - expected.double()).abs() <= allowed).all())
    assert torch.equal(found[:, 1::2], expected[:, 1::2])


# -- the end of a state ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("renewed", ["set_timesteps", "copy", "pickle"])
def test_a_new_run_and_a_copied_scheduler_begin_without_a_state(dtype: torch.dtype, renewed: str) -> None:
    """The rounded sample is then all there is: the same bits as on a scheduler that never saw it."""
    scheduler = planned()
    t, t_next = (int(t) for t in scheduler.timesteps[:2])
    x = scheduler.step(model(start(dtype), t), t, start(dtype)).prev_sample
    if renewed == "set_timesteps":
        scheduler.set_timesteps(STEPS)
    else:
        scheduler = copy.deepcopy(scheduler) if renewed == "copy" else pickle.loads(pickle.dumps(scheduler))
    output = model(x, t_next)
    found = scheduler.step(output, t_next, x).prev_sample
    assert torch.equal(found, planned().step(output, t_next, x).prev_sample)
