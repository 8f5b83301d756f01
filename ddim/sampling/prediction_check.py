"""What a network predicts, measured: epsilon, v, x_0 or the velocity of a flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import check_batch, check_function
from ..errors import DDIMError, check_integer, show
from ..noise.keyed import keyed_noise
from ..precision import per_image
from ..schedule.noise_levels import NoiseSchedule
from ..step.coefficients import prediction_weights
from ..step.equations import PREDICTIONS
from ..step.levels import VARIANCE_EXPLODING, Level
from .loop import checked_output

__all__ = ["PredictionCheck", "find_prediction_type"]

Model = Callable[[Tensor, Tensor], Tensor]

ALPHA_BAR = 0.75  # of the second call: noisy enough for all kinds to differ, clear enough to show the picture
BRIGHTNESS = 0.5  # of the flat pictures

# When a measurement counts as that of a kind: its weights this near to the kind's own, this much nearer than to those
# of any other, with this share of the output explained; and this near at the last timestep too.
NEAR, NEARER_BY, EXPLAINED, NEAR_AT_LAST = 0.25, 0.2, 0.8, 0.4

_SMALLEST_ALPHA = 1e-3  # at alpha 0 not every prediction has values


@dataclass(frozen=True)
class PredictionCheck:
    """What :func:`find_prediction_type` measured.

    Attributes:
        prediction_type: a key of ``PREDICTIONS``, or None if it is undecided.
        correlation: of the output for pure noise with that noise, at the last timestep, in [-1, 1].
        last_noise_weight: how much of the noise is in that output: near 1 for epsilon and flow models, near 0 for v and
            x_0.
        last_alpha_bar: the level of the last timestep; 0 where the levels reach zero SNR.
        noise_weight: how much of the noise is in the output for flat pictures with noise, at ``alpha_bar``.
        picture_weight: how much of the picture.
        explained: the share of that output that is noise and picture, in [0, 1].
        alpha_bar: the level of these.
        reason: why it is undecided, in words; empty if it is not.
    """

    prediction_type: str | None
    correlation: float
    last_noise_weight: float
    last_alpha_bar: float
    noise_weight: float
    picture_weight: float
    explained: float
    alpha_bar: float
    reason: str = ""

    @property
    def zero_snr(self) -> bool:
        """Whether the levels reach pure noise."""
        return self.last_alpha_bar == 0.0


@torch.no_grad()
def find_prediction_type(model: Model, x: Tensor, noise: NoiseSchedule, *, seed: int = 0) -> PredictionCheck:
    """Find out what a network predicts, from two calls.

    The first is with pure noise at the last timestep: an epsilon or a flow model gives the noise back, one that
    predicts v or x_0 does not. The second tells these apart: flat pictures x_0 with noise, at a level where any trained
    model sees both. An output is linear in them: epsilon is all noise, x_0 all picture, v = alpha epsilon - sigma x_0,
    the velocity of a flow epsilon - x_0; their weights are measured by least squares.

    Args:
        model: ``model(x_t, t)`` gives the network's own output, without guidance; t as :func:`ddim.sample` gives it.
        x: of the shape ``(B, ...)``, dtype and device that the model takes; its values are not used. Two images and
            more give two brightnesses and more.
        noise: the levels that the model is called at.
        seed: of the noise and the pictures.

    Returns:
        What was measured, and what follows from it.

    Raises:
        DDIMError: for arguments that do not fit together; for variance exploding levels, whose networks all predict the
            same; for outputs that are not finite.
    """
    check_function("model", model)
    like = check_batch("x", x)
    if not isinstance(noise, NoiseSchedule):
        raise DDIMError(f"noise must be a NoiseSchedule, as make_schedule(...).noise is, got {show(noise)}")
    if noise.kind == VARIANCE_EXPLODING:
        raise DDIMError(
            "noise must hold the levels of a variance preserving or a flow model, got those of a variance exploding "
            "(EDM) one, whose networks all predict the same: there is nothing to find out"
        )
    if like.ndim < 2 or not like.numel():
        raise DDIMError(f"x must have the shape (B, ...) and at least one element, got {tuple(like.shape)}")
    seed = check_integer("seed", seed, -math.inf)
    last, middle = len(noise) - 1, _nearest(noise, ALPHA_BAR)
    drawn = keyed_noise(like.shape, seed, 0, dtype=torch.float64)  # on the CPU: not every device has float64
    # Without its mean, which a network may take for the brightness of a picture; one element alone is all mean.
    drawn = drawn - per_image(drawn.flatten(1).mean(1), drawn) if like[0].numel() > 1 else drawn
    first = _output(model, noise, last, drawn, like)
    correlation = float((first * drawn).sum() / (first.norm() * drawn.norm()).clamp_min(1e-30))
    picture = per_image(_brightnesses(len(like)), drawn).to(drawn).expand_as(drawn)
    level = noise.level_at(middle)
    second = _output(model, noise, middle, level.alpha * picture + level.sigma * drawn, like)
    weights, explained = _least_squares(second, drawn, picture)
    at_last = float((first * drawn).sum() / drawn.square().sum())
    found, reason = _decide(level, weights, explained, noise.level_at(last), at_last)
    return PredictionCheck(
        found,
        correlation,
        at_last,
        float(noise.levels[last]),
        *weights,
        explained,
        float(noise.levels[middle]),
        reason,
    )


def _nearest(noise: NoiseSchedule, alpha_bar: float) -> int:
    return min(range(len(noise)), key=lambda t: abs(noise.levels[t] - alpha_bar))


def _brightnesses(count: int) -> Tensor:
    """A brightness for each image, bright and dark in turn."""
    return torch.tensor([BRIGHTNESS if i % 2 == 0 else -BRIGHTNESS for i in range(count)], dtype=torch.float64)


def _output(model: Model, noise: NoiseSchedule, t: int, x_t: Tensor, like: Tensor) -> Tensor:
    times = noise.table.times
    time = torch.tensor(t) if times is None else times[t].float()
    output = checked_output(model(x_t.to(like.dtype).to(like.device), time.to(like.device)), like)
    if not isinstance(output, Tensor):
        raise DDIMError("model must return the output of one network, got two to guide with; pass the conditional one")
    if not bool(torch.isfinite(output).all()):
        raise DDIMError(f"the model's output at timestep {t} must be finite, got NaN or infinite values")
    return output.cpu().double()


def _least_squares(output: Tensor, noise: Tensor, picture: Tensor) -> tuple[tuple[float, float], float]:
    """The weights of noise and picture in an output, and the share of it that they explain."""
    basis = torch.stack([noise.flatten(), picture.flatten()], 1)
    gram, moments = basis.T @ basis, basis.T @ output.flatten()
    weights = torch.linalg.solve(gram.cpu() + 1e-12 * torch.eye(2, dtype=torch.float64), moments.cpu())
    rest = output.flatten() - basis @ weights.to(basis)
    explained = 1 - float(rest.square().sum() / output.square().sum().clamp_min(1e-30))
    return (float(weights[0]), float(weights[1])), explained


def _weights_of(prediction_type: str, level: Level) -> tuple[float, float]:
    """The weights of epsilon and x_0 in an output, from the weights of sample and output in x_0."""
    x0, _ = prediction_weights(prediction_type, Level(max(level.alpha, _SMALLEST_ALPHA), level.sigma))
    x, m = float(x0.x), float(x0.m)
    return -x * level.sigma / m, (1 - x * level.alpha) / m


def _decide(
    level: Level, weights: tuple[float, float], explained: float, last: Level, at_last: float
) -> tuple[str | None, str]:
    """The kind that was measured, or None and why not."""
    away = {kind: math.dist(_weights_of(kind, level), weights) for kind in PREDICTIONS}
    kind, second = sorted(away, key=away.__getitem__)[:2]
    if explained < EXPLAINED:
        return None, f"only {explained:.0%} of the output for flat pictures is noise and picture"
    if away[kind] > NEAR or away[second] < away[kind] + NEARER_BY:
        return None, f"the output for flat pictures is between {kind} and {second}"
    expected = _weights_of(kind, last)[0]
    if abs(at_last - expected) > NEAR_AT_LAST:
        return None, (
            f"for flat pictures the output is that of {kind}, but for pure noise it holds {at_last:.2f} of the noise "
            f"instead of {expected:.2f}"
        )
    return kind, ""
