"""Exact inversion with a step in both directions from one prediction: BDIA (Zhang, Lewis & Kleijn 2023, 2307.10829).

With one prediction at z_i, DDIM can step to the next level and back to the last one. BDIA adds the first change and
takes the second back. With D(z_i, j) for the DDIM step from z_i to level j, and gamma 1 (the paper's section 4)::

    z_{i-1} = z_{i+1} + D(z_i, i-1) - D(z_i, i+1)

This gives z_{i+1} from z_{i-1} just as well, so that two neighbouring samples are all that has to be kept. Nothing is
divided by a level, and the model is never called at the first one: zero terminal SNR is a level like any other. With
gamma below 1 the inverse divides by gamma in every step, and rounding errors grow.

The paper counts levels from clean data; here step ``index`` goes from level ``index`` to the cleaner ``index + 1``. Its
levels are variance preserving; samples of other kinds are divided by the length of their level, sqrt(alpha^2 +
sigma^2), which makes them so: otherwise the rounding of a sample at sigma 80 would stay in the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DDIMError
from ..guidance.cfg import CFGPlusPlus
from .deterministic import first_guess
from .trajectory import Trajectory

__all__ = ["check_two_steps", "decode_bdia", "encode_bdia"]


def check_two_steps(trajectory: Trajectory) -> None:
    """Check that two neighbouring samples are not the noise and the image itself.

    Raises:
        DDIMError: If the plan has one step.
    """
    if len(trajectory) < 2:
        raise DDIMError(
            "bdia keeps two neighbouring samples, and of a single step the second is the image itself; use at least 2 "
            "steps, or method='variance_noise'"
        )


def decode_bdia(trajectory: Trajectory, first: Tensor, second: Tensor) -> Tensor:
    """Sample from two neighbouring samples; S - 1 model calls.

    Args:
        trajectory: Model and plan, with eta 0 and at least 2 steps.
        first: The sample at the first level, shape ``(B, ...)``.
        second: The sample after the first step, same shape.

    Returns:
        The image in float64, shape ``(B, ...)``.
    """
    levels = trajectory.schedule.levels
    before, x = first.double() / levels[0].length, second.double() / levels[1].length
    for index in range(1, len(trajectory)):
        change, (sample, output) = _both_changes(trajectory, index, x)
        trajectory.report(index, index, sample, output)
        before, x = x, before + change
    return x * levels[-1].length


def encode_bdia(trajectory: Trajectory, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Undo :func:`decode_bdia`; S model calls. The last step, of which only one end is known, is plain inversion.

    In float64 whatever the dtype of ``x0``.

    Args:
        trajectory: Model and plan, with eta 0 and at least 2 steps.
        x0: The image, shape ``(B, ...)``.

    Returns:
        The samples at the first level and after the first step, float64.
    """
    last, levels = len(trajectory) - 1, trajectory.schedule.levels
    sample, output = first_guess(trajectory, last, x0.double())
    trajectory.report(0, last, sample, output)
    after, x = x0.double() / levels[-1].length, sample / levels[last].length
    for steps_done, index in enumerate(range(last, 0, -1), start=1):
        change, called = _both_changes(trajectory, index, x)
        after, x = x, after - change
        trajectory.report(
            steps_done, index - 1, x * levels[index - 1].length, called[1], predicted_at=(index, called[0])
        )
    return x * levels[0].length, after * levels[1].length


def _both_changes(trajectory: Trajectory, index: int, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor | CFGPlusPlus]]:
    """Return D(x, index + 1) - D(x, index - 1) for samples of length 1, and the model's sample and output."""
    above, at, below = (level.length for level in trajectory.schedule.levels[index - 1 : index + 2])
    sample = x * at
    output = trajectory.output(index, sample)
    down = trajectory.mean(index, sample, output).to(torch.float64) / below
    up = trajectory.mean_upwards(index, sample, output).to(torch.float64) / above
    return down - up, (sample, output)
