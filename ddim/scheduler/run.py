"""What belongs to one run of a scheduler: ``set_timesteps`` replaces it as a whole."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_device, describe
from ..errors import DDIMError, show
from ..noise.keyed import KeyedStep
from ..precision import HALF, as_dtype
from ..schedule.timesteps import TimestepPlan
from ..step.apply import apply_step, predicted_x0
from ..step.coefficients import StepTable
from ..step.equations import StepCoefficients
from ..step.half_precision import HalfPrecisionState, steps_from_rounded_sample
from ..step.x0 import ProcessX0
from ..triton_support import kernels_run_on

__all__ = ["Run", "advance", "one_timestep_per_image"]

_FLOAT32 = struct.Struct("f")  # rounds as a tensor of times is rounded


class Run:
    """The plan of one run, its coefficients, its timesteps as a tensor, and its half-precision state.

    Args:
        plan: the pairs ``(t, t_next)``.
        visited: the timesteps in the order in which the model is called.
        table: the coefficients of the steps.
        number: how many runs the scheduler has had.
        total: T, number of training timesteps.
        stride: with diffusers' rule any timestep may be stepped from, to ``t - stride``; else None.
        device: of ``timesteps``.
        times: what the model is called with at each training timestep, shape ``(T,)``; None for the timestep itself.

    Attributes:
        seed: of the run's noise where none is given, or None.
        timesteps: what the model is called with, in order: int64, or float32 where there are ``times``.
    """

    def __init__(
        self,
        plan: TimestepPlan,
        visited: tuple[int, ...],
        table: StepTable,
        *,
        number: int,
        total: int,
        stride: int | None,
        device: torch.device | str | None,
        times: Tensor | None = None,
    ) -> None:
        self.plan, self.visited, self.table, self.number = plan, visited, table, number
        self.state = HalfPrecisionState(len(visited))
        self._next = dict(plan.pairs)
        self._position = {t: i for i, t in enumerate(visited)}
        self._total, self._stride = total, stride
        self.seed: int | None = None
        with torch.inference_mode(False):
            called_with = torch.tensor(visited)
            if times is not None:
                called_with = times[called_with].float()
            self.timesteps = called_with.to(check_device("device", device))
        self._storage = (self.timesteps.device, self.timesteps.untyped_storage().data_ptr())
        # On the CPU a view of the tensor's memory: values that a caller has written there are seen.
        self._values: Sequence[float] | np.ndarray = (
            self.timesteps.numpy() if self.timesteps.is_cpu else called_with.tolist()
        )
        # Where the model is called with other numbers than our timesteps: our timesteps by those numbers.
        self._by_time: dict[float, int] | None = (
            None if times is None else dict(zip(called_with.tolist(), visited, strict=True))
        )
        if self._by_time is not None and len(self._by_time) < len(visited):
            raise DDIMError(
                "the model must be called at another time in each step, got two steps whose times are equal in "
                "float32; use fewer steps"
            )

    def value_of(self, timestep: float | Tensor) -> int:
        """The training timestep of what the model is called with.

        An element of ``timesteps`` is recognised by device, storage and offset, so that the host does not wait for a
        device to read it.

        Raises:
            DDIMError: for a tensor of more than one element or without values, or a time at which the run does not call
                the model.
        """
        if not isinstance(timestep, Tensor):
            return self._by_value(timestep)
        if timestep.numel() != 1:
            raise DDIMError(f"timestep must be one number, or one per image, got {describe(timestep)}")
        try:
            same = timestep.dtype == self.timesteps.dtype
            if same and self._storage == (timestep.device, timestep.untyped_storage().data_ptr()):
                return self._by_value(self._values[int(timestep.storage_offset())])
            value = timestep.item()
        except RuntimeError as error:  # it is on meta, or has no storage
            raise DDIMError(f"timestep must hold a number, got {describe(timestep)}") from error
        return self._by_value(value)

    def _by_value(self, value: Any) -> int:
        if self._by_time is None:
            whole = isinstance(value, float | np.integer) and float(value).is_integer()
            t: int = int(value) if whole else value  # anything else is found to be outside the plan
            return t
        try:
            found = self._by_time.get(_FLOAT32.unpack(_FLOAT32.pack(value))[0])
        except (struct.error, TypeError, ValueError, OverflowError):
            found = None
        if found is None:
            raise self._not_planned(value)
        return found

    def visited_at(self, index: int) -> int:
        """The timestep of a step.

        Raises:
            DDIMError: if there is no such step.
        """
        try:
            return self.visited[index]
        except (IndexError, TypeError) as error:
            raise DDIMError(f"index must be that of one of {len(self.visited)} steps, got {show(index)}") from error

    def next_of(self, t: int) -> int:
        """Where the plan goes from ``t``.

        Raises:
            DDIMError: if ``t`` is not in the plan.
        """
        try:
            found = self._next.get(t)
        except TypeError:  # a list or an array, which no dict can look up
            found = None
        if found is not None:
            return found
        if self._stride is not None and isinstance(t, Integral) and t is not True and t in range(self._total):
            return t - self._stride
        raise self._not_planned(t)

    def _not_planned(self, timestep: float) -> DDIMError:
        first, last = self._values[0], self._values[-1]
        return DDIMError(
            f"timestep {show(timestep)} is not in the plan of {len(self.visited)} steps ({first:g} to {last:g}); take "
            "it from scheduler.timesteps"
        )

    def position_of(self, t: int) -> int:
        """Index of a timestep in the run; timesteps that only diffusers' rule admits come after all others."""
        return self._position.get(t, self._total + t)

    @property
    def key(self) -> int:
        """Seed of the run's noise where none is given.

        Unless the run has a seed, it follows ``torch.manual_seed`` and differs between runs.
        """
        return torch.initial_seed() ^ (self.number << 40) if self.seed is None else self.seed


def one_timestep_per_image(timestep: float | Tensor) -> bool:
    """Whether a step's levels must be tensors: a timestep per image, or one that ``torch.compile`` cannot read."""
    return torch.compiler.is_compiling() or (isinstance(timestep, Tensor) and timestep.numel() > 1)


def advance(
    c: StepCoefficients,
    sample: Tensor,
    model_output: Tensor,
    process_x0: ProcessX0 | None,
    memory: HalfPrecisionState,
    position: int | None,
    use_clipped_model_output: bool = False,
    z: Tensor | KeyedStep | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step on the caller's tensors, in the sample's dtype: the next sample and x_0.

    Args:
        c: coefficients of the step.
        sample: shape ``(B, ...)``.
        model_output: same shape.
        process_x0: clipping or thresholding of x_0, or None.
        memory: of half-precision loops.
        position: of the step in the run; None where the images are at different ones.
        use_clipped_model_output: derive epsilon again from the processed x_0.
        z: noise of the step, or None.
        out: where to write the next sample, or None.
    """
    half = sample.dtype in HALF
    state = sample
    if half and position is not None and not steps_from_rounded_sample(c):
        state = memory.of(position, sample)
    # x_0 first: `out` may be the sample. Where the step processes x_0 it returns it, unless a kernel keeps it inside.
    inside_kernel = process_x0 is not None and kernels_run_on(sample.device)
    x0 = predicted_x0(c, state, model_output, process_x0) if process_x0 is None or inside_kernel else None
    x_next, processed = apply_step(
        c,
        state,
        model_output,
        process_x0=process_x0,
        use_clipped_model_output=use_clipped_model_output,
        noise=z,
        need_x0=True,
        out=None if half else out,
    )
    if half and position is not None:
        memory.remember(position, x_next)
    x0 = processed if x0 is None else x0
    assert x0 is not None
    x_next = as_dtype(x_next, sample.dtype) if out is None or out is x_next else out.copy_(x_next)
    return x_next, as_dtype(x0, sample.dtype)
