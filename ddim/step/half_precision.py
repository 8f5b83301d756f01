"""Half-precision loops that keep a float32 state, although every tensor that the caller sees is half precision.

In ``x = scheduler.step(model(x, t), t, x).prev_sample`` each step's result is the next step's sample. Rounded to
bfloat16 at each of 50 steps, it ends 0.28 away from the float64 result (float16: 0.026); with the unrounded results as
the state, 0.01 (0.002) away.

The state is recognised by value: where the sample that comes back equals the rounded state, the state is used, element
by element; elsewhere the sample is. So it makes no difference whether the caller clones, blends, masks or overwrites.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from .equations import StepCoefficients

__all__ = ["HalfPrecisionState", "steps_from_rounded_sample"]

_MAX_WAITING = 8  # states that are kept: room for a few runs that take turns on one scheduler


def steps_from_rounded_sample(c: StepCoefficients) -> bool:
    """Whether a half-precision step must start from the rounded sample that the model saw, instead of the state.

    A step is ``w_x x + w_m m(x)``. From the state, the rounding of the model's input enters through ``w_m m'`` alone;
    from the rounded sample through the whole derivative, which is about 1. But where ``w_m`` is large (an epsilon
    output at a tiny alpha_bar) the two terms cancel, and both must hold the same rounding.
    """
    return abs(float(c.step.m)) >= 1.0


class HalfPrecisionState:
    """The float32 results that wait for their next step, each with the position in the run where it comes back.

    Args:
        steps: S, number of steps of a run.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._waiting: list[tuple[int, Tensor]] = []
        self._taken: Counter[int] = Counter()  # steps from each position, of all runs that use the scheduler

    def of(self, position: int, sample: Tensor) -> Tensor:
        """The state where ``sample`` equals its rounding, ``sample`` elsewhere; float32 where there is a state.

        Nothing here makes the host wait for the device.

        Args:
            position: in the run.
            sample: half precision, shape ``(B, ...)``.
        """
        states = [
            state
            for at, state in self._waiting
            if at == position and state.shape == sample.shape and state.device == sample.device
        ]
        if not states or sample.requires_grad:
            return sample
        equal = [state.to(sample.dtype) == sample for state in states]
        if len(states) == 1:
            return torch.where(equal[0], states[0], sample)
        # Several runs are at this position: the sample belongs to the state that it agrees with in most elements.
        best = torch.stack([each.sum() for each in equal]).argmax().reshape(1)
        state = torch.stack(states).index_select(0, best)[0]
        return torch.where(state.to(sample.dtype) == sample, state, sample)

    def remember(self, position: int, x_next: Tensor) -> None:
        """Keep the result of the step from a position; one that autograd follows is not kept."""
        self._taken[position] += 1
        counts = Counter(at for at, _ in self._waiting)
        # States of this position stay for a step that is repeated; at others, those that all runs have stepped from go.
        spent = {at for at in counts if at != position and self._taken[at] >= counts[at]}
        self._waiting = [(at, state) for at, state in self._waiting if at not in spent]
        for at in spent:
            del self._taken[at]
        if position + 1 < self._steps and not x_next.requires_grad:
            self._waiting = [*self._waiting, (position + 1, x_next)][-_MAX_WAITING:]
            self._taken.setdefault(position + 1, 0)
