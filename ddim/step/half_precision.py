"""Half-precision loops that keep a float32 state, although every tensor that the caller sees is half precision.

In ``x = scheduler.step(model(x, t), t, x).prev_sample`` each step's result is the next step's sample. Rounded to
bfloat16 at each of 50 steps, it ends 0.28 away from the float64 result (float16: 0.026); with the unrounded results as
the state, 0.01 (0.002) away.

The state is recognised by value: where the sample that comes back equals the rounded state, the state is used, element
by element; elsewhere the sample is. So it makes no difference whether the caller clones, blends, masks or overwrites.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from .equations import StepCoefficients

__all__ = ["HalfPrecisionState", "steps_from_rounded_sample"]

_RUNS = 4  # how many runs may be interleaved on one scheduler, step by step, without losing their states


def steps_from_rounded_sample(c: StepCoefficients) -> bool:
    """Whether a half-precision step must start from the rounded sample that the model saw, instead of the state.

    A step is ``w_x x + w_m m(x)``. From the state, the rounding of the model's input enters through ``w_m m'`` alone;
    from the rounded sample through the whole derivative, which is about 1. But where ``w_m`` is large (an epsilon
    output at a tiny alpha_bar) the two terms cancel, and both must hold the same rounding.
    """
    return abs(float(c.step.m)) >= 1.0


class HalfPrecisionState:
    """The latest float32 results of a scheduler, each with the position in the run at which it comes back."""

    def __init__(self) -> None:
        self._latest: deque[tuple[int, Tensor]] = deque(maxlen=_RUNS)

    def remember(self, position: int, state: Tensor) -> None:
        """Keep the unrounded sample of a position in the run; one that autograd follows is not kept."""
        if not state.requires_grad:
            self._latest.append((position, state))

    def of(self, position: int, sample: Tensor) -> Tensor:
        """The state where ``sample`` equals its rounding, ``sample`` elsewhere; float32 where there is a state.

        Nothing here makes the host wait for the device.

        Args:
            position: in the run.
            sample: half precision, shape ``(B, ...)``.
        """
        states = [
            state
            for at, state in self._latest
            if at == position and state.shape == sample.shape and state.device == sample.device
        ]
        if not states or sample.requires_grad:
            return sample
        equal = [state.to(sample.dtype) == sample for state in states]
        if len(states) == 1:
            return torch.where(equal[0], states[0], sample.float())
        # Several runs are under way: the sample belongs to the state that it agrees with in most elements.
        best = torch.stack([each.sum() for each in equal]).argmax().reshape(1)
        state = torch.stack(states).index_select(0, best)[0]
        return torch.where(state.to(sample.dtype) == sample, state, sample.float())
