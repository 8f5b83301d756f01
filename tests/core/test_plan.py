"""Every step count, every spacing: exactly S strictly decreasing timesteps in range, each with its own target."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim import END, TIMESTEP_SPACINGS, DDIMError, DDIMScheduler, make_plan, make_schedule, plan_from_timesteps


def check(plan, steps: int, total: int) -> None:
    timesteps = plan.timesteps
    assert len(plan) == len(timesteps) == steps
    assert all(first > second for first, second in pairwise(timesteps))
    assert timesteps[0] <= total - 1 and timesteps[-1] >= 0
    assert [t_next for _, t_next in plan.pairs] == [*timesteps[1:], END]


@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
def test_every_count_from_1_to_1000_is_what_was_asked_for(spacing: str) -> None:
    for steps in range(1, 1001):
        check(make_plan(steps, 1000, spacing), steps, 1000)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_length_of_schedule_count_and_offset(data) -> None:
    total = data.draw(st.integers(1, 3000))
    steps, offset = data.draw(st.integers(1, total)), data.draw(st.integers(0, total - 1))
    check(make_plan(steps, total, data.draw(st.sampled_from(TIMESTEP_SPACINGS)), offset), steps, total)


@pytest.mark.parametrize("steps", [1, 7, 30, 61, 103, 201, 333, 600, 999, 1000])
def test_trailing_and_linspace_are_the_exactly_rounded_positions(steps: int) -> None:
    """Python's fractions round half to even without a float in between."""
    trailing = [round(Fraction(1000 * i, steps)) - 1 for i in range(steps, 0, -1)]
    assert list(make_plan(steps, 1000, "trailing").timesteps) == trailing
    if steps > 1:
        linspace = [round(Fraction(999 * i, steps - 1)) for i in reversed(range(steps))]
        assert list(make_plan(steps, 1000, "linspace").timesteps) == linspace


def test_both_spacings_that_reach_the_end_start_at_the_last_timestep() -> None:
    for steps in range(1, 1001):
        assert make_plan(steps, 1000, "trailing").timesteps[0] == 999
        assert make_plan(steps, 1000, "linspace").timesteps[0] == 999


def test_the_step_counts_where_diffusers_gives_a_timestep_of_minus_one() -> None:
    """62 trailing counts: S + 1 entries that end in -1, reproduced by parity and absent from the exact plan."""
    wrong = [
        steps for steps in range(1, 1001) if make_plan(steps, 1000, "trailing", parity="diffusers").timesteps[-1] < 0
    ]
    assert len(wrong) == 62 and wrong[:6] == [61, 103, 121, 122, 201, 206]


def test_a_plan_with_one_entry_more_still_counts_as_what_was_asked_for() -> None:
    scheduler = DDIMScheduler(timestep_spacing="trailing", parity="diffusers")
    scheduler.set_timesteps(61)
    assert scheduler.num_inference_steps == 61 and len(scheduler.timesteps) == 62


def test_where_diffusers_guess_misses_its_own_list() -> None:
    missed = {
        spacing: sum(
            any(t_next != following for (_, t_next), following in zip(plan.pairs, plan.timesteps[1:], strict=False))
            for plan in (make_plan(steps, 1000, spacing, parity="diffusers") for steps in range(1, 1001))
        )
        for spacing in ("leading", "trailing", "linspace")
    }
    assert missed == {"leading": 0, "trailing": 984, "linspace": 998}


def test_diffusers_trailing_stops_short_of_the_end_for_372_counts() -> None:
    plans = [make_plan(steps, 1000, "trailing", parity="diffusers") for steps in range(1, 1001)]
    assert sum(plan.pairs[-1][1] == 0 for plan in plans) == 372
    assert all(make_plan(steps, 1000, "trailing").pairs[-1][1] == END for steps in range(1, 1001))


def test_quad_is_the_papers_parabola() -> None:
    """Appendix D.2 and the authors' code: floor(linspace(0, sqrt(0.8 T), S)^2)."""
    assert make_plan(10, 1000, "quad").timesteps == (800, 632, 483, 355, 246, 158, 88, 39, 9, 0)


def test_an_offset_is_kept_below_the_last_timestep() -> None:
    assert make_plan(1000, 1000, "leading", 1).timesteps[0] == 999
    assert make_plan(5, 1000, "leading", 1).timesteps == (801, 601, 401, 201, 1)
    with pytest.raises(DDIMError, match="past the last of 1000"):
        make_plan(1000, 1000, "leading", 1, "diffusers")


def test_custom_timesteps() -> None:
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(timesteps=[999, 500, 7])
    assert scheduler.plan.pairs == ((999, 500), (500, 7), (7, END)) and scheduler.num_inference_steps == 3
    assert make_schedule(3, timesteps=[3, 2, 1]).plan == plan_from_timesteps([3, 2, 1], 1000)


def test_parts_of_a_plan_meet_where_they_were_cut() -> None:
    plan = make_plan(10, 1000, "trailing")
    first, second = plan.part(0, 4), plan.part(4)
    assert first.pairs + second.pairs == plan.pairs and first.pairs[-1][1] == second.pairs[0][0]
    assert second.first == 4 and plan.last_fraction(0.6).pairs == second.pairs
    for start, stop in ((4, 4), (5, 4), (0, 11), (-1, 3)):
        with pytest.raises(DDIMError, match="must lie within"):
            plan.part(start, stop)
