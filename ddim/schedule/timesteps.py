"""The timestep plan: which timesteps a run visits, and where each step goes.

A plan is an immutable list of pairs ``(t, t_next)``, so that the target of a step never has to be guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..arguments import check_list
from ..errors import DDIMError, check_choice, check_integer, check_number
from ..parity import parity_of
from .ays import AYS_TIMESTEPS, ays_timesteps
from .common_settings import MAX_TRAIN_TIMESTEPS

__all__ = ["END", "TIMESTEP_SPACINGS", "TimestepPlan", "make_plan", "plan_from_timesteps"]

END = -1  # t_next of the last step: it stands for the final alpha_bar of the noise schedule


@dataclass(frozen=True)
class TimestepPlan:
    """Pairs ``(t, t_next)`` in sampling order; ``t_next`` is :data:`END` after the last timestep.

    Attributes:
        pairs: the steps.
        first: where this plan is a part of another one, the index of its first pair in that plan. The parts of a run
            then draw the same step noise as the whole run.
    """

    pairs: tuple[tuple[int, int], ...]
    first: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def timesteps(self) -> tuple[int, ...]:
        """The timesteps at which the model is called, in sampling order."""
        return tuple(t for t, _ in self.pairs)

    def part(self, start: int = 0, stop: int | None = None) -> TimestepPlan:
        """Take the steps from ``start`` to ``stop`` (exclusive), to split a run into parts.

        Raises:
            DDIMError: if the range is empty or exceeds the plan.
        """
        start = check_integer("start", start, -math.inf)
        stop = len(self) if stop is None else check_integer("stop", stop, -math.inf)
        if not 0 <= start < stop <= len(self):
            raise DDIMError(
                f"a part must lie within the plan's {len(self)} steps and contain at least one of them, "
                f"got steps {start} to {stop}"
            )
        return TimestepPlan(self.pairs[start:stop], self.first + start)

    def last_fraction(self, strength: float) -> TimestepPlan:
        """Take the last ``int(len * strength)`` steps of the plan, at least 1, for image-to-image.

        Args:
            strength: in [0, 1]; 1 keeps every step.

        Raises:
            DDIMError: if ``strength`` is outside [0, 1].
        """
        strength = check_number("strength", strength, 0.0, 1.0)
        keep = max(1, min(len(self), int(len(self) * strength + 1e-9)))
        return self.part(len(self) - keep)


def _round_half_even(numerator: int, denominator: int) -> int:
    """Round a ratio to the nearest integer, ties to even, in integer arithmetic."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def _leading(steps: int, total: int, offset: int) -> list[int]:
    """Multiples of T // S plus the offset, reduced so that all stay below T (2305.08891, table 2)."""
    stride = total // steps
    offset = min(offset, total - 1 - (steps - 1) * stride)
    return [i * stride + offset for i in reversed(range(steps))]


def _trailing(steps: int, total: int, offset: int) -> list[int]:
    """round(T * i / S) - 1 for i = S..1; the first is always T - 1 (2305.08891, table 2)."""
    return [_round_half_even(total * i, steps) - 1 for i in range(steps, 0, -1)]


def _linspace(steps: int, total: int, offset: int) -> list[int]:
    """S evenly spaced timesteps from T - 1 to 0 (2305.08891, table 2); a single step is at T - 1."""
    if steps == 1:
        return [total - 1]
    return [_round_half_even((total - 1) * i, steps - 1) for i in reversed(range(steps))]


def _quad(steps: int, total: int, offset: int) -> list[int]:
    """floor(c i^2), the largest at 0.8 T (DDIM, 2010.02502, D.2 and the authors' code), made distinct.

    Where the parabola rises by less than one timestep per step, the timesteps are one apart.
    """
    last = max(1, steps - 1)
    ascending: list[int] = []
    for i in range(steps):
        quadratic = 4 * total * (i if steps > 1 else 1) ** 2 // (5 * last**2)
        lowest = ascending[-1] + 1 if ascending else 0
        ascending.append(min(max(quadratic, lowest), total - steps + i))
    return ascending[::-1]


def _ays(name: str) -> Callable[[int, int, int], list[int]]:
    """Align Your Steps (2404.14507), tuned for one model."""
    return lambda steps, total, offset: ays_timesteps(AYS_TIMESTEPS[name], steps, total)


# Each rule maps (S, T, steps_offset) to S timesteps, strictly decreasing.
_EXACT_RULES: dict[str, Callable[[int, int, int], list[int]]] = {
    "leading": _leading,
    "trailing": _trailing,
    "linspace": _linspace,
    "quad": _quad,
    **{name: _ays(name) for name in AYS_TIMESTEPS},
}

# diffusers' lists, with its floating-point rounding: S + 1 entries that end in -1 for 62 trailing counts, [0] for one
# linspace step, and a first timestep of T for leading with an offset when T // S is 1.
_DIFFUSERS_RULES: dict[str, Callable[[int, int, int], list[int]]] = {
    "leading": lambda steps, total, offset: [i * (total // steps) + offset for i in reversed(range(steps))],
    "trailing": lambda steps, total, offset: _integers(np.round(np.arange(total, 0, -total / steps)) - 1),
    "linspace": lambda steps, total, offset: _integers(np.linspace(0, total - 1, steps).round()[::-1]),
}

TIMESTEP_SPACINGS: tuple[str, ...] = tuple(_EXACT_RULES)


def make_plan(
    num_steps: int, num_train_timesteps: int, spacing: str = "leading", steps_offset: int = 0, parity: str = "exact"
) -> TimestepPlan:
    """Plan ``num_steps`` steps over ``num_train_timesteps`` timesteps.

    Args:
        num_steps: S, in 1..T.
        num_train_timesteps: T.
        spacing: one of :data:`TIMESTEP_SPACINGS`.
        steps_offset: added to every ``leading`` timestep, as far as all stay below T; other spacings ignore it.
        parity: ``"exact"`` gives S strictly decreasing timesteps, and each step goes to the next one;
            ``"diffusers"`` gives diffusers' list and its rule ``t_next = t - T // S``.

    Raises:
        DDIMError: for a count outside its range, an unknown name, or a plan that diffusers cannot run either.
    """
    total = check_integer("num_train_timesteps", num_train_timesteps, 1, MAX_TRAIN_TIMESTEPS)
    steps = check_integer("num_inference_steps", num_steps, 1, total, why=" (the number of training timesteps)")
    offset = check_integer("steps_offset", steps_offset, 0, total - 1)
    spacing = check_choice("timestep_spacing", spacing, TIMESTEP_SPACINGS)
    if parity_of(parity).steps_by_stride:
        return _diffusers_plan(steps, total, spacing, offset)
    return _plan_through(_EXACT_RULES[spacing](steps, total, offset))


def plan_from_timesteps(timesteps: Iterable[int], num_train_timesteps: int) -> TimestepPlan:
    """Make a plan that visits the given timesteps.

    Args:
        timesteps: whole numbers in 0..T-1, strictly decreasing.
        num_train_timesteps: T.

    Raises:
        DDIMError: if the list is empty, not strictly decreasing, or leaves the range.
    """
    total = check_integer("num_train_timesteps", num_train_timesteps, 1, MAX_TRAIN_TIMESTEPS)
    given = check_list("timesteps", timesteps, total + 1)  # a longer list cannot be strictly decreasing
    listed = [check_integer("each of timesteps", t, 0, total - 1) for t in given]
    if not listed:
        raise DDIMError("timesteps must contain at least one timestep, got none")
    for t, t_next in pairwise(listed):
        if t_next >= t:
            raise DDIMError(f"timesteps must be strictly decreasing, got {t} followed by {t_next}")
    return _plan_through(listed)


def _plan_through(timesteps: list[int]) -> TimestepPlan:
    return TimestepPlan(tuple(pairwise([*timesteps, END])))


def _diffusers_plan(steps: int, total: int, spacing: str, offset: int) -> TimestepPlan:
    check_choice("timestep_spacing (with parity='diffusers')", spacing, tuple(_DIFFUSERS_RULES))
    timesteps = _DIFFUSERS_RULES[spacing](steps, total, offset)
    if timesteps[0] >= total:
        raise DDIMError(
            f"diffusers cannot run {steps} {spacing} steps with steps_offset={offset}: timestep {timesteps[0]} "
            f"is past the last of {total} (diffusers raises IndexError); use parity='exact' or fewer steps"
        )
    stride = total // steps
    return TimestepPlan(tuple((t, t - stride) for t in timesteps))


def _integers(values: np.ndarray) -> list[int]:
    return [int(value) for value in values]
